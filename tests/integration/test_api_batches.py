"""What the API promises of monitoring batches holds while workers count: over a real Kafka and a real Postgres."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from service.api.app import create_app
from service.bootstrap_api import open_api_deps
from service.config import settings_from_environment
from service.usecases import statistics as statistics_cases
from service.usecases.statistics import Figures
from tests.api.datarobot.conftest import Api
from tests.builders import actual, prediction
from tests.integration.rows import START, assert_one_status_each
from tests.integration.worker import Event, Place, Site, until

BATCHES = "/deployments/flights/monitoringBatches/"
_AHEAD = 800
"""Rows that wait for the workers all the time, so that a lock always comes amid them."""


@pytest.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    """The application over the database of the site."""
    async with AsyncExitStack() as stack:
        deps = await open_api_deps(settings_from_environment({"HINDSIGHT_POSTGRES__DSN": site.dsn}), stack)
        yield Api(create_app(deps, version="0"), deps, site.dsn)


def row(name: str, batch: str | None = None, minute: int = 1) -> Event:
    said = prediction(name, {"late": 0.9, "on_time": 0.1}, at=START + timedelta(minutes=minute), batchId=batch)
    return Event("predictions", name.encode(), said)


def truth(name: str, value: str = "late") -> Event:
    return Event("actuals", name.encode(), actual(name, value, at=START + timedelta(hours=2)))


async def create(client: httpx.AsyncClient) -> str:
    answer = await client.post(BATCHES, json={})
    assert answer.status_code == 200, answer.text
    made: str = answer.json()["id"]
    return made


async def counted(site: Site, batch: str) -> int:
    query = "SELECT coalesce(sum(predictions), 0)::bigint FROM prediction_cells WHERE batch_id = $1"
    found: int = await site.pool.fetchval(query, batch)
    return found


class Stream:
    """Rows for one batch after the other, always some hundreds more than the workers have counted."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.batch = ""
        self.sent: Counter[str] = Counter()
        self.places: list[Place] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        sending = asyncio.create_task(self._send(stopping))
        try:
            yield
        finally:
            stopping.set()
            await sending

    async def _send(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            done = sum(sum(task.values()) for task in (await self._site.positions()).values())
            if len(self.places) - done > _AHEAD:
                await asyncio.sleep(0.01)
                continue
            batch, start = self.batch, len(self.places)
            self.places += await self._site.produce(row(f"r{start + i}", batch) for i in range(100))
            self.sent[batch] += 100


@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("tries", [10, pytest.param(100, marks=pytest.mark.long)])
async def test_check_14_a_locked_batch_takes_no_further_row_after_the_answer(site: Site, api: Api, tries: int) -> None:
    small = {"PIPELINE__MAX_RECORDS": "40"}
    at_lock: dict[str, int] = {}
    async with (
        site.worker("one", **small) as one,
        site.worker("two", **small) as two,
        api.client(await api.token()) as client,
    ):
        await one.ready(tasks=2)
        await two.ready(tasks=2)
        stream = Stream(site)
        stream.batch = await create(client)
        async with stream.running():
            for _ in range(tries):
                batch = stream.batch
                await until(partial(_has, site, batch, 100), what="a hundred rows")
                answer = await client.patch(f"{BATCHES}{batch}/", json={"isLocked": True})
                at_lock[batch] = await counted(site, batch)
                assert (answer.status_code, answer.json()["isLocked"]) == (200, True)
                assert answer.json()["predictionsCount"] == at_lock[batch] >= 100
                sent = stream.sent[batch]
                await until(partial(_more, stream, batch, sent + 200), what="rows after the lock")
                stream.batch = await create(client)
        await site.processed(within=300)
        at_end = {batch: await counted(site, batch) for batch in at_lock}
        shown = {batch: (await client.get(f"{BATCHES}{batch}/")).json()["predictionsCount"] for batch in at_lock}

    assert len(at_lock) == tries
    assert at_end == shown == at_lock
    statuses = await site.statuses()
    assert_one_status_each(statuses, stream.places)
    assert all(rows < stream.sent[batch] for batch, rows in at_lock.items()), "a lock came after all rows"
    refused = sum(stream.sent[batch] - rows for batch, rows in at_lock.items())
    words = Counter(status.json["status"] for status in statuses)
    assert words == {"ACCEPTED": len(stream.places) - refused, "BATCH_LOCKED": refused}


async def _has(site: Site, batch: str, rows: int) -> bool:
    return await counted(site, batch) >= rows


async def _more(stream: Stream, batch: str, rows: int) -> bool:
    return stream.sent[batch] >= rows


async def figures(api: Api) -> list[Figures]:
    return await statistics_cases.figures(api.deps.statistics, "flights")


def numbers(found: list[Figures]) -> list[dict[str, Any]]:
    """All but how many records came."""
    told = [statistics_cases.describe(one) for one in found]
    return [{name: value for name, value in one.items() if name != "outcomes"} for one in told]


async def test_check_15_a_deletion_through_the_api_removes_exactly_the_numbers_of_its_batch(
    site: Site, api: Api
) -> None:
    rows = 300
    async with (
        site.worker("one") as one,
        site.worker("two") as two,
        api.client(await api.token()) as client,
    ):
        await one.ready(tasks=2)
        await two.ready(tasks=2)
        kept = await create(client)
        places = await site.produce(row(f"kept{i}", kept if i % 2 else None, i % 50) for i in range(rows))
        places += await site.produce(truth(f"kept{i}", "late" if i % 3 else "on_time") for i in range(rows))
        await site.processed()
        before = await figures(api)
        gone = await create(client)
        places += await site.produce(row(f"gone{i}", gone, -600 + i) for i in range(rows))
        await site.processed()
        places += await site.produce(truth(f"gone{i}") for i in range(rows // 2))
        await site.processed()
        assert (await client.get(f"{BATCHES}{gone}/")).json()["predictionsCount"] == rows
        assert numbers(await figures(api)) != numbers(before)

        assert (await client.delete(f"{BATCHES}{gone}/")).status_code == 200

        assert await figures(api) == before, "on the first read after the answer"
        await until(lambda: _applied(site, gone), what="the deletion applied by every task")
        assert await figures(api) == before, "after every task has applied it"
        late = [truth(f"gone{i}") for i in range(rows // 2, rows)] + [truth("gone0", "on_time")]
        places += await site.produce([*late, row("by-id", gone)])
        await site.processed()
        assert numbers(await figures(api)) == numbers(before)
        assert (await client.get(f"{BATCHES}{gone}/")).status_code == 404
        listed = (await client.get(BATCHES)).json()["data"]
        assert [batch["id"] for batch in listed if batch["name"] != "2026-01-01"] == [kept]
        assert [batch["predictionsCount"] for batch in listed] == [rows // 2] * 2

    statuses = await site.statuses()
    assert_one_status_each(statuses, places)
    last = {status.json["rowId"]: status.json for status in statuses}
    assert last["by-id"]["status"] == "BATCH_DELETED"
    assert {last[f"gone{i}"].get("reason") for i in range(rows // 2, rows)} == {"deleted"}


async def _applied(site: Site, batch: str) -> bool:
    behind = (
        "SELECT count(*) FROM ledger l LEFT JOIN clocks c ON c.task = l.task AND c.deployment_id = 'flights'"
        " WHERE coalesce(c.deletions_applied, 0) < (SELECT max(number) FROM deletions WHERE batch_id = $1)"
    )
    return not await site.pool.fetchval(behind, batch)
