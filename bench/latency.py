"""`make bench-latency`: from the instant an event was due to be sent to when its status can be read, at several rates.

An open load: the sender, a process of its own, keeps to a timetable whatever becomes of the events, and latency counts
from the instants of that timetable, so nothing is omitted where sender or worker are late. A consumer, another
process, reads the status topic read committed. The rates are shares of the maximum, which is measured first: a
preloaded backlog, with neither of the two beside it.
"""

import argparse
import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.counters import family_cpu_s, machine_cpu_s
from bench.made_rows import Shape, pairs
from bench.results import DIRECTORY, Rows, described, machine_of, markdown
from bench.sites import bench_stack, fresh_site, server_pids
from bench.spans import eaten, started_workers
from bench.timetable import Timetable
from service.adapters.clock import SystemClock
from service.devstack import DevStack
from tests.integration.worker import Site, Worker

WISHED_MS = {0.1: 100.0, 0.5: 500.0}
"""The p99 that is wished for, by share of the maximum."""
_WARM_PAIRS = 50_000
_START_IN_S = 0.5
_GOES_ON_S = 1.0
"""The load lasts so much longer than what is measured, so that sender and receiver are still there at its end."""
_PATIENCE_S = 60.0
_COLUMNS = (
    "share of maximum", "events/s", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "wished p99 ms",
    "mean ms, ours / the worker's", "micro-batches/s, records each", "commit / publish ms", "sender late p50 / p99 ms",
    "broker's yes p50 / p99 ms", "cores: worker", "sender", "receiver", "Kafka", "Postgres", "others",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Seconds that do not count, and that do, at each share."""

    warm_s: float
    seconds: float
    shares: tuple[float, ...]


async def maximum(site: Site, worker: Worker, count: int) -> float:
    """Events a second of a preloaded backlog of so many pairs, by a worker that is warm."""
    at = SystemClock().now() - timedelta(hours=3)
    await eaten(site, [worker], [pairs(Shape(), 0, _WARM_PAIRS, at=at, partitions=site.partitions)])
    span = await eaten(site, [worker], [pairs(Shape(), _WARM_PAIRS, count, at=at, partitions=site.partitions)])
    return span.events_per_s


@asynccontextmanager
async def _child(module: str, *arguments: object) -> AsyncIterator[Process]:
    """A process that has said that it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *map(str, arguments), stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        if await process.stdout.readline() != b"ready\n":
            raise SystemExit(f"{module} did not start")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _told(process: Process) -> dict[str, Any]:
    printed, _ = await process.communicate()
    if process.returncode or not printed:
        raise SystemExit(f"a process of the measurement ended with {process.returncode}")
    return msgspec.json.decode(printed, type=dict[str, Any])


async def at_rate(stack: DevStack, site: Site, worker: Worker, rate: float, plan: Plan) -> dict[str, Any]:
    """One load; fails where a status did not come."""
    run, table = f"at{round(rate)}", Timetable(rate=rate, seconds=plan.warm_s + plan.seconds + _GOES_ON_S)
    path = site.directory / f"{run}.npy"
    common = (site.bootstrap_servers, site.prefix, run, site.partitions, table.rate, table.seconds)
    async with (
        _child("bench.latency_receiver", *common, _PATIENCE_S, path) as receiver,
        _child("bench.latency_sender", *common) as sender,
    ):
        pids = {"worker": worker.pid, "sender": sender.pid, "receiver": receiver.pid} | server_pids(stack)
        started_s = time.monotonic() + _START_IN_S
        assert sender.stdin is not None
        sender.stdin.write(f"{started_s}\n".encode())
        await asyncio.sleep(_START_IN_S + plan.warm_s)
        cpu, told = _cpu(pids), await worker.metrics()
        await asyncio.sleep(plan.seconds)
        cores = {name: round((used - cpu[name]) / plan.seconds, 3) for name, used in _cpu(pids).items()}
        steps = means(told, await worker.metrics())
        sent, received = await asyncio.gather(_told(sender), _told(receiver))
    if received["received"] != sent["sent"]:
        raise SystemExit(f"of {sent['sent']:,} events only {received['received']:,} gave a status in time")
    figures = quantiles_ms(np.load(path) - started_s, table, plan.warm_s)
    return {"events_per_s": round(rate), **figures, "worker": steps, "sender": sent, "cores": cores}


def means(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What the worker's own figures say of the time between: how many micro-batches, and of each the mean."""

    def mean(name: str) -> float:
        total, count = (after[f"{name}_{part}"] - before[f"{name}_{part}"] for part in ("sum", "count"))
        return total / count if count else 0.0

    return {
        "micro_batches": after["microbatch_records_count"] - before["microbatch_records_count"],
        "records": round(mean("microbatch_records"), 1),
        "commit_ms": round(1e3 * mean("commit_seconds"), 1),
        "publish_ms": round(1e3 * mean("publish_seconds"), 1),
        "event_to_status_ms": round(1e3 * mean("event_to_status_seconds"), 1),
    }


def quantiles_ms(arrived_s: NDArray[np.float64], table: Timetable, warm_s: float) -> dict[str, float]:
    """Of the events that were due after the warm-up; `arrived_s` (events,) after the start."""
    due = table.due_s()
    counted = due >= warm_s
    latency = 1e3 * (arrived_s[counted] - due[counted])
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999, "most_ms": 1.0}
    found = {name: round(float(np.quantile(latency, share, method="higher")), 1) for name, share in shares.items()}
    return {"counted": int(counted.sum()), "mean_ms": round(float(latency.mean()), 1)} | found


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds so far; of all other processes together, those that did not go to these."""
    found = {name: family_cpu_s(pid) for name, pid in pids.items()}
    return found | {"others": machine_cpu_s() - sum(found.values())}


async def measure(plan: Plan, given: float | None, count: int, directory: Path) -> None:
    shape = Shape()
    async with bench_stack() as stack, fresh_site(stack, "latency", shape) as site, AsyncExitStack() as workers:
        setting, rows = machine_of(stack), Rows(directory, "latency")
        (worker,) = await started_workers(site, workers, 1)
        most = given or await maximum(site, worker, count)
        _tell(f"maximum: {most:,.0f} events/s{' (given)' if given else ''}")
        for share in plan.shares:
            found = await at_rate(stack, site, worker, share * most, plan)
            rows.add(
                {"share": share, "maximum": round(most), "given": given is not None, "seconds": plan.seconds}
                | found
                | {"machine": setting}
            )
            _tell(f"at {share:.0%}: {found}")
    page = markdown(
        "Event to status",
        [
            f"maximum: {most:,.0f} events/s, {'as given' if given else 'of a preloaded backlog, measured before'}",
            f"at each rate {plan.warm_s:g} s to get warm, then {plan.seconds:g} s that count; one worker, 4 partitions",
            *described(setting),
        ],
        _COLUMNS,
        [_cells(row) for row in rows.rows],
    )
    (directory / "latency.md").write_text(page, encoding="utf-8")
    print(page)


def _cells(row: Mapping[str, Any]) -> list[str]:
    sender, steps, cores = row["sender"], row["worker"], row["cores"]
    wished = WISHED_MS.get(row["share"])
    return [
        f"{row['share']:.0%}",
        f"{row['events_per_s']:,}",
        *(f"{row[name]:,.1f}" for name in ("p50_ms", "p99_ms", "p999_ms", "most_ms")),
        "" if wished is None else f"{wished:g}: {'met' if row['p99_ms'] < wished else 'MISSED'}",
        f"{row['mean_ms']:,.1f} / {steps['event_to_status_ms']:,.1f}",
        f"{steps['micro_batches'] / row['seconds']:,.0f} of {steps['records']:,.0f}",
        f"{steps['commit_ms']:,.1f} / {steps['publish_ms']:,.1f}",
        f"{sender['late_p50_ms']:,.1f} / {sender['late_p99_ms']:,.1f}",
        f"{sender['acknowledged_p50_ms']:,.1f} / {sender['acknowledged_p99_ms']:,.1f}",
        *(f"{cores[name]:.2f}" for name in ("worker", "sender", "receiver", "kafka", "postgres", "others")),
    ]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-latency", description=__doc__)
    parser.add_argument("--maximum", type=float, help="events/s of which the shares are; without it, it is measured")
    parser.add_argument("--pairs", type=int, default=500_000, help="size of the backlog that the maximum is taken from")
    parser.add_argument("--shares", default="0.1,0.5,0.8", help="of the maximum")
    parser.add_argument("--seconds", type=float, default=60, help="that count, at each rate")
    parser.add_argument("--warm", type=float, default=15, help="seconds before them, at each rate")
    parser.add_argument("--into", type=Path, default=DIRECTORY, help="directory of the results")
    arguments = parser.parse_args()
    shares = tuple(float(share) for share in arguments.shares.split(","))
    plan = Plan(warm_s=arguments.warm, seconds=arguments.seconds, shares=shares)
    asyncio.run(measure(plan, arguments.maximum, arguments.pairs, arguments.into))


if __name__ == "__main__":
    main()
