"""A backlog that is loaded while the workers stand still, and what it costs them to eat it.

The workers are processes as an operator runs them, warm and at rest. They are halted, so that they see nothing of the
load, then let go together. Their CPU time is what the kernel counts for them, from there to the commit of the last
record.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType

from bench.counters import family_cpu_s, machine_cpu_s, peak_mb, process_cpu_s
from bench.rounds import load_events
from bench.workloads import Events
from tests.integration.worker import Site, Worker

_LOOK_EVERY_S = 0.025
_READY_WITHIN_S = 120.0
_AUDITED_WITHIN_S = 3_600.0
_EATEN_WITHIN_S = 3_000.0
_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """`cpu_s` and `rss_mb`, the peak, are one of each worker; `servers_cpu_s` is what the servers used meanwhile, and
    `busy` the share of all cores, other processes included."""

    events: int
    seconds: float
    cpu_s: list[float]
    micro_batches: int
    busy: float
    rss_mb: list[int]
    servers_cpu_s: dict[str, float]

    @property
    def cpu_s_per_million(self) -> float:
        return sum(self.cpu_s) / self.events * 1e6

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds


@dataclass(frozen=True, slots=True)
class _Ledger:
    """Sums over tasks."""

    seq: int
    versions: int
    epochs: int


async def _ledger(site: Site) -> _Ledger:
    row = await site.pool.fetchrow("SELECT sum(seq), sum(version), sum(epoch) FROM ledger")
    return _Ledger(*map(int, row))


def worker_name(number: int) -> str:
    """Instance ID of the worker of this rank."""
    return f"worker-{number}"


async def started_workers(site: Site, stack: AsyncExitStack, count: int) -> list[Worker]:
    """So many processes, the tasks shared out evenly among them."""
    workers = [await stack.enter_async_context(site.worker(worker_name(number))) for number in range(count)]
    await shared_out(site, workers)
    return workers


async def shared_out(site: Site, workers: Sequence[Worker]) -> None:
    """Until each worker has its part of the tasks."""
    names, part = {worker_name(number) for number in range(len(workers))}, site.partitions // len(workers)

    async def shared() -> bool:
        owners = list((await site.owners()).values())
        return len(owners) == site.partitions and all(owners.count(name) == part for name in names)

    for worker in workers:
        await worker.until(shared, within=_READY_WITHIN_S, what=f"{part} tasks each")
        await worker.ready(tasks=part)


async def audited(site: Site, workers: Sequence[Worker]) -> None:
    """Until every task has counted its rows as they stand: no audit falls into the next half minute."""

    async def all_counted() -> bool:
        await asyncio.sleep(_LOOK_EVERY_S * 4)
        versions = dict(await site.pool.fetch("SELECT task, version FROM ledger"))
        found = [await worker.metrics() for worker in workers]
        return all(
            any(figures.get(f'audited_version{{task="{task}"}}') == version for figures in found)
            for task, version in versions.items()
        )

    await workers[0].until(all_counted, within=_AUDITED_WITHIN_S, what="every task audited")


async def eaten(
    site: Site, workers: Sequence[Worker], backlog: Iterable[Events], servers: Mapping[str, int] = _NONE
) -> Span:
    """What these events cost, each of which gives one status; `servers` are processes whose use is told, too.

    Fails where another number of statuses came of them, or where a task had to be taken over in between.
    """
    await site.processed(within=_EATEN_WITHIN_S)
    await audited(site, workers)
    before = await _ledger(site)
    for worker in workers:
        worker.send(signal.SIGSTOP)
    try:
        count = await load_events(site.bootstrap_servers, site.prefix, backlog)
        aside = {name: family_cpu_s(pid) for name, pid in servers.items()}
        cpu, cores, began = [process_cpu_s(worker.pid) for worker in workers], machine_cpu_s(), time.monotonic()
    finally:
        for worker in workers:
            worker.send(signal.SIGCONT)
    await _until_committed(site, workers, before.seq + count)
    took = time.monotonic() - began
    span = Span(
        events=count,
        seconds=took,
        cpu_s=[process_cpu_s(worker.pid) - first for worker, first in zip(workers, cpu, strict=True)],
        busy=(machine_cpu_s() - cores) / took / (os.cpu_count() or 1),
        micro_batches=(await _ledger(site)).versions - before.versions,
        rss_mb=[peak_mb(worker.pid) for worker in workers],
        servers_cpu_s={name: family_cpu_s(pid) - aside[name] for name, pid in servers.items()},
    )
    await site.processed(within=_READY_WITHIN_S)
    after = await _ledger(site)
    if after.seq != before.seq + count:
        raise SystemExit(f"{after.seq - before.seq:,} statuses came of {count:,} events")
    if after.epochs != before.epochs:
        raise SystemExit("a task was taken over while it was measured")
    return span


async def _until_committed(site: Site, workers: Sequence[Worker], seq: int) -> None:
    give_up_at = time.monotonic() + _EATEN_WITHIN_S
    while (await _ledger(site)).seq < seq:
        for worker in workers:
            if not worker.running:
                raise SystemExit(f"a worker has ended\n{worker.text()[-6000:]}")
        if time.monotonic() > give_up_at:
            raise SystemExit(f"not eaten within {_EATEN_WITHIN_S:g} s")
        await asyncio.sleep(_LOOK_EVERY_S)
