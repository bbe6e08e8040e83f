"""`make bench-scale`: what a million events cost in CPU, against each axis along which an installation grows.

One axis is moved at a time, the others stay at their defaults. Each point has topics, a database and worker processes
of its own: they are warmed up with events of the same kind, then eat a preloaded backlog (`bench/spans.py`). Flat is
what is wished for. Raw rows, a table and one picture with all axes are written.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench.curves import Curve, Panel, picture
from bench.made_rows import Shape, open_rows, pairs
from bench.results import DIRECTORY, Rows, described, machine_of, markdown
from bench.rounds import load_events
from bench.sites import bench_stack, fresh_site, server_pids
from bench.spans import eaten, started_workers
from bench.workloads import Events
from service.adapters.clock import SystemClock
from service.devstack import DevStack

LONG: Final = bool(os.environ.get("LONG"))
_FILL = 100_000
_BACKLOG_BYTES = 200 << 20
_BYTES_OF_A_FEATURE = 12
_BYTES_OF_A_PAIR = 400
_LOG_FROM = 8.0
"""A panel whose greatest cost is so many times the least has a logarithmic axis of costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One installation; these are the defaults."""

    processes: int = 1
    partitions: int = 4
    deployments: int = 1
    open_rows: int = 0
    features: int = 20
    micro_batch: int = 10_000


AXES: Final[dict[str, tuple[int, ...]]] = {
    "processes": (1, 2, 4),
    "partitions": (1, 4, 16, 64),
    "deployments": (1, 10, 100, 1_000, 10_000),
    "open_rows": (0, 100_000, 1_000_000, 10_000_000),
    "features": (1, 5, 20, 100, 500),
    "micro_batch": (1, 10, 100, 1_000, 10_000, 50_000),
}
_FIGURES: Final = (
    "cpu_s_per_million", "events_per_s", "kafka_cpu_s_per_million", "postgres_cpu_s_per_million",
)  # fmt: skip
_TITLES: Final = {
    "processes": "worker processes",
    "partitions": "partitions",
    "deployments": "deployments",
    "open_rows": "open rows",
    "features": "features",
    "micro_batch": "bound of a micro-batch, records",
}


def points(axes: list[str], most_open: int) -> list[tuple[str, Point]]:
    return [
        (axis, replace(Point(), **{axis: value}))
        for axis in axes
        for value in AXES[axis]
        if axis != "open_rows" or value <= most_open
    ]


def size_of(point: Point, count: int) -> int:
    """Pairs of the measured backlog: fewer where records are large, or micro-batches so small that it would take long.

    With more partitions there are more of them, so that each partition still has several micro-batches, or nearly.
    """
    by_bytes = _BACKLOG_BYTES // (_BYTES_OF_A_PAIR + point.features * _BYTES_OF_A_FEATURE)
    by_time = 500 * point.micro_batch
    return max(500, min(count * max(1, point.partitions // Point().partitions), by_bytes, by_time))


def _fill(point: Point, at: datetime) -> Iterator[Events]:
    for first in range(0, point.open_rows, _FILL):
        yield open_rows(first, min(_FILL, point.open_rows - first), at=at, partitions=point.partitions)


async def measured(stack: DevStack, name: str, point: Point, count: int) -> dict[str, Any]:
    """One point: figures of one span."""
    shape = Shape(deployments=point.deployments, features=point.features)
    size, at = size_of(point, count), SystemClock().now() - timedelta(hours=3)
    settings = {"PIPELINE__MAX_RECORDS": str(point.micro_batch)}
    made = fresh_site(stack, name, shape, partitions=point.partitions, **settings)
    async with made as site, AsyncExitStack() as processes:
        workers = await started_workers(site, processes, point.processes)
        await load_events(site.bootstrap_servers, site.prefix, _fill(point, at))
        warm = max(size // 4, min(size, point.deployments))
        await eaten(site, workers, [pairs(shape, 0, warm, at=at, partitions=point.partitions)])
        backlog = [pairs(shape, warm, size, at=at, partitions=point.partitions)]
        span = await eaten(site, workers, backlog, server_pids(stack))
    return {
        "events": span.events,
        "cpu_s_per_million": round(span.cpu_s_per_million, 2),
        "events_per_s": round(span.events_per_s),
        "records_per_micro_batch": round(span.events / max(1, span.micro_batches), 1),
        "cpu_s_of_each": [round(cpu, 2) for cpu in span.cpu_s],
        **{f"{name}_cpu_s_per_million": round(cpu / span.events * 1e6, 2) for name, cpu in span.servers_cpu_s.items()},
        "rss_mb_of_each": span.rss_mb,
        "cores_busy": round(span.busy, 3),
    }


async def measure(axes: list[str], rounds: int, count: int, most_open: int, directory: Path) -> None:
    wanted = points(axes, most_open)
    async with bench_stack() as stack:
        setting, rows, began = machine_of(stack), Rows(directory, "scale"), time.monotonic()
        for number in range(rounds):
            for place, (axis, point) in enumerate(wanted):
                found = await measured(stack, f"scale-{number}-{place}", point, count)
                value = getattr(point, axis)
                rows.add({"axis": axis, "value": value, "round": number} | found | {"machine": setting})
                done, of = number * len(wanted) + place + 1, rounds * len(wanted)
                _tell(f"{done} of {of}, {time.monotonic() - began:.0f} s: {axis} {value:,}: {found}")
    notes = [
        "one axis moves, the others stay at " + ", ".join(f"{name} {value:,}" for name, value in _defaults()),
        f"medians of {rounds}, least to most in brackets",
        *described(setting),
    ]
    columns = (
        "axis", "value", "CPU s per M events", "events/s", "CPU s of Kafka", "of Postgres", "records per micro-batch",
        "cores busy",
    )  # fmt: skip
    page = markdown("Cost of an event against what grows", notes, columns, _table(rows.rows))
    (directory / "scale.md").write_text(page, encoding="utf-8")
    (directory / "scale.svg").write_text(picture("CPU seconds of the workers per million events", _panels(rows.rows)))
    print(page)


def _defaults() -> Iterator[tuple[str, int]]:
    return ((_TITLES[axis], getattr(Point(), axis)) for axis in AXES)


def _by_place(rows: list[dict[str, Any]]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    places: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        places.setdefault((row["axis"], row["value"]), []).append(row)
    return places


def _table(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    for (axis, value), found in _by_place(rows).items():
        figures = [_spread([row[name] for row in found]) for name in _FIGURES]
        middle = [statistics.median(row[name] for row in found) for name in ("records_per_micro_batch", "cores_busy")]
        yield [_TITLES[axis], f"{value:,}", *figures, f"{middle[0]:,.0f}", f"{middle[1]:.0%}"]


def _spread(values: list[float]) -> str:
    middle, least, most = (f"{value:,.7g}" for value in (statistics.median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({least} to {most})"


def _panels(rows: list[dict[str, Any]]) -> list[Panel]:
    places = _by_place(rows)
    panels = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        curve = [
            (float(value), statistics.median(row["cpu_s_per_million"] for row in found))
            for (name, value), found in places.items()
            if name == axis
        ]
        costs = [cost for _, cost in curve]
        steep = max(costs) > _LOG_FROM * min(costs)
        panels.append(
            Panel(title=_TITLES[axis], x=_TITLES[axis], y="CPU s per M events", log_y=steep, curves=[_curve(curve)])
        )
    return panels


def _curve(points: list[tuple[float, float]]) -> Curve:
    return Curve(label="", points=sorted(points))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _axes(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := set(chosen) - AXES.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {', '.join(AXES)}")
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-scale", description=__doc__)
    parser.add_argument("--axes", type=_axes, default=list(AXES), help=f"some of {','.join(AXES)}")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=100_000, help="predictions of a backlog, and actuals")
    parser.add_argument(
        "--most-open", type=int, default=10_000_000 if LONG else 1_000_000, help="of open rows; 10 million with LONG=1"
    )
    parser.add_argument("--into", type=Path, default=DIRECTORY, help="directory of the results")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.axes, arguments.rounds, arguments.pairs, arguments.most_open, arguments.into))


if __name__ == "__main__":
    main()
