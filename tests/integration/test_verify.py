"""`hindsight verify` as a process, over real topics and a real database that a worker has filled."""

import asyncio
import io
import json
from dataclasses import replace
from time import monotonic
from typing import Any

import asyncpg
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import open_pool
from service.domain.records import Topic
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import parse_description
from tests.integration.rows import traffic
from tests.integration.worker import DEPLOYMENT, Event, Said, Site, tell

DESCRIPTION = f"""{DEPLOYMENT}
features: [{{name: origin, type: categorical}}, {{name: distance, type: numeric}}]
baseline: {{file: baseline.csv, kind: training}}
"""
TABLES = (
    "deployments", "models", "baselines", "monitoring_batches", "deletions", "outbox", "ledger_identity", "ledger",
    "outbox_slots", "clocks", "submission_counts", "prediction_cells", "accuracy_cells",
)  # fmt: skip
Backup = dict[str, bytes]


async def verify(site: Site, *arguments: str, **changed: str) -> Said:
    started = monotonic()
    said = await site.said("verify", *arguments, **changed)
    tell(f"verify {' '.join(arguments)}: {monotonic() - started:.1f} s")
    return said


async def equal(site: Site, *arguments: str, **changed: str) -> dict[str, Any]:
    code, out, err = await verify(site, "--json", *arguments, **changed)
    assert code == 0, out + err
    told: dict[str, Any] = json.loads(out)
    assert told["equal"]
    return told


def notes(told: dict[str, Any]) -> str:
    return "\n".join(note for task in told["tasks"] for note in task["unchecked"])


async def describe(site: Site, pool: asyncpg.Pool) -> None:
    """With features, whose bins are there for so long that every worker knows them."""
    (site.directory / "baseline.csv").write_text("origin,distance\nEWR,200\nEWR,900\nJFK,1400\nLGA,\n")
    await apply(PostgresDeployments(pool), parse_description(DESCRIPTION), site.directory)
    await pool.execute("UPDATE baselines SET created_at = created_at - interval '1 hour'")


def events(rows: int, seed: int, site: Site) -> list[Event]:
    """Traffic, a part of which comes to foreign partitions, and some of which is refused."""
    given = list(traffic(rows, seed=seed, prefix=f"s{seed}-").events)
    for number, event in enumerate(given):
        key = event.key or b""
        if key.endswith(b"7"):  # all of a row, since what travels has no order with the others
            given[number] = event._replace(partition=(site.home(key) + 1) % site.partitions)
    return [*given, Event("predictions", b"bad", b'{"deploymentId":"flights","associationId":"bad"}')]


async def test_what_is_right_and_what_is_not(site: Site, admin: AIOKafkaAdminClient) -> None:
    await describe(site, site.pool)
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        await site.produce(events(300, 1, site))
        await asyncio.gather(
            equal(site), site.produce([one for seed in range(2, 5) for one in events(200, seed, site)])
        )  # while the worker counts
        await site.processed(worker)
        assert await worker.terminate() == 0

    told = await equal(site)
    assert sum(task["statuses"] for task in told["tasks"]) == len(await site.statuses())
    cells = await site.pool.fetchval(
        "SELECT (SELECT count(*) FROM prediction_cells WHERE model_id <> '') + (SELECT count(*) FROM accuracy_cells)"
    )
    assert sum(task["cells"] for task in told["tasks"]) == cells
    assert "features" not in notes(told), "every record is still there"
    (later,) = (await equal(site, "--since", "2026-01-01T01:00Z", "--partition", "2"))["tasks"]
    assert 0 < later["cells"] < told["tasks"][2]["cells"]

    good = await backup(site)
    one = "ctid = (SELECT max(ctid) FROM prediction_cells WHERE predictions > 0)"
    await site.pool.execute(f"UPDATE prediction_cells SET predictions = predictions + 1 WHERE {one}")
    code, out, _ = await verify(site, "--deployment", "flights")
    assert code == 1 and "predictions" in out and "1 differences, 0 faults" in out
    await restore(site, good)
    await equal(site)
    await site.pool.execute("UPDATE accuracy_cells SET log_loss_sum = log_loss_sum + 0.000001 WHERE task = 1")
    code, out, _ = await verify(site, "--json", "--partition", "1")
    found = json.loads(out)["tasks"][0]["differences"]
    assert code == 1 and {one["figure"] for one in found} == {"sum of log loss"}
    assert (await verify(site, "--partition", "0"))[0] == 0
    await restore(site, good)

    predictions = TopicPartition(site.name(Topic.PREDICTIONS), 1)
    await admin.delete_records({predictions: RecordsToDelete(before_offset=40)})
    told = await equal(site)
    assert "their records are gone from the input topic" in notes(told)

    statuses = TopicPartition(site.name(Topic.STATUS), 1)
    await admin.delete_records({statuses: RecordsToDelete(before_offset=60)})
    code, out, _ = await verify(site)
    assert code == 0 and "not checked, task 1: the status topic begins after seq" in out
    assert out.splitlines()[-1].endswith("equal as far as could be checked")
    await site.pool.execute("UPDATE prediction_cells SET outcomes[1] = 0 WHERE task = 1 AND predictions > 0")
    code, out, _ = await verify(site)
    assert code == 1 and "at least" in out and "ACCEPTED" in out


async def test_after_kills(site: Site) -> None:
    """Nobody runs, a transaction may be open, a version may wait in its slot: what is committed is still verified."""
    await describe(site, site.pool)
    for seed in (3, 4):
        await site.produce(events(2_000, seed, site))
        before = sum(sum(task.values()) for task in (await site.positions()).values())
        async with site.worker() as worker:
            await site.progressed(worker, before + 1_500)
            await worker.kill()
        told = await equal(site)
        tell(f"{sum(task['statuses'] for task in told['tasks'])} statuses; {notes(told)}")
    async with site.worker() as worker:
        await site.processed(worker)
        assert await worker.terminate() == 0
    await equal(site)


async def test_what_can_not_be_done(site: Site) -> None:
    code, out, err = await verify(site)
    assert (code, out) == (2, "") and "no worker has ever started on this database" in err
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        assert await worker.terminate() == 0
    await equal(site)
    for arguments, said in (
        (("--partition", "4"), "partition: the status topic has partitions 0 to 3"),
        (("--deployment", "rain"), "deployment: there is no deployment 'rain'"),
    ):
        code, out, err = await verify(site, *arguments)
        assert (code, out) == (2, "") and said in err
    for changed, said in (
        ({"KAFKA__GROUP_ID": "other"}, "belongs to consumer group"),
        ({"KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "error: Kafka: "),
        ({"POSTGRES__DSN": "postgresql://a:b@127.0.0.1:1/c"}, "error: Postgres: "),
    ):
        code, out, err = await verify(site, **changed)
        assert (code, out) == (2, "") and said in err


# ------------------------------------------------------------------------------------ an older backup


async def backup(site: Site) -> Backup:
    """Every row of the database, of one instant."""
    saved: Backup = {}
    async with site.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        for table in TABLES:
            into = io.BytesIO()
            await connection.copy_from_table(table, output=into, format="binary")
            saved[table] = into.getvalue()
    return saved


async def restore(site: Site, saved: Backup) -> None:
    async with site.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
        for table in TABLES:
            await connection.copy_to_table(table, source=io.BytesIO(saved[table]), format="binary")


async def figures(pool: asyncpg.Pool) -> list[Any]:
    """What must not depend on which database has counted."""
    traffic_rows = await pool.fetch(
        "SELECT task, c.model_id, b.name, hour, predictions, first_at, last_at, feature_counts FROM prediction_cells c "
        "JOIN monitoring_batches b ON b.id = c.batch_id ORDER BY 1, 2, 3, 4"
    )
    accuracy_rows = await pool.fetch(
        "SELECT task, model_id, b.name, hour, label_day, matched, log_loss_sum FROM accuracy_cells c "
        "JOIN monitoring_batches b ON b.id = c.batch_id WHERE matched > 0 ORDER BY 1, 2, 3, 4, 5"
    )
    return [*map(tuple, traffic_rows), *map(tuple, accuracy_rows)]


async def test_a_database_from_an_older_backup(site: Site, admin: AIOKafkaAdminClient, second_database: str) -> None:
    await describe(site, site.pool)
    async with site.worker() as worker:
        await site.produce(events(200, 7, site))
        await site.processed(worker)
        older = await backup(site)
        await site.produce(events(200, 8, site))
        await site.processed(worker)
        assert await worker.terminate() == 0
    newest, expected = await backup(site), await figures(site.pool)

    await restore(site, older)
    assert "the ledger stands at" in await site.refused()
    code, out, _ = await verify(site)
    assert code == 1 and out.count("the database was restored from an older copy") == site.partitions
    assert "0 differences, 4 faults" in out, "as of its version it is right"

    # the way out that loses nothing: a copy that has the last commit
    await restore(site, newest)
    await equal(site)
    async with site.worker() as worker:
        await site.produce([Event("predictions", b"later", b'{"deploymentId":"flights","associationId":"later"}')])
        await site.processed(worker)
        assert await worker.terminate() == 0
    await equal(site)

    # without one: from the beginning of the input topics
    await restore(site, older)
    await site.recreate(admin, Topic.STATUS)
    await migrate(second_database)
    async with open_pool(second_database, size=2, application_name="hindsight-test") as pool:
        anew = replace(site, dsn=second_database, pool=pool, environment={"KAFKA__GROUP_ID": f"{site.prefix}-2"})
        await describe(anew, pool)
        async with anew.worker() as worker:
            await worker.ready(tasks=4)

            async def counted() -> bool:
                return await figures(pool) == expected

            await worker.until(counted, what="the same figures")
            assert await worker.terminate() == 0
        await equal(anew)
