"""The table of a measurement, in Markdown: medians and ranges, ratios within rounds, limits, versions and settings."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.peers.catalog import PEERS
from bench.suite import COMPARED_ON, HINDSIGHT, LIMITS

Row = Mapping[str, Any]
COLUMNS: Final = {
    "events_per_s": "events/s",
    "joins_per_s": "joins/s",
    "cpu_s_per_million": "CPU s per M events",
    "machine_cpu_s_per_million": "of the machine",
    "rss_mb": "RSS MB",
    "latency_p50_ms": "p50 ms",
    "latency_p99_ms": "p99 ms",
}
WISHED: Final = {
    "kafka-streams-alo": (2.8, 4.0),
    "quix": (4.5, None),
    "faust": (24.0, None),
}
"""How many times the events per second of a peer, and how many times less CPU, the product is to reach."""
WISHED_OF_US: Final = {"events_per_s": 120_000, "cpu_s_per_million": 7.5}
"""On `joined`, of one worker."""
TITLES: Final = {HINDSIGHT: "Hindsight, everything on, exactly once"} | {peer.name: peer.title for peer in PEERS}
_LIMIT_TITLES: Final = {
    "consume": "consume: fetch and parse records (aiokafka)",
    "decode": "decode: typed JSON, features left as they are (msgspec)",
    "produce": "produce: the statuses of the run, in transactions (aiokafka)",
    "copy": "COPY: a row of three columns for each event (asyncpg)",
}


def report(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [
        "# Measured\n",
        _machine(about),
        "![events per second and CPU seconds per million events](picture.svg)\n",
        _systems(rows),
        _ratios(rows),
        _limits(rows),
        _stages(rows),
        _settings(rows, about),
    ]
    return "\n".join(part for part in parts if part)


def _settings(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    """Those of the systems that ran."""
    systems = {row["system"] for row in rows}
    settings = {name: values for name, values in about["settings"].items() if name in systems}
    return "## Settings\n\n```json\n" + json.dumps({**about, "settings": settings}, indent=1) + "\n```\n"


def groups(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Runs by workload and system, without the limits."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["system"] != LIMITS:
            found.setdefault((row["workload"], row["system"]), []).append(row)
    order = list(TITLES)
    return dict(
        sorted(found.items(), key=lambda item: (item[0][0] != COMPARED_ON, item[0][0], order.index(item[0][1])))
    )


def spread(values: Sequence[float]) -> str:
    """Median, and the range where there are several."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _machine(about: Mapping[str, Any]) -> str:
    machine, software, postgres = about["machine"], about["software"], about["postgres"]
    return (
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gb']} GB, Linux {machine['kernel']}; "
        f"{software['broker']}; PostgreSQL {postgres['server_version']}, fsync {postgres['fsync']}, synchronous_commit "
        f"{postgres['synchronous_commit']}; {software['java']}; Python {software['python']}. `{about['command']}`, "
        f"{about['began']}.\n"
    )


def _systems(rows: Sequence[Row]) -> str:
    lines = ["| workload | system | events | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("| --- | --- " + "| ---: " * (len(COLUMNS) + 1) + "|")
    for (workload, system), runs in groups(rows).items():
        cells = [
            spread([run[column] for run in runs]) if all(column in run for run in runs) else "" for column in COLUMNS
        ]
        lines.append(f"| {workload} | {TITLES[system]} | {runs[0]['events']:,} | " + " | ".join(cells) + " |")
    rounds = max((row["round"] for row in rows), default=0)
    return f"## Systems\n\nMedian (range) of {rounds} rounds.\n\n" + "\n".join(lines) + "\n"


def ratios(rows: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """Of each peer: how many times its events/s ours are, and how many times less CPU we take, round by round.

    `warm_…`: against the second half of its run alone, when its virtual machine has compiled what it will.
    """
    ours = {row["round"]: row for row in rows if (row["system"], row["workload"]) == (HINDSIGHT, COMPARED_ON)}
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["system"] in (HINDSIGHT, LIMITS) or row["round"] not in ours:
            continue
        own = ours[row["round"]]
        of_peer = found.setdefault(row["system"], {})
        for prefix in ("", "warm_"):
            speed = own["events_per_s"] / row[f"{prefix}events_per_s"]
            thrift = row[f"{prefix}cpu_s_per_million"] / own["cpu_s_per_million"]
            of_peer.setdefault(f"{prefix}events_per_s", []).append(speed)
            of_peer.setdefault(f"{prefix}cpu_s_per_million", []).append(thrift)
    return found


def _ratios(rows: Sequence[Row]) -> str:
    found = ratios(rows)
    if not found:
        return ""
    lines = [
        "| against | times the events/s | wished | times less CPU per event | wished | warm: events/s | warm: CPU |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in (name for name in TITLES if name in found):
        of_peer, (speed, thrift) = found[name], WISHED.get(name, (None, None))
        cells = [spread(values) for values in of_peer.values()]
        wishes = ["" if wish is None else f"{wish}" for wish in (speed, thrift)]
        lines.append(
            f"| {TITLES[name]} | {cells[0]} | {wishes[0]} | {cells[1]} | {wishes[1]} | {cells[2]} | {cells[3]} |"
        )
    ours = groups(rows)[COMPARED_ON, HINDSIGHT]
    reached = [
        f"{COLUMNS[column]} {number(statistics.median(run[column] for run in ours))}, wished {wish:,}"
        for column, wish in WISHED_OF_US.items()
    ]
    return (
        f"## Ratios\n\nHindsight on `{COMPARED_ON}`: {'; '.join(reached)}.\n\n"
        "Paired within each round, then the median (range). The left columns count both runs whole; warm sets all "
        "of our run against the second half of the peer's.\n\n" + "\n".join(lines) + "\n"
    )


def _limits(rows: Sequence[Row]) -> str:
    limits = [row for row in rows if row["system"] == LIMITS]
    ours = {row["round"]: row for row in rows if (row["system"], row["workload"]) == (HINDSIGHT, COMPARED_ON)}
    if not limits:
        return ""
    lines = [
        "| limit | events/s | CPU s per M | our events/s, part of it | its CPU, part of ours |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, title in _LIMIT_TITLES.items():
        speeds = [row[name]["events_per_s"] for row in limits]
        costs = [row[name]["cpu_s_per_million"] for row in limits]
        reached = [ours[row["round"]]["events_per_s"] / row[name]["events_per_s"] for row in limits]
        parts = [row[name]["cpu_s_per_million"] / ours[row["round"]]["cpu_s_per_million"] for row in limits]
        cells = [spread(speeds), spread(costs), f"{statistics.median(reached):.0%}", f"{statistics.median(parts):.0%}"]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "## Limits\n\nOne Python process that does one thing only, in the same rounds.\n\n" + "\n".join(lines) + "\n"


def _stages(rows: Sequence[Row]) -> str:
    """Where our CPU goes, by workload."""
    found = {workload: runs for (workload, system), runs in groups(rows).items() if system == HINDSIGHT}
    if not found:
        return ""
    stages = sorted({stage for runs in found.values() for run in runs for stage in run["stages_us"]})
    lines = ["| stage | " + " | ".join(found) + " |", "| --- " + "| ---: " * len(found) + "|"]
    for stage in stages:
        medians = [statistics.median(run["stages_us"].get(stage, 0) for run in runs) for runs in found.values()]
        lines.append(f"| {stage} | " + " | ".join(f"{value:.2f}" for value in medians) + " |")
    return "## Stages\n\nOur CPU in the event loop's thread, µs per event, medians.\n\n" + "\n".join(lines) + "\n"
