"""`make bench-membership`: how long the tasks of a worker stand still when it stops, dies, or comes back.

Two workers share four tasks, and records come to each of them all the time. Measured from the signal, for each task of
the worker that gets it, to the first commit under its next owner:

- `rolling`: SIGTERM to a worker with `--stay`, which is started again at once: it keeps its tasks;
- `restart`: SIGKILL, and the same instance is started again at once: it keeps its tasks;
- `lost`: SIGKILL, and the worker does not come back: the session has to pass;
- `handover`: SIGTERM, and the worker does not come back.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import NamedTuple

from bench.sites import bench_site
from service.adapters.clock import SystemClock
from service.domain.records import Topic
from tests.builders import prediction
from tests.integration.worker import Site, Worker

WAYS = ("rolling", "restart", "lost", "handover")
"""In this order: who is started after the last of them is the one that will stay."""
NAMES = ("one", "two")
_RECORD_EVERY_S = 0.02
_LOOK_EVERY_S = 0.005
_PATIENCE_S = 60.0


class Seen(NamedTuple):
    """A task's row in the ledger."""

    epoch: int
    version: int
    owner: str | None


async def look(site: Site) -> dict[int, Seen]:
    rows = await site.pool.fetch("SELECT task, epoch, version, owner_instance FROM ledger")
    return {row[0]: Seen(*row[1:]) for row in rows}


async def shared(site: Site) -> dict[int, Seen]:
    """Once each worker has half of the tasks and has committed to each of them."""
    while True:
        before = await look(site)
        if sorted(seen.owner or "" for seen in before.values()) == sorted(NAMES * (site.partitions // 2)):
            await asyncio.sleep(1.0)
            now = await look(site)
            if all(now[task].epoch == seen.epoch and now[task].version > seen.version for task, seen in before.items()):
                return now
        await asyncio.sleep(0.1)


async def committed_again(site: Site, before: Mapping[int, Seen]) -> float:
    """When the last of these tasks had its first commit under a later epoch."""
    done: set[int] = set()
    taken: dict[int, int] = {}
    while len(done) < len(before):
        now = await look(site)
        for task in before.keys() - done:
            if now[task].epoch > before[task].epoch and now[task].version > taken.setdefault(task, now[task].version):
                done.add(task)
        await asyncio.sleep(_LOOK_EVERY_S)
    return time.monotonic()


async def one(site: Site, way: str, worker: Worker, stack: AsyncExitStack) -> tuple[float, float, Worker]:
    """Seconds from the signal, and from the end of the process, to the last first commit; and the next worker `two`."""
    mine = {task: seen for task, seen in (await shared(site)).items() if seen.owner == "two"}
    signalled = time.monotonic()
    if way in ("rolling", "handover"):
        assert await worker.terminate() == 0
    else:
        await worker.kill()
    ended = time.monotonic()
    comes_back = way in ("rolling", "restart")
    arguments = ("--stay",) if way == "handover" else ()
    if comes_back:
        worker = await stack.enter_async_context(site.worker("two", *arguments))
    at = await committed_again(site, mine)
    owners = {seen.owner for task, seen in (await look(site)).items() if task in mine}
    assert owners == ({"two"} if comes_back else {"one"}), owners
    if not comes_back:
        worker = await stack.enter_async_context(site.worker("two", *arguments))
    return at - signalled, at - ended, worker


async def send(site: Site) -> None:
    """One prediction to each task every few milliseconds, until cancelled."""
    for number in itertools.count():
        for task in range(site.partitions):
            name = next(n for i in itertools.count() if site.home((n := f"{number}-{task}-{i}").encode()) == task)
            value = prediction(name, at=SystemClock().now())
            await site.producer.send(site.name(Topic.PREDICTIONS), value, name.encode(), task)
        await asyncio.sleep(_RECORD_EVERY_S)


async def measure(rounds: int, session_ms: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    async with bench_site(KAFKA__SESSION_TIMEOUT_MS=str(session_ms)) as site, AsyncExitStack() as stack:
        sending = asyncio.create_task(send(site))
        await stack.enter_async_context(site.worker("one"))
        worker = await stack.enter_async_context(site.worker("two", "--stay"))
        for number in range(rounds):
            for way in WAYS:
                async with asyncio.timeout(_PATIENCE_S + session_ms / 1000):
                    since_signal, since_end, worker = await one(site, way, worker, stack)
                found[way].append((since_signal, since_end))
                figures = {"since_signal_s": round(since_signal, 2), "since_end_s": round(since_end, 2)}
                print(json.dumps({"round": number, "way": way} | figures), flush=True)
        sending.cancel()
    for way, pairs in found.items():
        for since, values in zip(("signal", "end"), zip(*pairs, strict=True), strict=True):
            shown = f"median {statistics.median(values):5.2f} s, worst {max(values):5.2f} s, of {len(values)}"
            print(f"{way:9} since the {since:7} {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-membership", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--session-ms", type=int, default=10_000, help="session time-out, the default of a worker")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.session_ms))


if __name__ == "__main__":
    main()
