"""Deployments, batches and figures as the use cases see them, on a real Postgres."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
import yaml

from service.adapters.postgres.catalog import PostgresCatalog
from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.monitoring_batches import PostgresMonitoringBatches
from service.adapters.postgres.pool import open_pool
from service.adapters.postgres.statistics import PostgresStatistics
from service.domain.deployment import BatchPolicy, JoinSpec, TargetType
from service.domain.errors import Conflict, NotFound
from service.domain.ids import murmur2
from service.usecases import deployments as deployment_cases
from service.usecases import monitoring_batches as batch_cases
from service.usecases import statistics as statistics_cases
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import DeploymentDescription, parse_description
from service.usecases.deployments import VersionMoved
from service.usecases.monitoring_batches import BatchDraft
from service.usecases.statistics import Confused, Grouping

DESCRIBED: dict[str, Any] = {
    "id": "flights",
    "label": "Flights",
    "description": "late or not",
    "targetName": "arrival",
    "targetType": "Binary",
    "classNames": ["late", "on_time"],
    "threshold": 0.25,
    "model": {"id": "m1", "name": "First"},
    "features": [{"name": "origin", "type": "categorical"}, {"name": "distance", "type": "numeric"}],
    "associationIdColumns": ["flight", "date"],
    "associationIdRequired": True,
    "join": {
        "window": "P1DT2H",
        "grace": "PT0S",
        "idleTimeout": "PT1.5S",
        "latePolicy": "reject",
        "actualOrder": "arrival",
    },
    "batchMonitoring": {"enabled": True, "policy": "daily"},
    "baseline": {"file": "baseline.csv"},
}
JANUARY = datetime(2026, 1, 31, 23, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, 0, tzinfo=UTC)
WINDOW = timedelta(days=30)


def description(**changes: Any) -> DeploymentDescription:
    return parse_description(yaml.safe_dump(DESCRIBED | changes))


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    await migrate(database)
    async with open_pool(database, size=8, application_name="test") as opened:
        yield opened


@pytest.fixture
async def deployments(pool: asyncpg.Pool, tmp_path: Path) -> PostgresDeployments:
    """With `flights` in it."""
    (tmp_path / "baseline.csv").write_text("origin,distance\nEWR,1\nEWR,2\nJFK,\n")
    kept = PostgresDeployments(pool)
    await apply(kept, description(), tmp_path)
    return kept


async def outbox(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    """(batch, event) of each, in order; checks what they all have in common."""
    rows = await pool.fetch("SELECT * FROM outbox ORDER BY id")
    events = [orjson.loads(row["value"]) for row in rows]
    for row, event in zip(rows, events, strict=True):
        assert row["key"] == f"{event['deploymentId']}/{event['batchId']}".encode()
        assert row["home_hash"] == murmur2(row["key"])
        assert datetime.strptime(event["at"], "%Y-%m-%dT%H:%M:%S.%f%z").utcoffset() is not None
    return [(event["batchName"], event["event"]) for event in events]


# ------------------------------------------------------------------------------------------ deployments


async def test_everything_is_written_and_read_again(deployments: PostgresDeployments) -> None:
    shown = deployment_cases.describe(await deployment_cases.show(deployments, "flights"))

    for name in DESCRIBED.keys() - {"join", "baseline"}:
        assert shown[name] == DESCRIBED[name]
    assert shown["join"].items() >= DESCRIBED["join"].items()
    told = {
        "modelId": "m1",
        "kind": "training",
        "rows": 3,
        "method": "deciles-top",
        "version": 1,
        "from": None,
        "to": None,
    }
    assert shown["baselines"] == [told]
    assert (shown["version"], shown["origin"]) == (1, "registered")


async def test_the_pipeline_sees_the_same(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    stored = await deployment_cases.show(deployments, "flights")
    seen = (await PostgresCatalog(pool).deployments(["flights"]))["flights"]

    assert seen.join == stored.settings.join != JoinSpec()
    assert seen.class_index == {"late": 0, "on_time": 1}
    assert (seen.positive_class, seen.threshold, seen.association_required) == ("late", 0.25, True)
    assert (seen.batch_enabled, seen.batch_policy) == (True, BatchPolicy.DAILY)
    assert seen.layouts == {"m1": stored.baselines[0].counted.layout}


async def test_every_change_raises_the_version(deployments: PostgresDeployments, tmp_path: Path) -> None:
    applied = await apply(deployments, description(label="New"), tmp_path)
    assert (applied.created, applied.version) == (False, 2)
    assert [(one.label, one.version) for one in await deployments.all()] == [("New", 2)]


async def test_a_baseline_is_counted_again_into_its_bins(
    deployments: PostgresDeployments, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    before = await deployment_cases.show(deployments, "flights")
    (tmp_path / "baseline.csv").write_text("origin,distance\nLGA,1\n")
    await apply(deployments, description(), tmp_path)

    after = await deployment_cases.show(deployments, "flights")
    assert after.baselines[0].counted.layout == before.baselines[0].counted.layout
    assert (after.baselines[0].counted.rows, after.baselines[0].counted.counts[:4]) == (1, (0, 0, 1, 0))
    assert await pool.fetchval("SELECT version FROM baselines") == 2


async def test_a_deployment_of_events_can_be_registered(pool: asyncpg.Pool, tmp_path: Path) -> None:
    await PostgresCatalog(pool).create_deployment("flights", TargetType.BINARY, ["late", "on_time"], "m0")
    deployments = PostgresDeployments(pool)
    plain: dict[str, Any] = {"baseline": None, "features": []}

    applied = await apply(deployments, description(**plain), tmp_path)

    assert (applied.created, applied.version) == (False, 2)
    stored = await deployment_cases.show(deployments, "flights")
    assert stored.settings.origin == "registered" and stored.models.keys() == {"m0", "m1"}


async def test_who_computed_on_an_older_version_writes_nothing(deployments: PostgresDeployments) -> None:
    stored = await deployment_cases.show(deployments, "flights")
    for expected in (None, 0, 2):
        with pytest.raises(VersionMoved):
            await deployments.save(stored.settings, None, expected)
    assert (await deployment_cases.show(deployments, "flights")).version == 1


async def test_many_apply_at_once(deployments: PostgresDeployments, tmp_path: Path) -> None:
    applied = await asyncio.gather(*(apply(deployments, description(label=f"{i}"), tmp_path) for i in range(4)))
    assert sorted(one.version for one in applied) == [2, 3, 4, 5]


# ---------------------------------------------------------------------------------------------- batches


async def test_the_life_of_a_batch(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    batches = PostgresMonitoringBatches(pool)
    catalog = PostgresCatalog(pool)
    batch_id = (await batch_cases.create(batches, "flights", BatchDraft(name="one", description="words"))).id

    await batch_cases.lock(batches, "flights", batch_id)
    await batch_cases.lock(batches, "flights", batch_id)
    locked = (await catalog.batches([("flights", batch_id)]))["flights", batch_id]
    await batch_cases.unlock(batches, "flights", batch_id)
    await batch_cases.delete(batches, "flights", batch_id)

    assert (locked.is_locked, locked.version) == (True, 2)
    deleted = (await catalog.batches([("flights", batch_id)]))["flights", batch_id]
    assert (deleted.is_deleted, deleted.version) == (True, 4)
    assert await outbox(pool) == [("one", "CREATED"), ("one", "LOCKED"), ("one", "UNLOCKED"), ("one", "DELETED")]
    for change in (batch_cases.lock, batch_cases.unlock, batch_cases.delete):
        with pytest.raises(NotFound):
            await change(batches, "flights", batch_id)
    assert len(await outbox(pool)) == 4


async def test_deletions_are_numbered(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    batches = PostgresMonitoringBatches(pool)
    made = [(await batch_cases.create(batches, "flights", BatchDraft(name=f"b{i}"))).id for i in range(5)]
    await asyncio.gather(*(batch_cases.delete(batches, "flights", batch_id) for batch_id in made))

    rows = await pool.fetch("SELECT number, kind, batch_id FROM deletions ORDER BY number")
    assert [row["number"] for row in rows] == [1, 2, 3, 4, 5]
    assert {row["batch_id"] for row in rows} == set(made)
    seen = (await PostgresCatalog(pool).deployments(["flights"]))["flights"]
    assert (seen.last_deletion, seen.version) == (5, 6)


async def test_pages_are_oldest_first(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    batches = PostgresMonitoringBatches(pool)
    for i in range(5):
        await batch_cases.create(batches, "flights", BatchDraft(name=f"b{i}"))
    page = await batch_cases.page(batches, "flights", limit=2, offset=2)
    assert ([batch.name for batch in page.batches], page.total) == (["b2", "b3"], 5)
    with pytest.raises(NotFound):
        await batch_cases.page(batches, "other")


async def test_the_limit_is_not_for_the_pipeline(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    batches = PostgresMonitoringBatches(pool)
    await PostgresCatalog(pool).batches_named([("flights", f"p{i}") for i in range(3)], "policy")
    await batches.open("flights", BatchDraft(name="one"), author=batch_cases.SERVICE, limit=1)
    with pytest.raises(Conflict, match="has 1 monitoring batches"):
        await batches.open("flights", BatchDraft(name="two"), author=batch_cases.SERVICE, limit=1)
    with pytest.raises(NotFound):
        await batch_cases.create(batches, "other", BatchDraft(name="one"))


# ------------------------------------------------------------------------------------------- statistics


async def put_cells(pool: asyncpg.Pool, batch_id: str, hour: datetime, task: int = 0) -> None:
    """Three predictions, two of them matched, one rightly: with sums that no float holds."""
    await pool.execute(
        "INSERT INTO prediction_cells VALUES ($1, 'flights', 'm1', $2, $3, '', 3, $3, $3, $4, '{3,2}', '{1,2}')",
        task, batch_id, hour, hour + WINDOW,
    )  # fmt: skip
    await pool.execute(
        "INSERT INTO accuracy_cells VALUES"
        " ($1, 'flights', 'm1', $2, $3, '', '2026-02-02', 2, 0, 0, 0, 0, 0, 2, $4, '{0,1}', '{1,1}')",
        task, batch_id, hour, Decimal("0.100000000000000001"),
    )  # fmt: skip


async def test_figures_are_sums_over_cells(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    for task in range(3):
        await put_cells(pool, "", JANUARY, task)
    await put_cells(pool, "", FEBRUARY)

    statistics = PostgresStatistics(pool)
    (everything,) = await statistics_cases.figures(statistics, "flights")
    january, february = await statistics_cases.figures(statistics, "flights", by=Grouping.MONTH)

    assert (everything.predictions, everything.outcomes) == (12, {"ACCEPTED": 12, "MATCHED": 8})
    assert (everything.first_at, everything.last_at) == (JANUARY, FEBRUARY)
    assert everything.accuracy is not None
    assert (everything.accuracy.matched, everything.accuracy.log_loss) == (8, Decimal("0.400000000000000004"))
    assert everything.accuracy.confusion == [
        Confused(actual="late", predicted="late", rows=4),
        Confused(actual="late", predicted="on_time", rows=4),
    ]
    assert [(one.group, one.predictions) for one in (january, february)] == [("2026-01", 9), ("2026-02", 3)]


async def reach(pool: asyncpg.Pool, task: int, watermark: datetime) -> None:
    await pool.execute(
        "INSERT INTO clocks (task, deployment_id, watermark) VALUES ($1, 'flights', $2)"
        " ON CONFLICT (task, deployment_id) DO UPDATE SET watermark = excluded.watermark",
        task, round(watermark.timestamp() * 1_000_000),
    )  # fmt: skip


async def test_figures_are_final_when_every_task_has_passed_their_windows(
    deployments: PostgresDeployments, pool: asyncpg.Pool
) -> None:
    for task in range(2):
        await put_cells(pool, "", JANUARY, task)
    statistics = PostgresStatistics(pool)

    async def windows() -> dict[str, Any]:
        (figures,) = await statistics_cases.figures(statistics, "flights")
        found: dict[str, Any] = statistics_cases.describe(figures)["windows"]
        return found

    final_at = (JANUARY + WINDOW).isoformat()
    assert await windows() == {"isFinal": False, "closedShare": 0.0, "finalAt": final_at}
    await reach(pool, 0, JANUARY + WINDOW)
    await reach(pool, 1, JANUARY + WINDOW - timedelta(microseconds=1))
    assert await windows() == {"isFinal": False, "closedShare": 0.5, "finalAt": final_at}
    await reach(pool, 1, JANUARY + WINDOW)
    assert await windows() == {"isFinal": True, "closedShare": 1.0, "finalAt": final_at}
    await pool.execute("UPDATE prediction_cells SET last_due = NULL")
    assert await windows() == {"isFinal": True, "closedShare": 1.0, "finalAt": None}


async def test_figures_by_day_and_hour_and_in_a_period(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    await put_cells(pool, "", JANUARY)
    await put_cells(pool, "", FEBRUARY)
    statistics = PostgresStatistics(pool)

    async def groups(by: Grouping, **period: datetime) -> list[str]:
        return [one.group for one in await statistics_cases.figures(statistics, "flights", by=by, **period)]

    assert await groups(Grouping.DAY) == ["2026-01-31", "2026-02-01"]
    assert await groups(Grouping.HOUR) == ["2026-01-31T23:00Z", "2026-02-01T00:00Z"]
    assert await groups(Grouping.DAY, start=FEBRUARY) == ["2026-02-01"]
    assert await groups(Grouping.DAY, end=FEBRUARY) == ["2026-01-31"]
    assert await groups(Grouping.DAY, start=FEBRUARY, end=FEBRUARY) == []


async def test_a_deleted_batch_is_out_of_every_figure_at_once(
    deployments: PostgresDeployments, pool: asyncpg.Pool
) -> None:
    batches = PostgresMonitoringBatches(pool)
    kept, gone = [(await batch_cases.create(batches, "flights", BatchDraft(name=n))).id for n in ("kept", "gone")]
    for batch_id in ("", kept, gone):
        await put_cells(pool, batch_id, JANUARY)
    statistics = PostgresStatistics(pool)
    before = await statistics_cases.figures(statistics, "flights", by=Grouping.BATCH)

    await batch_cases.delete(batches, "flights", gone)

    after = await statistics_cases.figures(statistics, "flights", by=Grouping.BATCH)
    assert {one.group for one in before} == {"", kept, gone}
    assert {one.group for one in after} == {"", kept}
    (everything,) = await statistics_cases.figures(statistics, "flights")
    assert everything.predictions == 6 and everything.accuracy is not None and everything.accuracy.matched == 4
    page = await batch_cases.page(batches, "flights")
    assert [(one.name, one.predictions, one.first_at) for one in page.batches] == [("kept", 3, JANUARY)]


async def test_no_rows_and_no_deployment(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    statistics = PostgresStatistics(pool)
    assert await statistics_cases.figures(statistics, "flights") == []
    with pytest.raises(NotFound):
        await statistics_cases.figures(statistics, "other")
