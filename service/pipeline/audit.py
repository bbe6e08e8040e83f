"""Conservation: what a task has received must be what its rows, and the records that no row stands for, add up to.

    predictions received = rows with a prediction + duplicates + conflicts + rejected + unidentified + expired + settled
    actuals received     = rows that hold an actual + duplicates + superseded + withdrawn + orphaned + rejected
                           + late recorded + settled

Expired and settled: the unmatched and the matched rows that time has ended.

The left side is counted where records come in, the rows are counted by reading every one of them in the store. Any
difference means that something was lost or counted twice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.domain.join_window import (
    ACTUAL_DISPOSITIONS,
    HOLDING_PHASES,
    PREDICTED_PHASES,
    PREDICTION_DISPOSITIONS,
    Disposition,
)
from service.domain.row import RowPhase, phase_of
from service.ports import ClockRow

_OPEN = frozenset({RowPhase.OPEN, RowPhase.WITHDRAWN})
_PARKED = frozenset({RowPhase.PARKED, RowPhase.PARKED_WITHDRAWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the rows of one task say. `error` is the number of records that are missing or too many."""

    error: int
    rows_open: int
    rows_parked: int


def audit(rows: Iterable[tuple[bytes, bytes]], clocks: Mapping[str, ClockRow]) -> Audit:
    """Compare the rows (row key, state) with the clocks of the same commit."""
    found: Counter[tuple[bytes, int]] = Counter()
    for key, state in rows:
        found[key[: key.index(b"/")], phase_of(state)] += 1
    phases = Counter({(name.decode(), phase): count for (name, phase), count in found.items()})
    deployments = {name for name, _ in phases} | clocks.keys()
    return Audit(
        error=sum(_difference(name, phases, clocks.get(name, ClockRow())) for name in deployments),
        rows_open=_total(phases, _OPEN),
        rows_parked=_total(phases, _PARKED),
    )


def _difference(name: str, phases: Counter[tuple[str, int]], clock: ClockRow) -> int:
    predicted = sum(phases[name, phase] for phase in PREDICTED_PHASES) + _disposed(clock, PREDICTION_DISPOSITIONS)
    held = sum(phases[name, phase] for phase in HOLDING_PHASES) + _disposed(clock, ACTUAL_DISPOSITIONS)
    return abs(clock.predictions_received - predicted) + abs(clock.actuals_received - held)


def _disposed(clock: ClockRow, dispositions: Iterable[Disposition]) -> int:
    return sum(clock.dispositions.get(disposition.name, 0) for disposition in dispositions)


def _total(phases: Counter[tuple[str, int]], wanted: frozenset[RowPhase]) -> int:
    return sum(count for (_, phase), count in phases.items() if phase in wanted)
