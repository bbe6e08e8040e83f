"""How long statistics are kept, and how finely: cells of hours become cells of days, and go in the end.

A task does this for its own cells, one day of one deployment at a time, in a micro-batch of its own. Age is measured on
the deployment's watermark, so that a replay of an old year is kept as a new one would be. What comes later for such
a day (a correction, a backfill) is counted in the cell of the day; for a day that is gone, in none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeVar

from service.domain.instants import DAY_US, span_us
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.domain.watermark import NEVER
from service.pipeline.aggregate import Deltas
from service.pipeline.cells import Mergeable
from service.ports import AccuracyCellKey, ClockRow, Ledger, PredictionCellKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSpec:
    """Spans before the watermark; None: for ever."""

    hourly_for: timedelta | None = None
    kept_for: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a task has to do next to the cells of one deployment."""

    deployment_id: str
    dropped_until: int
    """Everything before this hour goes."""
    rolled_until: int
    """Everything before this hour is in cells of days afterwards."""
    day: int | None = None
    """Start of the day whose hours become one; None: there is none."""
    prediction_cells: Mapping[PredictionCellKey, Traffic] = field(default_factory=dict)
    """Of that day."""
    accuracy_cells: Mapping[AccuracyCellKey, Accuracy] = field(default_factory=dict)

    @property
    def rolled_days(self) -> list[tuple[str, int]]:
        return [] if self.day is None else [(self.deployment_id, self.day)]


async def next_step(
    ledger: Ledger, task: int, clocks: Mapping[str, ClockRow], spec: RetentionSpec, checked: dict[str, int]
) -> Step | None:
    """The next thing to do for any deployment, None while nothing is old enough. May raise `Unavailable`.

    `checked` remembers until when there was nothing to roll up, so that the database is asked once a day of the
    watermark.
    """
    for name, row in clocks.items():
        dropped = max(row.dropped_until, _days_before(row.clock.watermark, spec.kept_for))
        rolled = max(row.rolled_until, dropped, _days_before(row.clock.watermark, spec.hourly_for))
        drops = dropped > row.dropped_until
        if not drops and rolled <= max(row.rolled_until, checked.get(name, 0)):
            continue
        day = await ledger.first_day(task, name, max(row.rolled_until, dropped), rolled)
        if day is None:
            checked[name] = rolled
            if drops:
                return Step(deployment_id=name, dropped_until=dropped, rolled_until=max(row.rolled_until, dropped))
            continue
        traffic, accuracy = await ledger.cells_of_day(task, name, day)
        return Step(
            deployment_id=name,
            dropped_until=dropped,
            rolled_until=day + DAY_US,
            day=day,
            prediction_cells=_merged((key._replace(hour=day), cell) for key, cell in traffic.items()),
            accuracy_cells=_merged((key._replace(hour=day), cell) for key, cell in accuracy.items()),
        )
    return None


def kept(deltas: Deltas, clocks: Mapping[str, ClockRow]) -> Deltas:
    """The deltas as their days are kept by now."""
    if not any(row.rolled_until or row.dropped_until for row in clocks.values()):
        return deltas
    return Deltas(
        traffic=_merged((_at_home(key, clocks), cell) for key, cell in deltas.traffic.items() if _is_kept(key, clocks)),
        accuracy=_merged(
            (_at_home(key, clocks), cell) for key, cell in deltas.accuracy.items() if _is_kept(key, clocks)
        ),
        submissions=deltas.submissions,
    )


class _Key(Protocol):
    @property
    def deployment_id(self) -> str: ...
    @property
    def hour(self) -> int: ...
    def _replace(self: "K", *, hour: int) -> "K": ...


K = TypeVar("K", bound=_Key)
C = TypeVar("C", bound=Mergeable)


def _is_kept(key: _Key, clocks: Mapping[str, ClockRow]) -> bool:
    row = clocks.get(key.deployment_id)
    return row is None or key.hour >= row.dropped_until


def _at_home(key: K, clocks: Mapping[str, ClockRow]) -> K:
    row = clocks.get(key.deployment_id)
    if row is None or key.hour >= row.rolled_until:
        return key
    return key._replace(hour=key.hour - key.hour % DAY_US)


def _merged(cells: Iterable[tuple[K, C]]) -> dict[K, C]:
    merged: dict[K, C] = {}
    for key, cell in cells:
        merged[key] = merged[key].merged(cell) if key in merged else cell
    return merged


def _days_before(watermark: int, span: timedelta | None) -> int:
    """Start of the day that lies so long before the watermark."""
    if span is None or watermark == NEVER:
        return 0
    at = max(0, watermark - span_us(span))
    return at - at % DAY_US
