"""`make bench-postgres`: what a million events cost Postgres, and whether tables and indexes stay as they are.

One worker eats the same workload again and again, each time with new association IDs, autovacuum as it is by default.
After each load a sample is taken of what Postgres counts: transactions, WAL, rows, sizes, dead tuples. The progress of
the worker is asked of the worker, so that hardly any transaction is the measurement's own.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.counters import family_cpu_s
from bench.curves import Curve, Panel, picture
from bench.postgres_samples import TABLES, dead, has_pgstattuple, rows_written, sample, size_mb
from bench.results import DIRECTORY, Rows, described, machine_of, markdown
from bench.rounds import load_events
from bench.sites import bench_stack, fresh_site
from bench.spans import shared_out, worker_name
from bench.workloads import open_workload
from service.adapters.clock import SystemClock
from service.adapters.postgres.deployments import PostgresDeployments
from service.devstack import DevStack
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import parse_description
from tests.integration.worker import Site, Worker

_LARGEST = "outbox_slots"
_LOOK_EVERY_S = 0.5
_EATEN_WITHIN_S = 3_000.0
_REPORTED_AFTER_S = 11.0
"""A session that is idle tells its statistics ten seconds later at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`loads` loads of `pairs` rows of a workload, each prediction with an actual."""

    workload: str
    pairs: int
    loads: int


async def drained(site: Site, worker: Worker, backlog: list[Any], before: int) -> int:
    """Load while the worker stands still, let it eat, and return how many statuses there have been."""
    worker.send(signal.SIGSTOP)
    try:
        count = await load_events(site.bootstrap_servers, site.prefix, backlog)
    finally:
        worker.send(signal.SIGCONT)
    give_up_at = time.monotonic() + _EATEN_WITHIN_S
    while (told := await _statuses(worker)) < before + count:
        if not worker.running or time.monotonic() > give_up_at:
            raise SystemExit(f"not eaten\n{worker.text()[-6000:]}")
        await asyncio.sleep(_LOOK_EVERY_S)
    if told != before + count:
        raise SystemExit(f"{told - before:,} statuses came of {count:,} events")
    await asyncio.sleep(_REPORTED_AFTER_S)
    return told


async def _statuses(worker: Worker) -> int:
    figures = await worker.metrics()
    return int(sum(value for name, value in figures.items() if name.startswith("join_outcomes_total{")))


async def _idle_transactions_per_s(site: Site) -> float:
    """What a worker without records does by itself: it looks whether something waits for it."""
    await asyncio.sleep(_REPORTED_AFTER_S)
    before, began = await sample(site.pool, density=False), time.monotonic()
    await asyncio.sleep(_REPORTED_AFTER_S)
    after = await sample(site.pool, density=False)
    count = int(after["counters"]["transactions"]) - int(before["counters"]["transactions"])
    return count / (time.monotonic() - began)


async def samples(stack: DevStack, site: Site, plan: Plan, rows: Rows, setting: Mapping[str, Any]) -> None:
    assert stack.postgres.pid is not None
    density = await has_pgstattuple(site.pool)
    start_us = round((SystemClock().now() - timedelta(days=2)).timestamp()) * 1_000_000
    async with site.worker(worker_name(0)) as worker:
        for number in range(plan.loads + 1):
            workload = open_workload(plan.workload, plan.pairs, start_us=start_us, seed=1 + number)
            if not number:
                for path in workload.write_deployments(site.directory):
                    await apply(PostgresDeployments(site.pool), parse_description(path.read_text()), site.directory)
                await shared_out(site, [worker])
                eaten, idle = 0, await _idle_transactions_per_s(site)
            else:
                eaten = await drained(site, worker, list(workload.chunks()), eaten)
            taken = await sample(site.pool, density=density)
            versions = await site.pool.fetchval("SELECT sum(version) FROM ledger")
            cpu = family_cpu_s(stack.postgres.pid)
            now = {"events": eaten, "micro_batches": int(versions), "postgres_cpu_s": round(cpu, 2)}
            now |= {"idle_transactions_per_s": round(idle, 2)}
            rows.add({"load": number, "workload": plan.workload} | now | taken | {"machine": setting})
            _tell(f"{number} of {plan.loads}: {eaten:,} events, slots {size_mb(taken, 'outbox_slots'):.1f} MB")


# ---------------------------------------------------------------------------------------------- the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load: what a million events cost in it, and what stood there after it."""

    events: int
    costs: dict[str, float]
    sizes_mb: dict[str, float]
    dead: dict[str, int]


def measured(rows: list[dict[str, Any]]) -> list[Measured]:
    found = []
    for before, after in zip(rows, rows[1:], strict=False):
        millions = (after["events"] - before["events"]) / 1e6
        counted, first = after["counters"], before["counters"]
        costs = {
            "transactions": counted["transactions"]
            - first["transactions"]
            - after["idle_transactions_per_s"] * _REPORTED_AFTER_S,
            "micro-batches": after["micro_batches"] - before["micro_batches"],
            "WAL MB": (counted["wal_bytes"] - first["wal_bytes"]) / (1 << 20),
            "full page images": counted["full_page_images"] - first["full_page_images"],
            "rows written": rows_written(after, "table") - rows_written(before, "table"),
            "toast chunks written": rows_written(after, "toast") - rows_written(before, "toast"),
            "CPU s of Postgres": after["postgres_cpu_s"] - before["postgres_cpu_s"],
        }
        sizes = {name: size_mb(after, name) for name in TABLES}
        sizes["indexes"] = sum(size_mb(after, name, indexes=True) for name in TABLES)
        found.append(
            Measured(
                events=after["events"],
                costs={name: value / millions for name, value in costs.items()},
                sizes_mb=sizes,
                dead={name: dead(after, name) for name in TABLES},
            )
        )
    return found


def trend(values: list[float]) -> str:
    """Least, median and greatest, and the last third against the first; flat is near 1."""
    third = max(1, len(values) // 3)
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    ratio = f"{last / first:.2f}" if first else "none to compare with"
    figures = [f"{value:,.1f}" for value in (min(values), statistics.median(values), max(values))]
    return " | ".join([*figures, ratio])


def _lines(found: list[Measured]) -> Iterator[list[str]]:
    for name in found[0].costs:
        yield [f"{name}, per million events", trend([one.costs[name] for one in found])]
    for name in found[0].sizes_mb:
        yield [f"{name}, MB", trend([one.sizes_mb[name] for one in found])]
    for name in found[0].dead:
        yield [f"{name}, dead tuples", trend([float(one.dead[name]) for one in found])]


def _panels(found: list[Measured]) -> list[Panel]:
    def curves(values: Mapping[str, list[float]]) -> list[Curve]:
        return [
            Curve(label=name, points=[(one.events, value) for one, value in zip(found, column, strict=True)])
            for name, column in values.items()
            if any(column)
        ]

    costs = {name: [one.costs[name] for one in found] for name in found[0].costs}
    sizes = {name: [one.sizes_mb[name] for one in found] for name in found[0].sizes_mb}
    dead_tuples = {name: [float(one.dead[name]) for one in found] for name in found[0].dead}
    panels = [
        Panel(title=f"{name} per million events", x="events", y=name, curves=curves({name: column}), log_x=False)
        for name, column in costs.items()
    ]
    for title, unit, columns in (("size", "MB", sizes), ("dead tuples", "tuples", dead_tuples)):
        others = {name: column for name, column in columns.items() if name != _LARGEST}
        for of, told in ((_LARGEST, {_LARGEST: columns[_LARGEST]}), ("the others", others)):
            panels.append(Panel(title=f"{title}: {of}", x="events", y=unit, curves=curves(told), log_x=False))
    return panels


async def measure(plan: Plan, directory: Path) -> None:
    async with bench_stack() as stack, fresh_site(stack, "postgres-cost") as site:
        setting, rows = machine_of(stack), Rows(directory, "postgres")
        await samples(stack, site, plan, rows, setting)
    found = measured(rows.rows)
    notes = [
        f"{plan.loads} loads of {plan.pairs:,} predictions and their actuals of `{plan.workload}`, one worker",
        f"of the transactions those are left out that the worker makes in the pause after a load, "
        f"{rows.rows[0]['idle_transactions_per_s']:g} a second",
        "of the loads the least, the median and the most; then the median of their last third to that of the first",
        *described(setting),
    ]
    columns = ("figure", "least", "median", "most", "last third to first")
    page = markdown("What Postgres has to do", notes, columns, _lines(found))
    (directory / "postgres.md").write_text(page, encoding="utf-8")
    (directory / "postgres.svg").write_text(picture("Postgres, load by load", _panels(found)), encoding="utf-8")
    print(page)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-postgres", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="10000000 for the run that counts")
    parser.add_argument("--pairs", type=int, default=125_000, help="predictions of a load, and actuals")
    parser.add_argument("--workload", default="joined")
    parser.add_argument("--into", type=Path, default=DIRECTORY, help="directory of the results")
    arguments = parser.parse_args()
    loads = max(1, round(arguments.events / 2 / arguments.pairs))
    asyncio.run(measure(Plan(workload=arguments.workload, pairs=arguments.pairs, loads=loads), arguments.into))


if __name__ == "__main__":
    main()
