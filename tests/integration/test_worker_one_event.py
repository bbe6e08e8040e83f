"""One event's way through a worker, its probes and its end; and how long a lone event takes."""

import asyncio
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.domain.records import INPUT_TOPICS
from tests.builders import actual, prediction
from tests.integration.worker import Event, Place, Site, tell, until

KEY = b"UA1545-EWR-2026-01-01"
TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRIES = 100


async def test_one_events_way(site: Site) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        (predicted,) = await site.produce([Event("predictions", KEY, prediction(), [("traceparent", TRACE)])])
        await site.processed(worker)
        (acted,) = await site.produce([Event("actuals", KEY, actual())])
        await site.processed(worker)

        accepted, matched = await site.statuses()
        home = site.home(KEY)
        assert accepted.key == matched.key == b"flights/" + KEY
        assert accepted.partition == matched.partition == predicted.partition == home
        assert (accepted.json["status"], accepted.json["revision"], accepted.json["seq"]) == ("ACCEPTED", 1, 0)
        assert (matched.json["status"], matched.json["revision"], matched.json["seq"]) == ("MATCHED", 2, 1)
        assert Place(**accepted.json["source"]) == predicted
        assert Place(**matched.json["source"]) == acted
        assert matched.json["actual"] == "late"
        assert matched.json["prediction"] == {"late": 0.83, "on_time": 0.17}
        assert accepted.header["traceparent"] == TRACE
        assert "traceparent" not in matched.header
        assert accepted.header["hindsight-source"] == "/".join(map(str, predicted)).encode()
        # the event of the new monitoring batch may take a version of its own, where its home is this task too
        versions = [int(status.header["hindsight-version"]) for status in (accepted, matched)]
        assert versions[0] == 1 and versions[1] in (2, 3)
        assert accepted.header["hindsight-state"] != matched.header["hindsight-state"] != b""
        assert abs(accepted.timestamp_ms - time.time_ns() // 1_000_000) < 60_000

        async def settled() -> bool:
            return (await site.published()).get(home, 0) >= versions[1]

        await until(settled, what="the positions that were left")
        committed = await site.committed()
        for role in INPUT_TOPICS:
            found = committed[TopicPartition(site.name(role), home)]
            assert found.offset == (0 if role == "rekey" else 1)
            assert found.metadata in [f"version={version}" for version in (versions[1], versions[1] + 1)]
        assert len({committed[TopicPartition(site.name(role), home)].metadata for role in INPUT_TOPICS}) == 1

        batch = matched.json["batchId"]
        cell = await site.pool.fetchrow("SELECT * FROM prediction_cells")
        assert (cell["task"], cell["batch_id"], cell["predictions"]) == (home, batch, 1)
        assert cell["hour"] == datetime(2026, 1, 1, 10, tzinfo=UTC)
        accuracy = await site.pool.fetchrow("SELECT * FROM accuracy_cells")
        assert (accuracy["batch_id"], accuracy["matched"]) == (batch, 1)
        assert (accuracy["confusion_pairs"], accuracy["confusion_counts"]) == ([1025], [1])
        assert math.isclose(accuracy["log_loss_sum"], -math.log(0.83))

        (event,) = await site.read("batches")
        assert (event.key, event.json["event"]) == (f"flights/{batch}".encode(), "CREATED")


async def test_probes_metrics_and_the_end(site: Site) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        await site.produce([Event("predictions", KEY, prediction()), Event("actuals", KEY, actual())])
        await site.processed(worker)
        for probe in ("livez", "readyz", "startupz"):
            status, detail = await worker.probe(probe)
            assert status == 200, (probe, detail)

        async def audited() -> bool:
            figures = await worker.metrics()
            return (
                figures.get(f'audited_version{{task="{site.home(KEY)}"}}') == (await site.published())[site.home(KEY)]
            )

        await worker.until(audited, what="an audit")
        figures = await worker.metrics()
        assert figures['records_total{topic="predictions"}'] == figures['records_total{topic="actuals"}'] == 1
        assert figures["event_to_status_seconds_count"] == 2
        assert all(value == 0 for name, value in figures.items() if name.startswith("conservation_error{"))
        assert all(value == 0 for name, value in figures.items() if name.startswith("consumer_lag_records{"))
        assert figures["tasks_owned"] == 4
        assert figures["database_up"] == 1

        assert await worker.terminate() == 0
        assert "Traceback" not in worker.text()


async def test_probes_are_answered_to_the_end(site: Site) -> None:
    """Once it drains a worker is not ready, and says so, while what it was connected to closes."""
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        ending = asyncio.create_task(worker.terminate())
        answers = []
        while not ending.done():
            answers.append(await worker.probe("readyz"))
        assert ending.result() == 0
        assert {status for status, _ in answers} <= {200, 503, 0}
        assert (503, {"stopping": True}) in answers
        assert "Traceback" not in worker.text()


async def test_lone_events_are_fast(site: Site) -> None:
    """Prints the figures; a machine that is busy with other things must not fail it."""
    async with site.worker() as worker, _following_statuses(site) as consumer:
        await worker.ready(tasks=4)
        took: list[float] = []
        for number in range(TRIES):
            name = f"lone-{number}"
            started = time.perf_counter()
            await site.produce([Event("predictions", name.encode(), prediction(name))])
            async for status in consumer:
                if status.key == f"flights/{name}".encode():
                    break
            took.append((time.perf_counter() - started) * 1000)
            await until(rested(0.05), what="rest")
        first, took = took[0], sorted(took)
        p99 = took[math.ceil(0.99 * len(took)) - 1]
        tell(f"lone event to status, ms: p50 {statistics.median(took):.1f} p99 {p99:.1f} max {took[-1]:.1f}")
        tell(f"the first {first:.1f}, the slowest {[round(one, 1) for one in took[-8:]]}")
        assert len(took) == TRIES


def _following_statuses(site: Site) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=site.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=10,
    )
    consumer.assign([TopicPartition(site.name("status"), partition) for partition in range(site.partitions)])
    return consumer


def rested(seconds: float) -> Callable[[], Awaitable[bool]]:
    """True so many seconds from now."""
    end = time.monotonic() + seconds

    async def is_over() -> bool:
        return time.monotonic() >= end

    return is_over
