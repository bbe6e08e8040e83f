"""Pictures of curves, as SVG: panels side by side, each with axes of its own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 380, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 40, 44
_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#4a5568")
_STYLE = "font-family: sans-serif; font-size: 11px; fill: #222"
_TICKS = 5
_ROOM, _ROOM_FOR_NAMES = 1.08, 1.6
"""Above the greatest value of an axis that begins at 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Curves over one axis. On a logarithmic one, 0 stands a decade below the least value; a linear y begins at 0."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    log_x: bool = True
    log_y: bool = False


class _Scale:
    """From values to pixels between `begin` and `end`."""

    def __init__(
        self, values: Sequence[float], begin: float, end: float, *, log: bool, from_zero: bool, room: float = 1.0
    ) -> None:
        self._log, self._begin, self._end = log, begin, end
        self._floor = min((value for value in values if value > 0), default=1.0) / 10
        placed = [self._placed(value) for value in values] or [0.0, 1.0]
        self._least = 0.0 if from_zero else min(placed)
        self._most = max(placed) * room
        if log and not from_zero:
            self._least, self._most = math.floor(self._least), math.ceil(self._most)
        if self._most <= self._least:
            self._most = self._least + 1

    def _placed(self, value: float) -> float:
        return math.log10(max(value, self._floor)) if self._log else value

    def at(self, value: float) -> float:
        share = (self._placed(value) - self._least) / (self._most - self._least)
        return self._begin + share * (self._end - self._begin)

    def ticks(self) -> list[float]:
        if self._log:
            return [10.0**power for power in range(math.ceil(self._least), math.floor(self._most) + 1)]
        step = 10 ** math.floor(math.log10((self._most - self._least) / 2))
        while (self._most - self._least) / step > _TICKS:
            step *= 2
        first = math.ceil(self._least / step)
        return [step * number for number in range(first, math.floor(self._most / step) + 1)]


def picture(title: str, panels: Sequence[Panel], *, columns: int = 3) -> str:
    """The whole file."""
    columns = min(columns, len(panels))
    width, height = columns * _WIDTH, -(-len(panels) // columns) * _HEIGHT + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="20" style="{_STYLE}; font-size: 14px; font-weight: bold">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        parts += [f'<g transform="translate({column * _WIDTH} {row * _HEIGHT + 30})">', *_drawn(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(panel: Panel) -> list[str]:
    points = [point for curve in panel.curves for point in curve.points]
    x = _Scale([p[0] for p in points], _LEFT, _WIDTH - _RIGHT, log=panel.log_x, from_zero=False)
    room = 1.0 if panel.log_y else _ROOM_FOR_NAMES if len(panel.curves) > 1 else _ROOM
    y = _Scale([p[1] for p in points], _HEIGHT - _BOTTOM, _TOP, log=panel.log_y, from_zero=not panel.log_y, room=room)
    bottom, middle = _HEIGHT - _BOTTOM, (_LEFT + _WIDTH - _RIGHT) / 2
    parts = [
        _text(panel.title, _LEFT, 16, "start", "font-weight: bold"),
        _text(panel.x + (" (log)" if panel.log_x else ""), middle, _HEIGHT - 10),
        _text(panel.y + (" (log)" if panel.log_y else ""), _LEFT, 31, "start", "fill: #666"),
    ]
    for value in y.ticks():
        parts.append(_line(_LEFT, y.at(value), _WIDTH - _RIGHT, y.at(value), "#ddd"))
        parts.append(_text(_short(value), _LEFT - 6, y.at(value) + 4, "end"))
    for value in sorted({p[0] for p in points}) if panel.log_x else x.ticks():
        parts.append(_line(x.at(value), bottom, x.at(value), bottom + 4, "#444"))
        parts.append(_text(_short(value), x.at(value), bottom + 17))
    parts.append(_line(_LEFT, bottom, _WIDTH - _RIGHT, bottom, "#444"))
    for number, curve in enumerate(panel.curves):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(x.at(a), y.at(b)) for a, b in curve.points]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
        if len(panel.curves) > 1:
            parts.append(_text(curve.label, _WIDTH - _RIGHT, _TOP + 2 + 13 * number, "end", f"fill: {colour}"))
    return parts


def _short(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _text(text: str, x: float, y: float, anchor: str = "middle", style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{_STYLE}; {style}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
