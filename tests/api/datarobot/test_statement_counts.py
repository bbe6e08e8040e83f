"""A list costs as many statements however long it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from tests.api.datarobot.conftest import Api, register


@contextmanager
def counting(pool: asyncpg.Pool) -> Iterator[list[str]]:
    """The statements that the sessions of the pool run meanwhile."""
    seen: list[str] = []

    def note(record: Any) -> None:
        if "pg_advisory_unlock_all" not in record.query:  # what the pool says when it takes a session back
            seen.append(record.query)

    sessions = [holder._con for holder in pool._holders if holder._con is not None]
    for session in sessions:
        session.add_query_logger(note)
    yield seen
    for session in sessions:
        session.remove_query_logger(note)


@pytest.mark.parametrize(
    "path", ["/deployments/", "/deployments/?search=d&orderBy=label", "/deployments/d-0/monitoringBatches/",
             "/deployments/d-0/monitoringBatches/?orderBy=-latestPredictionTimestamp&search=Batch"]
)  # fmt: skip
async def test_a_list_costs_as_many_statements_however_long_it_is(
    api: Api, client: httpx.AsyncClient, path: str
) -> None:
    async def statements() -> int:
        with counting(api.deps.access._pool) as seen:  # type: ignore[attr-defined]
            assert (await client.get(path)).status_code == 200
        return len(seen)

    await register(client, "d-0", batchMonitoring={"enabled": True})
    await client.post("/deployments/d-0/monitoringBatches/")
    short = await statements()
    assert 1 < short < 6
    for number in range(1, 30):
        await register(client, f"d-{number}", batchMonitoring={"enabled": True})
        await client.post("/deployments/d-0/monitoringBatches/")
    assert await statements() == short
