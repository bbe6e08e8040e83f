"""Monitoring batches locked and deleted while events stream in."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from tests.builders import actual, prediction
from tests.integration.rows import START, assert_one_status_each
from tests.integration.worker import Event, Place, Read, Site, Worker, until


def named(name: str, batch: str) -> Event:
    said = prediction(name, {"late": 0.9, "on_time": 0.1}, at=START + timedelta(minutes=1), batchName=batch)
    return Event("predictions", name.encode(), said)


def act(name: str, value: str = "late") -> Event:
    return Event("actuals", name.encode(), actual(name, value, at=START + timedelta(hours=2)))


async def batch_id(site: Site, name: str) -> str:
    found: str = await site.pool.fetchval("SELECT id FROM monitoring_batches WHERE name = $1", name)
    return found


async def counted(site: Site, batch: str) -> int:
    query = "SELECT coalesce(sum(predictions), 0)::bigint FROM prediction_cells WHERE batch_id = $1"
    found: int = await site.pool.fetchval(query, batch)
    return found


async def matched(site: Site, batch: str) -> int:
    query = "SELECT coalesce(sum(matched), 0)::bigint FROM accuracy_cells WHERE batch_id = $1"
    found: int = await site.pool.fetchval(query, batch)
    return found


@pytest.mark.parametrize("attempt", [0, pytest.param(1, marks=pytest.mark.long)])
async def test_no_row_is_counted_after_the_lock_has_returned(site: Site, attempt: int) -> None:
    async with site.worker(PIPELINE__MAX_RECORDS="40") as worker:
        await worker.ready(tasks=4)
        places: list[Place] = []
        stopping = asyncio.Event()

        async def stream() -> None:
            while not stopping.is_set():
                start = len(places)
                places.extend(await site.produce(named(f"{attempt}-{start + i}", "live") for i in range(100)))

        streaming = asyncio.create_task(stream())
        try:
            await worker.until(lambda: _more_than(site, worker, 500), what="500 rows")
            batch = await batch_id(site, "live")
            assert f"batch {batch} is locked" in await site.run("batches", "lock", "flights", batch)
            at_lock = await counted(site, batch)
            produced = len(places)

            async def much_later() -> bool:
                return len(places) > produced + 500

            await until(much_later)
        finally:
            stopping.set()
            await streaming
        await site.processed(worker)
        assert await counted(site, batch) == at_lock
        assert "is unlocked" in await site.run("batches", "unlock", "flights", batch)
        places += await site.produce([named("after", "live")])
        await site.processed(worker)
        assert await counted(site, batch) == at_lock + 1
        told: list[Read] = []

        async def all_told() -> bool:
            told[:] = await site.read("batches")
            return len(told) >= 3

        await worker.until(all_told, what="three events of the batch")

    statuses = await site.statuses()
    assert_one_status_each(statuses, places)
    words = Counter(status.json["status"] for status in statuses)
    assert words == {"ACCEPTED": at_lock + 1, "BATCH_LOCKED": len(places) - at_lock - 1}
    letters = await site.read("dlq")
    assert {letter.header["hindsight.reason"] for letter in letters} == {b"batch_locked"}
    assert len(letters) == words["BATCH_LOCKED"]
    assert [event.json["event"] for event in told] == ["CREATED", "LOCKED", "UNLOCKED"]
    assert {event.key for event in told} == {f"flights/{batch}".encode()}


async def _more_than(site: Site, worker: Worker, rows: int) -> bool:
    return (await worker.metrics())['join_outcomes_total{outcome="ACCEPTED"}'] > rows


async def test_a_deletion_takes_exactly_its_numbers(site: Site) -> None:
    rows = 400
    async with site.worker("one") as one, site.worker("two") as two:
        await one.ready(tasks=2)
        await two.ready(tasks=2)
        events = [named(f"{batch}{i}", batch) for i in range(rows) for batch in ("gone", "kept")]
        events += [act(f"{batch}{i}") for i in range(rows // 2) for batch in ("gone", "kept")]
        places = await site.produce(events)
        await site.processed()
        gone, kept = await batch_id(site, "gone"), await batch_id(site, "kept")
        assert (await counted(site, gone), await matched(site, gone)) == (rows, rows // 2)
        tasks = await site.pool.fetchval("SELECT count(DISTINCT task) FROM prediction_cells WHERE batch_id = $1", gone)
        assert tasks == site.partitions

        assert f"batch {gone} is deleted" in await site.run("batches", "delete", "flights", gone)

        async def is_gone() -> bool:
            cells = "SELECT (SELECT count(*) FROM prediction_cells WHERE batch_id = $1)"
            return not await site.pool.fetchval(
                f"{cells} + (SELECT count(*) FROM accuracy_cells WHERE batch_id = $1)", gone
            )

        await until(is_gone, what="all cells of the batch gone")
        late = [act(f"gone{i}") for i in range(rows // 2, rows)] + [act(f"kept{i}") for i in range(rows // 2, rows)]
        late += [act("gone0", "on_time")]
        by_id = prediction("by-id", {"late": 0.9, "on_time": 0.1}, batchId=gone)
        places += await site.produce([*late, Event("predictions", b"by-id", by_id)])
        await site.processed()

        assert await is_gone()
        assert (await counted(site, kept), await matched(site, kept)) == (rows, rows)
        for worker in (one, two):
            figures = await worker.metrics()
            assert all(value == 0 for name, value in figures.items() if name.startswith("conservation_error{"))
            assert await worker.terminate() == 0

    statuses = await site.statuses()
    assert_one_status_each(statuses, places)
    last = {status.json["rowId"]: status.json for status in statuses}
    assert last["by-id"]["status"] == "BATCH_DELETED"
    assert {last[f"gone{i}"].get("reason") for i in range(rows // 2, rows)} == {"deleted"}
    assert {last[f"kept{i}"].get("reason") for i in range(rows)} == {None}
