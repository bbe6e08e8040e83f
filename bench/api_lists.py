"""How long lists of the API take over many deployments: a database of its own, the application in-process.

`python -m bench.api_lists`: 1,000 deployments with 200 monitoring batches and some hundred cells each.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import asyncpg
import httpx

from service.adapters.postgres.migrate import migrate
from service.api.app import create_app
from service.bootstrap_api import open_api_deps, spare_what_stays
from service.config import settings_from_environment
from service.devstack.postgres import open_postgres
from service.logs import configure_logging
from service.usecases.access import Scope, create_token, create_user

WARM = 3
BASE = "http://bench.example/api/v2"
LISTS = {
    "deployments, default page": "/deployments/",
    "deployments, page of 1,000": "/deployments/?limit=1000",
    "deployments, tenth page": "/deployments/?offset=900",
    "deployments, search": "/deployments/?search=label%2077",
    "deployments, by label": "/deployments/?orderBy=-label",
    "deployments, by modelHealth": "/deployments/?orderBy=modelHealth",
    "deployments, by accuracyHealth": "/deployments/?orderBy=accuracyHealth",
    "one deployment": "/deployments/d7/",
}
FILL = (
    "INSERT INTO deployments (id, label, description, origin, target_type, current_model_id, association_columns,"
    " batch_enabled, created_at)"
    " SELECT 'd' || i, 'label ' || i, repeat('words ', 20), 'registered', 'Regression', 'm', '{a}', true,"
    " now() - i * interval '1 minute' FROM generate_series(1, $1::integer) i",
    "INSERT INTO models (deployment_id, id, name) SELECT id, 'm', 'm' FROM deployments WHERE $1::integer > 0",
    "INSERT INTO clocks (task, deployment_id, predictions_received, actuals_received)"
    " SELECT t, 'd' || i, 100, 100 FROM generate_series(1, $1::integer) i, generate_series(0, 3) t",
    "INSERT INTO monitoring_batches (deployment_id, id, name, origin, deleted_at)"
    " SELECT 'd' || i, 'b' || b, 'batch ' || b, 'api', CASE WHEN b % 50 = 0 THEN now() END"
    " FROM generate_series(1, $1::integer) i, generate_series(1, 200) b",
)
CELLS = (
    "INSERT INTO prediction_cells SELECT c % 4, 'd' || i, 'm', 'b' || (1 + c / 4 % 200),"
    " date_trunc('hour', now()) - (c / 4) * interval '1 hour', '', 10, now() - (c / 4) * interval '1 hour',"
    " now() - (c / 4) * interval '1 hour', NULL, '{5,5}', array_fill(1, ARRAY[240])"
    " FROM generate_series(1, $1::integer) i, generate_series(0, $2::integer - 1) c"
)


@dataclass(frozen=True, slots=True)
class Figures:
    name: str
    bytes: int
    cpu_ms: float
    """Of this process, client and application, for one request."""
    least_ms: float
    median_ms: float
    p99_ms: float


@contextmanager
def _open_directory() -> Iterator[Path]:
    """Open for passing through, so that Postgres may run as another user than root."""
    with TemporaryDirectory(prefix="hindsight-bench-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


@asynccontextmanager
async def filled(deployments: int, cells: int) -> AsyncIterator[str]:
    """DSN of a database with so many deployments, and cells of each."""
    with _open_directory() as directory:
        async with open_postgres(directory / "postgres", say=lambda line: print(line, file=sys.stderr)) as postgres:
            await migrate(postgres.dsn)
            connection = await asyncpg.connect(postgres.dsn)
            for statement in FILL:
                await connection.execute(statement, deployments)
            await connection.execute(CELLS, deployments, cells)
            await connection.execute("VACUUM ANALYZE")
            await connection.close()
            yield postgres.dsn


async def measure(dsn: str, rounds: int) -> list[Figures]:
    settings = settings_from_environment({"HINDSIGHT_POSTGRES__DSN": dsn})
    configure_logging("ERROR", settings.log.format)
    async with AsyncExitStack() as stack:
        deps = await open_api_deps(settings, stack)
        now = deps.clock.now()
        await create_user(deps.access, "bench", full_name=None, organisation="default", now=now)
        made = await create_token(deps.access, "bench", scope=Scope.READ, deployments=None, expires_at=None, now=now)
        transport = httpx.ASGITransport(create_app(deps, version="0"))
        headers = {"Authorization": f"Bearer {made.token}"}
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers))
        spare_what_stays()
        return [await _measured(client, name, path, rounds) for name, path in LISTS.items()]


async def _measured(client: httpx.AsyncClient, name: str, path: str, rounds: int) -> Figures:
    took, size, used = [], 0, 0.0
    for place in range(rounds + WARM):
        used = process_time() if place == WARM else used
        began = perf_counter()
        answer = await client.get(path)
        took.append((perf_counter() - began) * 1_000)
        answer.raise_for_status()
        size = len(answer.content)
    cpu = (process_time() - used) * 1_000 / rounds
    of_these = sorted(took[WARM:])
    return Figures(name, size, cpu, of_these[0], statistics.median(of_these), of_these[int(len(of_these) * 0.99)])


async def _main(deployments: int, cells: int, rounds: int) -> None:
    async with filled(deployments, cells) as dsn:
        for one in await measure(dsn, rounds):
            times = (
                f"cpu {one.cpu_ms:7.1f}  least {one.least_ms:7.1f}  median {one.median_ms:7.1f}  p99 {one.p99_ms:7.1f}"
            )
            print(f"{one.name:32} {one.bytes:10,} bytes  ms: {times}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.api_lists", description=__doc__)
    parser.add_argument("--deployments", type=int, default=1_000)
    parser.add_argument("--cells", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.deployments, arguments.cells, arguments.rounds))


if __name__ == "__main__":
    main()
