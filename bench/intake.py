"""`make bench-intake`: requests with 10,000 actuals each, over loopback, to an API process as an operator runs it; then
polls of a status, and both at once."""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import httpx
import orjson
from rich.console import Console
from rich.table import Table

from bench.sites import bench_site
from service.adapters.clock import SystemClock
from service.adapters.postgres.access import PostgresAccess
from service.devstack.processes import Command, start_child
from service.usecases.access import Scope, create_token, create_user
from tests.integration.worker import Site, until

ROWS = 10_000
PATH = "/api/v2/deployments/flights/actuals/fromJSON/"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one load."""

    name: str
    per_s: float
    unit: str
    p50_ms: float
    p99_ms: float

    def cells(self) -> tuple[str, ...]:
        return self.name, f"{self.per_s:,.0f} {self.unit}/s", f"{self.p50_ms:,.1f} ms", f"{self.p99_ms:,.1f} ms"


async def load(
    name: str, ask: Callable[[int], Awaitable[None]], *, requests: int, at_once: int, each: int = 1, unit: str
) -> Figures:
    """`requests` calls of `ask`, so many at once, each worth `each` units."""
    numbers, times = iter(range(requests)), list[float]()

    async def one_after_the_other() -> None:
        for number in numbers:
            began = perf_counter()
            await ask(number)
            times.append(perf_counter() - began)

    began = perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    took = perf_counter() - began
    times.sort()
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.99))]
    return Figures(name, requests * each / took, unit, 1e3 * p50, 1e3 * p99)


def body(number: int) -> bytes:
    rows = [
        {
            "associationId": f"order-{number}-{row}",
            "actualValue": "late" if row % 3 else "on_time",
            "wasActedOn": True,
            "timestamp": "2026-01-01T13:30:00Z",
        }
        for row in range(ROWS)
    ]
    return orjson.dumps({"data": rows})


async def measure(client: httpx.AsyncClient, *, requests: int, at_once: int, polls: int) -> list[Figures]:
    bodies, tasks = [body(number) for number in range(requests)], list[str]()

    async def post(number: int) -> None:
        answer = await client.post(PATH, content=bodies[number], headers=JSON)
        assert answer.status_code == 202, answer.text
        tasks.append(answer.json()["statusId"])

    async def poll(number: int) -> None:
        answer = await client.get(f"/api/v2/status/{tasks[number % len(tasks)]}/")
        assert answer.status_code == 200, answer.text

    await post(0)
    found = [
        await load("actuals, one at once", post, requests=requests, at_once=1, each=ROWS, unit="rows"),
        await load(f"actuals, {at_once} at once", post, requests=requests, at_once=at_once, each=ROWS, unit="rows"),
        await load("getStatus, 16 at once", poll, requests=polls, at_once=16, unit="requests"),
    ]
    both = await asyncio.gather(
        load("actuals beside reads", post, requests=requests, at_once=1, each=ROWS, unit="rows"),
        load("getStatus beside actuals", poll, requests=polls, at_once=4, unit="requests"),
    )
    return [*found, *both]


@asynccontextmanager
async def api(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    """A process of its own, and a client that may write."""
    access, now = PostgresAccess(site.pool), SystemClock().now()
    await create_user(access, "bench", full_name=None, organisation="default", now=now)
    made = await create_token(access, "bench", scope=Scope.WRITE, deployments=None, expires_at=None, now=now)
    log = site.directory / "api.log"
    settings = site.settings(API__PORT="0", API__ROWS_PER_HOUR="1000000000")
    child = await start_child(Command(argv=(sys.executable, "-m", "service", "api"), environment=settings), output=log)
    try:
        address = await _address(log)
        headers = {"Authorization": f"Bearer {made.token}"}
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=60) as client:
            yield client
    finally:
        await child.kill()


async def _address(log: Path) -> str:
    found: dict[str, int] = {}

    async def up() -> bool:
        for line in _lines(log):
            if line.startswith("{") and line.endswith("}"):
                event = json.loads(line)
                found[event["event"]] = event.get("port", 0)
        return {"api is up", "rows are taken"} <= found.keys()

    await until(up, what="an API that takes rows")
    return f"http://127.0.0.1:{found['api is up']}"


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


async def run(requests: int, at_once: int, polls: int) -> list[Figures]:
    async with bench_site() as site:
        await site.pool.execute("UPDATE deployments SET association_columns = '{id}'")
        async with api(site) as client:
            return await measure(client, requests=requests, at_once=at_once, polls=polls)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-intake", description=__doc__)
    parser.add_argument("--requests", type=int, default=50, help=f"of {ROWS:,} rows")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--polls", type=int, default=2_000)
    arguments = parser.parse_args()
    table = Table(title=f"one API process, {ROWS:,} rows a request")
    for column in ("load", "figure", "median", "p99"):
        table.add_column(column)
    for figures in asyncio.run(run(arguments.requests, arguments.at_once, arguments.polls)):
        table.add_row(*figures.cells())
    Console().print(table)


if __name__ == "__main__":
    main()
