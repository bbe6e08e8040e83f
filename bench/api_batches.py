"""How long the monitoring batches of one deployment among many take to list: a real Postgres, asked in-process.

Run by hand: `python -m bench.api_batches`. Every kind of question is asked in turn, so that each meets the same state
of the machine. `of it Postgres` is processor time, which a machine that is busy otherwise does not change.
"""

import argparse
import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import asyncpg
import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.adapters.postgres.migrate import migrate
from service.api.app import create_app
from service.bootstrap_api import open_api_deps, spare_what_stays
from service.config import settings_from_environment
from service.devstack.postgres import open_postgres
from service.logs import configure_logging
from service.usecases.access import DEFAULT_ORGANISATION, Scope, create_token, create_user

_TASKS: Final = 4
_DEPLOYMENTS: Final = """
INSERT INTO deployments (id, label, origin, target_type, current_model_id, batch_enabled)
SELECT 'd' || i, 'Deployment ' || i, 'registered', 'Regression', 'm0', true FROM generate_series(1, $1::int) i
"""
_BATCHES: Final = """
INSERT INTO monitoring_batches (deployment_id, id, name, origin, created_at)
SELECT 'd' || d, 'd' || d || 'b' || b, 'Batch ' || b, 'api', now() - b * interval '1 hour'
  FROM generate_series(1, $1::int) d, generate_series(1, CASE WHEN d = 1 THEN $2::int ELSE 2 END) b
"""
_CELLS: Final = """
INSERT INTO prediction_cells
SELECT t, b.deployment_id, 'm' || m, b.id, '2026-01-01T00:00Z'::timestamptz + h * interval '1 hour', '', 100,
       '2026-01-01T00:01Z'::timestamptz + h * interval '1 hour',
       '2026-01-01T00:59Z'::timestamptz + h * interval '1 hour', NULL, '{100,90,3,0,0,1}',
       ARRAY(SELECT (random() * 9)::bigint + 0 * h FROM generate_series(1, 240))
  FROM monitoring_batches b, generate_series(0, $1::int - 1) h, generate_series(0, 1) m, generate_series(0, 3) t
 WHERE b.deployment_id = 'd1' OR h < 4
 ORDER BY h, b.deployment_id, b.id, t
"""
"""Hour by hour, as a stream writes them: the cells of a batch lie far apart. 240 feature slots each."""


async def _fill(dsn: str, deployments: int, batches: int, hours: int) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_DEPLOYMENTS, deployments)
        await connection.execute(_BATCHES, deployments, batches)
        await connection.execute(_CELLS, hours)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


@asynccontextmanager
async def _client(dsn: str) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        deps = await open_api_deps(settings_from_environment({"HINDSIGHT_POSTGRES__DSN": dsn}), stack)
        now, name = deps.clock.now(), f"bench-{secrets.token_hex(4)}"
        await create_user(deps.access, name, full_name=None, organisation=DEFAULT_ORGANISATION, now=now)
        made = await create_token(deps.access, name, scope=Scope.READ, deployments=None, expires_at=None, now=now)
        transport = httpx.ASGITransport(create_app(deps, version="0"))
        headers = {"Authorization": f"Bearer {made.token}"}
        spare_what_stays()
        yield await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://bench/api/v2", headers=headers)
        )


def _questions(batches: int) -> dict[str, str]:
    listed = "/deployments/d1/monitoringBatches/"
    return {
        "first page (100), newest first": listed,
        "20 by name": f"{listed}?orderBy=name&limit=20",
        "20 that are searched for": f"{listed}?search=BATCH%201&limit=20",
        f"all {batches}": f"{listed}?limit=1000",
        "20, latest prediction first": f"{listed}?orderBy=-latestPredictionTimestamp&limit=20",
        "100 that end before": f"{listed}?endBefore=2026-02-01T00:00:00Z",
        "one batch": f"{listed}d1b7/",
        "models of one batch": f"{listed}d1b7/models/",
        "limits": "/deployments/d1/monitoringBatchLimits/",
    }


@dataclass
class Times:
    """Of the answers to one question, in milliseconds."""

    wall: list[float] = field(default_factory=list)
    postgres: float = 0.0

    def share(self, share: float) -> float:
        ordered = sorted(self.wall)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _busy_ms(pids: list[int]) -> float:
    """Processor time that these processes have used up."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) * 1_000 / os.sysconf("SC_CLK_TCK")


async def _sessions(dsn: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    try:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hindsight-api'"
        return [row["pid"] for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def measure(directory: Path, deployments: int, batches: int, hours: int, rounds: int) -> dict[str, Times]:
    """By question; ten rounds more are left out, in which plans and buffers settle."""
    questions = _questions(batches)
    found = {name: Times() for name in questions}
    async with open_postgres(directory / "postgres", say=lambda line: Console(stderr=True).print(line)) as server:
        await migrate(server.dsn)
        await _fill(server.dsn, deployments, batches, hours)
        async with _client(server.dsn) as client:
            for number in track(range(rounds + 10), description="rounds", console=Console(stderr=True)):
                for name, path in questions.items():
                    pids = await _sessions(server.dsn)
                    busy, began = _busy_ms(pids), perf_counter()
                    (await client.get(path)).raise_for_status()
                    if number >= 10:
                        found[name].wall.append((perf_counter() - began) * 1_000)
                        found[name].postgres += (_busy_ms(pids) - busy) / rounds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.api_batches", description=__doc__)
    parser.add_argument("--deployments", type=int, default=1_000)
    parser.add_argument("--batches", type=int, default=200, help="of the deployment that is asked for")
    parser.add_argument("--hours", type=int, default=38, help=f"of each batch: times 2 models, times {_TASKS} tasks")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    configure_logging("WARNING", "text")
    with TemporaryDirectory(prefix="hindsight-bench-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        found = asyncio.run(
            measure(directory, arguments.deployments, arguments.batches, arguments.hours, arguments.rounds)
        )
    cells = arguments.hours * 2 * _TASKS
    table = Table(title=f"{arguments.batches} batches of {cells} cells among {arguments.deployments:,} deployments, ms")
    for column in ("question", "p50", "p95", "p99", "most", "of it Postgres"):
        table.add_column(column, justify="left" if column == "question" else "right")
    for name, times in found.items():
        shares = [times.share(share) for share in (0.5, 0.95, 0.99, 1)]
        table.add_row(name, *(f"{value:.1f}" for value in (*shares, times.postgres)))
    Console().print(table)


if __name__ == "__main__":
    main()
