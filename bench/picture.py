"""The picture of a measurement: bars of medians with their ranges, as SVG."""

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

from bench.report import TITLES, groups, number
from bench.suite import HINDSIGHT

_PANELS: Final = {
    "events_per_s": "events per second (more is better)",
    "joins_per_s": "joins per second (more is better)",
    "cpu_s_per_million": "CPU seconds per million events (less is better)",
    "rss_mb": "peak of memory, MB (less is better)",
    "latency_p99_ms": "p99 from event to status, ms (less is better)",
}
_WIDTH: Final = 960
_LABELS: Final = 360
_BAR: Final = 16
_LINE: Final = 24
_HEAD: Final = 40
_ROOM: Final = 190
"""For the figure right of a bar."""


def picture(rows: Sequence[Mapping[str, Any]]) -> str:
    """One panel for each figure that any run has, one bar for each workload and system."""
    found = groups(rows)
    parts: list[str] = []
    y = 10
    for column, title in _PANELS.items():
        bars = {
            place: [run[column] for run in runs] for place, runs in found.items() if all(column in run for run in runs)
        }
        if bars:
            parts.append(f'<text x="10" y="{y + 20}" class="head">{escape(title)}</text>')
            y += _HEAD
            y = _panel(parts, bars, y)
    style = (
        "text{font:13px sans-serif;fill:#222}.head{font-weight:bold}.ours{fill:#2b7a78}.peer{fill:#b0b7bd}"
        ".range{stroke:#222;stroke-width:1.5;fill:none}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}">'
    ground = f'<rect width="{_WIDTH}" height="{y}" fill="#fff"/>'
    return "\n".join([head, f"<style>{style}</style>", ground, *parts, "</svg>\n"])


def _panel(parts: list[str], bars: Mapping[tuple[str, str], Sequence[float]], y: int) -> int:
    """Add the bars; returns where the next panel begins."""
    scale = (_WIDTH - _LABELS - _ROOM) / max(max(values) for values in bars.values())
    for (workload, system), values in bars.items():
        middle, least, most = statistics.median(values), min(values), max(values)
        kind = "ours" if system == HINDSIGHT else "peer"
        label = f"{workload}: {TITLES[system]}" if system == HINDSIGHT else TITLES[system]
        centre = y + _BAR / 2
        left, right = _LABELS + least * scale, _LABELS + most * scale
        parts.append(f'<text x="{_LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{_LABELS}" y="{y}" width="{middle * scale:.1f}" height="{_BAR}" class="{kind}"/>')
        ends = f"M{left:.1f} {y + 4}v8M{left:.1f} {centre}H{right:.1f}M{right:.1f} {y + 4}v8"
        parts.append(f'<path d="{ends}" class="range"/>')
        told = number(middle) if least == most else f"{number(middle)} ({number(least)} to {number(most)})"
        parts.append(f'<text x="{max(right, _LABELS + middle * scale) + 8:.1f}" y="{y + 13}">{told}</text>')
        y += _LINE
    return y + 10
