"""The join: a prediction and its actual meet in one row, whatever the order in which they come.

Rules
-----
1. A row is named by (deployment, row ID). The first prediction opens it and stays; a later one with the same content
   is a DUPLICATE, with other content a CONFLICT, and neither changes anything.
2. Of several actuals one is held: the greatest by (timestamp, canonical value text), a withdrawal (`null`) included;
   or the last received, where the deployment orders actuals by arrival. So any order of delivery ends the same.
3. An actual without a prediction is parked (EARLY) and matched when the prediction comes.
4. An actual of the held value advances the held instant when it is newer; no number changes (DUPLICATE).
5. A withdrawal opens the row again.
6. A refused record changes no row. Its status still carries the row as it stands.
7. A row gets two instants when it opens: `due`, until when it waits for its actual, and `drop`, until when a late
   actual may still correct it. A parked actual has `drop` only; a further one that it takes may move it on.
8. Time is the watermark of the row's deployment. It acts before a record does: a row that it has passed is closed, or
   forgotten, whether its timer has fired or not. So how records are polled together decides nothing.
9. What an actual between `due` and `drop` does is the deployment's late policy: it corrects, or it is only counted, or
   it is refused.

The table below is the whole of it: what a row's phase and an event make of each other.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from msgspec.structs import replace

from service.domain.deployment import LatePolicy, Spans
from service.domain.errors import Reason
from service.domain.outcomes import Outcome
from service.domain.row import RowPhase, RowState
from service.domain.watermark import NEVER


class Event(IntEnum):
    """A record, seen from the row it names. SAME, LESSER: compared with the held actual by rule 2."""

    PREDICTION = 0
    PREDICTION_AGAIN = 1
    PREDICTION_CHANGED = 2
    ACTUAL = 3
    ACTUAL_SAME = 4
    ACTUAL_LESSER = 5
    WITHDRAWAL = 6
    WITHDRAWAL_SAME = 7
    WITHDRAWAL_LESSER = 8
    LATE_ACTUAL = 9
    """An `ACTUAL` for a row that is past its `due`."""
    LATE_WITHDRAWAL = 10
    DUE = 11
    """The watermark has reached `due`."""
    DROP = 12
    """The watermark has reached `drop`."""


class Disposition(IntEnum):
    """Records that no row of the store stands for. Stored by name; with the rows they add up to the input."""

    PREDICTION_DUPLICATE = 0
    PREDICTION_CONFLICT = 1
    PREDICTION_REJECTED = 2
    PREDICTION_UNIDENTIFIED = 3
    ACTUAL_DUPLICATE = 4
    ACTUAL_SUPERSEDED = 5
    ACTUAL_WITHDRAWN = 6
    ACTUAL_ORPHANED = 7
    ACTUAL_REJECTED = 8
    PREDICTION_EXPIRED = 9
    """Unmatched, and its row is forgotten."""
    PREDICTION_SETTLED = 10
    """Matched, and its row is forgotten."""
    ACTUAL_SETTLED = 11
    ACTUAL_LATE_RECORDED = 12


PREDICTION_DISPOSITIONS = tuple(d for d in Disposition if d.name.startswith("PREDICTION"))
ACTUAL_DISPOSITIONS = tuple(d for d in Disposition if d.name.startswith("ACTUAL"))
PREDICTED_PHASES = frozenset(
    {RowPhase.OPEN, RowPhase.WITHDRAWN, RowPhase.MATCHED, RowPhase.UNMATCHED, RowPhase.UNMATCHED_WITHDRAWN}
)
"""Phases in which a row stands for one received prediction."""
HOLDING_PHASES = frozenset({RowPhase.PARKED, RowPhase.PARKED_WITHDRAWN, RowPhase.MATCHED})
"""Phases in which a row stands for one received actual."""


class Transition(NamedTuple):
    outcome: Outcome
    phase: RowPhase
    reason: Reason | None = None
    disposed: tuple[Disposition, ...] = ()


_P, _A, _O, _D = RowPhase, Event, Outcome, Disposition
_AGAIN = (_O.DUPLICATE, None, (_D.PREDICTION_DUPLICATE,))
_CHANGED = (_O.CONFLICT, None, (_D.PREDICTION_CONFLICT,))
_SAME = (_O.DUPLICATE, None, (_D.ACTUAL_DUPLICATE,))
_OLDER = (_O.DUPLICATE, Reason.OLDER_ACTUAL, (_D.ACTUAL_DUPLICATE,))


def _stay(phase: RowPhase, same: tuple[Outcome, Reason | None, tuple[Disposition, ...]]) -> Transition:
    outcome, reason, disposed = same
    return Transition(outcome, phase, reason, disposed)


TRANSITIONS: Mapping[tuple[RowPhase, Event], Transition] = {
    # no row yet
    (_P.ABSENT, _A.PREDICTION): Transition(_O.ACCEPTED, _P.OPEN),
    (_P.ABSENT, _A.ACTUAL): Transition(_O.EARLY, _P.PARKED),
    (_P.ABSENT, _A.WITHDRAWAL): Transition(_O.EARLY, _P.PARKED_WITHDRAWN),
    # an actual waits for its prediction
    (_P.PARKED, _A.PREDICTION): Transition(_O.MATCHED, _P.MATCHED),
    (_P.PARKED, _A.ACTUAL): Transition(_O.CORRECTED, _P.PARKED, None, (_D.ACTUAL_SUPERSEDED,)),
    (_P.PARKED, _A.ACTUAL_SAME): _stay(_P.PARKED, _SAME),
    (_P.PARKED, _A.ACTUAL_LESSER): _stay(_P.PARKED, _OLDER),
    (_P.PARKED, _A.WITHDRAWAL): Transition(_O.WITHDRAWN, _P.PARKED_WITHDRAWN, None, (_D.ACTUAL_SUPERSEDED,)),
    (_P.PARKED, _A.WITHDRAWAL_LESSER): _stay(_P.PARKED, _OLDER),
    # a withdrawal waits for its prediction
    (_P.PARKED_WITHDRAWN, _A.PREDICTION): Transition(_O.ACCEPTED, _P.WITHDRAWN, None, (_D.ACTUAL_WITHDRAWN,)),
    (_P.PARKED_WITHDRAWN, _A.ACTUAL): Transition(_O.EARLY, _P.PARKED, None, (_D.ACTUAL_SUPERSEDED,)),
    (_P.PARKED_WITHDRAWN, _A.ACTUAL_LESSER): _stay(_P.PARKED_WITHDRAWN, _OLDER),
    (_P.PARKED_WITHDRAWN, _A.WITHDRAWAL_SAME): _stay(_P.PARKED_WITHDRAWN, _SAME),
    # a prediction waits for its actual
    (_P.OPEN, _A.PREDICTION_AGAIN): _stay(_P.OPEN, _AGAIN),
    (_P.OPEN, _A.PREDICTION_CHANGED): _stay(_P.OPEN, _CHANGED),
    (_P.OPEN, _A.ACTUAL): Transition(_O.MATCHED, _P.MATCHED),
    (_P.OPEN, _A.WITHDRAWAL): Transition(_O.WITHDRAWN, _P.WITHDRAWN, None, (_D.ACTUAL_WITHDRAWN,)),
    # open again after a withdrawal
    (_P.WITHDRAWN, _A.PREDICTION_AGAIN): _stay(_P.WITHDRAWN, _AGAIN),
    (_P.WITHDRAWN, _A.PREDICTION_CHANGED): _stay(_P.WITHDRAWN, _CHANGED),
    (_P.WITHDRAWN, _A.ACTUAL): Transition(_O.MATCHED, _P.MATCHED),
    (_P.WITHDRAWN, _A.ACTUAL_LESSER): _stay(_P.WITHDRAWN, _OLDER),
    (_P.WITHDRAWN, _A.WITHDRAWAL_SAME): _stay(_P.WITHDRAWN, _SAME),
    # both are there
    (_P.MATCHED, _A.PREDICTION_AGAIN): _stay(_P.MATCHED, _AGAIN),
    (_P.MATCHED, _A.PREDICTION_CHANGED): _stay(_P.MATCHED, _CHANGED),
    (_P.MATCHED, _A.ACTUAL): Transition(_O.CORRECTED, _P.MATCHED, None, (_D.ACTUAL_SUPERSEDED,)),
    (_P.MATCHED, _A.ACTUAL_SAME): _stay(_P.MATCHED, _SAME),
    (_P.MATCHED, _A.ACTUAL_LESSER): _stay(_P.MATCHED, _OLDER),
    (_P.MATCHED, _A.WITHDRAWAL): Transition(
        _O.WITHDRAWN, _P.WITHDRAWN, None, (_D.ACTUAL_SUPERSEDED, _D.ACTUAL_WITHDRAWN)
    ),
    (_P.MATCHED, _A.WITHDRAWAL_LESSER): _stay(_P.MATCHED, _OLDER),
    (_P.MATCHED, _A.LATE_ACTUAL): Transition(_O.LATE_CORRECTED, _P.MATCHED, None, (_D.ACTUAL_SUPERSEDED,)),
    (_P.MATCHED, _A.LATE_WITHDRAWAL): Transition(
        _O.WITHDRAWN, _P.WITHDRAWN, None, (_D.ACTUAL_SUPERSEDED, _D.ACTUAL_WITHDRAWN)
    ),
    # no actual came in time
    (_P.UNMATCHED, _A.PREDICTION_AGAIN): _stay(_P.UNMATCHED, _AGAIN),
    (_P.UNMATCHED, _A.PREDICTION_CHANGED): _stay(_P.UNMATCHED, _CHANGED),
    (_P.UNMATCHED, _A.LATE_ACTUAL): Transition(_O.LATE_CORRECTED, _P.MATCHED),
    (_P.UNMATCHED, _A.LATE_WITHDRAWAL): Transition(_O.WITHDRAWN, _P.UNMATCHED_WITHDRAWN, None, (_D.ACTUAL_WITHDRAWN,)),
    # only a withdrawal came in time
    (_P.UNMATCHED_WITHDRAWN, _A.PREDICTION_AGAIN): _stay(_P.UNMATCHED_WITHDRAWN, _AGAIN),
    (_P.UNMATCHED_WITHDRAWN, _A.PREDICTION_CHANGED): _stay(_P.UNMATCHED_WITHDRAWN, _CHANGED),
    (_P.UNMATCHED_WITHDRAWN, _A.LATE_ACTUAL): Transition(_O.LATE_CORRECTED, _P.MATCHED),
    (_P.UNMATCHED_WITHDRAWN, _A.ACTUAL_LESSER): _stay(_P.UNMATCHED_WITHDRAWN, _OLDER),
    (_P.UNMATCHED_WITHDRAWN, _A.WITHDRAWAL_SAME): _stay(_P.UNMATCHED_WITHDRAWN, _SAME),
    # time passes
    (_P.OPEN, _A.DUE): Transition(_O.UNMATCHED, _P.UNMATCHED),
    (_P.WITHDRAWN, _A.DUE): Transition(_O.UNMATCHED, _P.UNMATCHED_WITHDRAWN),
    (_P.UNMATCHED, _A.DROP): Transition(_O.EXPIRED, _P.ABSENT, None, (_D.PREDICTION_EXPIRED,)),
    (_P.UNMATCHED_WITHDRAWN, _A.DROP): Transition(_O.EXPIRED, _P.ABSENT, None, (_D.PREDICTION_EXPIRED,)),
    (_P.MATCHED, _A.DROP): Transition(_O.FORGOTTEN, _P.ABSENT, None, (_D.PREDICTION_SETTLED, _D.ACTUAL_SETTLED)),
    (_P.PARKED, _A.DROP): Transition(_O.ORPHAN, _P.ABSENT, None, (_D.ACTUAL_ORPHANED,)),
    (_P.PARKED_WITHDRAWN, _A.DROP): Transition(_O.ORPHAN, _P.ABSENT, None, (_D.ACTUAL_ORPHANED,)),
}
"""Every pair that can occur; one that is not here is a bug and fails loudly."""

LATE_EVENTS = frozenset({Event.LATE_ACTUAL, Event.LATE_WITHDRAWAL})
NOT_TAKEN: Mapping[LatePolicy, tuple[Outcome, tuple[Disposition, ...]]] = {
    LatePolicy.RECORD: (_O.LATE_RECORDED, (_D.ACTUAL_LATE_RECORDED,)),
    LatePolicy.REJECT: (_O.LATE_REJECTED, (_D.ACTUAL_REJECTED,)),
}
"""What becomes of a `LATE_EVENTS` record where the late policy is not to correct; the row stays as it is."""

WITHDRAWAL = b"null"
"""Canonical text of a withdrawn actual."""


# Members of enumerations as plain names: looking one up in its class costs more than the rest of the call.
_FIRST, _AGAIN_SAME, _AGAIN_OTHER = Event.PREDICTION, Event.PREDICTION_AGAIN, Event.PREDICTION_CHANGED
_ACTUAL_EVENTS = (Event.ACTUAL, Event.ACTUAL_SAME, Event.ACTUAL_LESSER)
_WITHDRAWAL_EVENTS = (Event.WITHDRAWAL, Event.WITHDRAWAL_SAME, Event.WITHDRAWAL_LESSER)
_LATE = {Event.ACTUAL: Event.LATE_ACTUAL, Event.WITHDRAWAL: Event.LATE_WITHDRAWAL}
_WAITING = (RowPhase.OPEN, RowPhase.WITHDRAWN)


def prediction_event(row: RowState | None, content: int) -> Event:
    """What a prediction of this content is to the row (None: no row)."""
    if row is None or not row.prediction:
        return _FIRST
    return _AGAIN_SAME if row.content == content else _AGAIN_OTHER


def actual_event(row: RowState | None, actual_at: int, value: bytes, by_arrival: bool, watermark: int = NEVER) -> Event:
    """What an actual of this instant (microseconds) and canonical value is to the row, by rules 2 and 9."""
    winning, same, lesser = _WITHDRAWAL_EVENTS if value == WITHDRAWAL else _ACTUAL_EVENTS
    if row is None:
        return winning
    if row.actual:
        if value == row.actual:
            return same
        if not by_arrival and (actual_at, value) <= (row.actual_at, row.actual):
            return lesser
    return _LATE[winning] if 0 < row.due <= watermark else winning


def time_event(row: RowState, watermark: int) -> Event | None:
    """What the watermark is to the row, by rule 8; None: nothing yet."""
    if row.phase in _WAITING:
        return Event.DUE if row.due <= watermark else None
    return Event.DROP if row.drop <= watermark else None


def next_look(row: RowState) -> int:
    """The watermark at which time will act on this row."""
    return row.due if row.phase in _WAITING else row.drop


def closed(row: RowState, phase: RowPhase) -> RowState:
    """The row after its `due`."""
    return replace(row, phase=phase, revision=row.revision + 1)


def with_prediction(
    row: RowState | None,
    phase: RowPhase,
    spans: Spans,
    watermark: int,
    predicted_at: int,
    content: int,
    prediction: bytes,
    model: str,
    batch: str,
) -> RowState:
    """The row that this prediction opens, or that it completes where its actual was parked."""
    due = max(predicted_at, watermark) + spans.window
    revision, actual_at, label_day, actual = (
        (row.revision + 1, row.actual_at, row.label_day, row.actual) if row else (1, 0, 0, b"")
    )
    return RowState(
        phase,
        revision,
        predicted_at,
        actual_at,
        due,
        due + spans.grace,
        content,
        label_day,
        prediction,
        actual,
        model,
        batch,
    )


def with_actual(
    row: RowState | None, phase: RowPhase, spans: Spans, watermark: int, actual_at: int, value: bytes, label_day: int
) -> RowState:
    """The row that holds this actual from now on."""
    if row is None or not row.prediction:
        revision, drop = (0, 0) if row is None else (row.revision, row.drop)
        drop = max(drop, max(actual_at, watermark) + spans.early_ttl)
        return RowState(phase, revision + 1, 0, actual_at, 0, drop, 0, label_day, b"", value, "", "")
    return replace(row, phase=phase, revision=row.revision + 1, actual_at=actual_at, label_day=label_day, actual=value)


def with_newer_instant(row: RowState, actual_at: int, spans: Spans, watermark: int) -> RowState:
    """Rule 4: the row after an actual of the value it holds; the same object when nothing changes."""
    if actual_at <= row.actual_at and not spans.by_arrival:
        return row
    drop = row.drop if row.prediction else max(row.drop, max(actual_at, watermark) + spans.early_ttl)
    return replace(row, actual_at=actual_at, drop=drop)
