"""`make bench-expiry`: a million rows expire in the same hour while another deployment's records stream in.

Measures the stream alone, then beside the expiry: events a second, the longest micro-batch, memory.
"""

import argparse
import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import numpy as np
from prometheus_client import CollectorRegistry

from bench.rounds import PARTITIONS, fresh_round, load, run
from service import bootstrap
from service.config import settings_from_environment
from service.devstack import DevStack, open_devstack
from service.devstack.demo.deployment import write_deployment
from service.devstack.demo.events import flights_replay
from service.devstack.demo.flights import read_flights
from service.devstack.demo.replay import ACTUAL, PREDICTION, Replay
from service.domain.ids import murmur2_many
from service.logs import configure_logging
from service.pipeline.flow import MicroBatchFlow
from service.telemetry import Telemetry

OLD = "old"


def old_events(kind: int, names: list[str], minute: int, month: int) -> Replay:
    """Events of the deployment whose rows will expire, all within one minute."""
    at = f"2012-{month:02}-01T00:{minute:02}:00Z"
    body = '"prediction":{"late":0.5,"on_time":0.5}' if kind == PREDICTION else '"actual":"late"'
    values = [
        f'{{"deploymentId":"{OLD}","associationId":"{name}","timestamp":"{at}",{body}}}'.encode() for name in names
    ]
    count = len(names)
    return Replay(
        topics=np.full(count, kind, dtype=np.int8),
        event_at_us=np.zeros(count, dtype=np.int64),
        flights=np.zeros(count, dtype=np.uint32),
        keys=[name.encode() for name in names],
        values=values,
    )


def one_of_each_task(name: str) -> list[str]:
    """Names of rows, one at home in each partition."""
    names = [f"{name}-{number}" for number in range(1000)]
    homes = (murmur2_many([name.encode() for name in names]) % PARTITIONS).tolist()
    return [names[homes.index(task)] for task in range(PARTITIONS)]


def peak_mb() -> int:
    """Of this process; `getrusage` would tell of its parent, too."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


async def eat(records: int, unmatched: int) -> dict[str, Any]:
    """In a process of its own: run the worker until it has received so many records and closed so many rows."""
    longest = 0.0
    step = MicroBatchFlow.run_once

    async def timed(self: MicroBatchFlow, *arguments: Any) -> None:
        nonlocal longest
        started = time.monotonic()
        await step(self, *arguments)
        longest = max(longest, time.monotonic() - started)

    setattr(MicroBatchFlow, "run_once", timed)  # noqa: B010
    settings = settings_from_environment()
    async with AsyncExitStack() as stack:
        supervisor, _ = await bootstrap.open_worker(settings, stack, Telemetry(CollectorRegistry()), stay=False)
        database = await asyncpg.connect(settings.postgres.dsn.get_secret_value())
        await stack.enter_async_context(bootstrap.collecting_seldom())
        running = asyncio.create_task(supervisor.run())
        while not supervisor.restored:
            await asyncio.wait([running], timeout=0.02)
        before, started = peak_mb(), time.monotonic()
        eaten = closed = None
        while eaten is None or closed is None:
            await asyncio.wait([running], timeout=0.1)
            took = time.monotonic() - started
            row = await database.fetchrow(
                "SELECT (SELECT coalesce(sum(predictions_received + actuals_received), 0) FROM clocks) AS received,"
                " (SELECT coalesce(sum(outcomes[8]), 0) FROM prediction_cells WHERE deployment_id = $1) AS unmatched",
                OLD,
            )
            eaten = took if eaten is None and row["received"] >= records else eaten
            closed = took if closed is None and row["unmatched"] >= unmatched else closed
        supervisor.stop()
        await running
        await database.close()
    return {
        "stream_s": round(eaten, 1),
        "all_closed_s": round(closed, 1),
        "longest_micro_batch_s": round(longest, 2),
        "rss_mb": peak_mb(),
        "rss_at_start_mb": before,
    }


async def one_round(stack: DevStack, number: int, rows: int, stream: Replay, deployment: Path) -> dict[str, Any]:
    servers, prefix = stack.bootstrap_servers, f"expiry-{number}"
    settings = {"PIPELINE__AUTO_CREATE_DEPLOYMENTS": "true"}
    async with fresh_round(stack, prefix, deployment, **settings) as environment:
        for kind in (PREDICTION, ACTUAL):
            await load(servers, prefix, old_events(kind, one_of_each_task("first"), 0, 1))
        await load(servers, prefix, old_events(PREDICTION, [f"row-{i}" for i in range(rows)], 1, 1))
        received = rows + 2 * PARTITIONS
        await run(["-m", "bench.expiry", "--eat", str(received), "0"], environment)
        for kind in (PREDICTION, ACTUAL) if rows else ():
            await load(servers, prefix, old_events(kind, one_of_each_task("last"), 2, 3))
        await load(servers, prefix, stream)
        received += len(stream) + (2 * PARTITIONS if rows else 0)
        printed = await run(["-m", "bench.expiry", "--eat", str(received), str(rows)], environment)
    figures: dict[str, Any] = {"rows": rows, "stream": len(stream)} | json.loads(printed.splitlines()[-1])
    return figures | {"events_per_s": round(len(stream) / figures["stream_s"])}


async def measure(rows: int, flights: int) -> list[dict[str, Any]]:
    stream = flights_replay().head(flights)
    with TemporaryDirectory(prefix="hindsight-bench-") as directory:
        deployment = write_deployment(Path(directory), read_flights())
        async with open_devstack(None, broker="kafka", say=lambda line: print(line, file=sys.stderr)) as stack:
            return [
                await one_round(stack, number, expiring, stream, deployment)
                for number, expiring in enumerate((0, rows, 0, rows))
            ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-expiry", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows that expire in the same hour")
    parser.add_argument("--flights", type=int, default=150_000, help="flights that stream in meanwhile")
    parser.add_argument("--eat", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.eat:
        configure_logging("WARNING", "text")
        sys.stdout.write(json.dumps(asyncio.run(eat(*arguments.eat))) + "\n")
        return
    for one in asyncio.run(measure(arguments.rows, arguments.flights)):
        print(json.dumps(one))


if __name__ == "__main__":
    main()
