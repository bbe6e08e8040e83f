"""Applies the transition table to a micro-batch: one outcome per record, through an overlay over the store's rows.

What nearly every record does is done for all of them at once (`join_columns`); here is the rest, record by record. Its
rows are unpacked when a record names them and packed again when they change; the store itself is not touched.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.domain.errors import Reason
from service.domain.ids import RESERVED_PREFIXES, has_association_id, record_row_id, row_key
from service.domain.join_window import (
    LATE_EVENTS,
    NOT_TAKEN,
    TRANSITIONS,
    WITHDRAWAL,
    Disposition,
    Event,
    actual_event,
    closed,
    prediction_event,
    time_event,
    with_actual,
    with_newer_instant,
    with_prediction,
)
from service.domain.outcomes import Outcome
from service.domain.row import RowPhase, RowState, batch_of, decode_row, encode_row
from service.domain.timers import Waiting, waiting_columns, waiting_rows
from service.pipeline.assign import Assigned, Refusal
from service.pipeline.columns import NO_NOTES, Notes, Refused
from service.pipeline.decode import known_ms, refused_at
from service.pipeline.join_columns import ColumnJoiner, HappenedColumns, Passed, Place, Rows, picked
from service.pipeline.registry import BatchKey
from service.wire.events import Identity, Unusable
from service.wire.status import Source


class Happened(NamedTuple):
    """What one record, or time, led to. `row` is the row after it, None where there is none.

    An outcome of `ENDS` ends the row, which it shows as it was: a tombstone instead of a status.
    """

    outcome: Outcome
    reason: Reason | None
    deployment: str
    row_id: str
    key: bytes
    row: RowState | None
    state: bytes
    """The row as packed, empty where there is none."""
    previous_actual: bytes
    origin: Source | None
    """None where time brought it about."""
    notes: Notes
    event_at: int
    """Event time of the record, microseconds since 1970; of a refused one the time that Kafka gave."""


class Pair(NamedTuple):
    """A prediction and its actual, added to (+1) or taken away from (-1) the accuracy of the row's cell."""

    sign: int
    deployment: str
    row: RowState


@dataclass(slots=True)
class Joined:
    """Everything that a micro-batch made happen, in the order of its statuses."""

    parts: list[list[Happened] | HappenedColumns] = field(default_factory=lambda: [[]])
    places: dict[Place, int] = field(default_factory=dict)
    """The places that columns point to."""
    rows: dict[bytes, bytes | None] = field(default_factory=dict)
    """New state of every row that changed, by key."""
    opened: list[tuple[bytes, RowState]] = field(default_factory=list)
    """Rows that need a timer besides those that columns have opened, by key, as they were when they came to need it."""
    waits_on: list[Waiting] = field(default_factory=list)
    """Rows that time has looked at and not acted on, besides those in `opened`."""
    counted: list[tuple[int, str, RowState, bool]] = field(default_factory=list)
    """Predictions whose traffic and features count, besides those in columns: position among the predictions,
    deployment, the row, and whether it is kept."""
    pairs: list[Pair] = field(default_factory=list)
    """Besides those in columns."""
    dispositions: dict[str, dict[Disposition, int]] = field(default_factory=dict)
    dead: list[Refused] = field(default_factory=list)

    @property
    def happened(self) -> list[Happened]:
        """What happens now is added here."""
        last = self.parts[-1]
        if isinstance(last, HappenedColumns):
            last = []
            self.parts.append(last)
        return last

    def outcomes(self) -> Counter[Outcome]:
        """How much of each happened."""
        counts: Counter[Outcome] = Counter()
        for part in self.parts:
            if isinstance(part, HappenedColumns):
                counts[part.outcome] += len(part.key)
            else:
                counts.update([one[0] for one in part])
        return counts

    def waiting(self) -> list[Waiting]:
        """The rows that need a timer."""
        found = waiting_rows(self.opened) + self.waits_on
        for part in self.parts:
            if isinstance(part, HappenedColumns) and (looks := part.looks) is not None:
                found += waiting_columns(part.deployment, part.key, looks)
        return found

    def dispose(self, deployment: str, disposed: Collection[Disposition], times: int = 1) -> None:
        if disposed:
            counts = self.dispositions.setdefault(deployment, {})
            for disposition in disposed:
                counts[disposition] = counts.get(disposition, 0) + times


def keys_of(assigned: Assigned, due: Iterable[bytes]) -> list[bytes]:
    """Every row that the records name, or that is `due`, each once."""
    keys = dict.fromkeys(due)
    keys.update(dict.fromkeys(assigned.predictions.key))
    keys.update(dict.fromkeys(assigned.actuals.key))
    for refused in assigned.refused:
        name, row_id = refused.identity
        if name and row_id:
            keys[row_key(name, row_id)] = None
    return list(keys)


def row_batches(rows: Mapping[bytes, bytes | None]) -> set[BatchKey]:
    """The monitoring batches that these packed rows belong to."""
    named = set()
    for key, state in rows.items():
        if state is not None and (batch := batch_of(state)):
            named.add((key[: key.index(b"/")], batch))
    return {(name.decode(), batch.decode()) for name, batch in named}


# Members of enumerations as plain names: looking one up in its class is slow, and this is done for every record.
_ABSENT, _MATCHED_PHASE, _WITHDRAWN_PHASE = RowPhase.ABSENT, RowPhase.MATCHED, RowPhase.WITHDRAWN
_ACCEPTED, _MATCHED, _DUPLICATE = Outcome.ACCEPTED, Outcome.MATCHED, Outcome.DUPLICATE
_LATE_REJECTED = Outcome.LATE_REJECTED

_BEFORE = {
    Outcome.UNMATCHED: (RowPhase.OPEN, Event.DUE),
    Outcome.FORGOTTEN: (RowPhase.MATCHED, Event.DROP),
    Outcome.EXPIRED: (RowPhase.UNMATCHED, Event.DROP),
}
"""What time does by columns."""
_ORPHANED: tuple[Disposition, ...] = (Disposition.ACTUAL_ORPHANED,)
_UNIDENTIFIED: tuple[Disposition, ...] = (Disposition.PREDICTION_UNIDENTIFIED,)
_RECORD = "record:"
_new = tuple.__new__
"""Makes a named tuple of a tuple in a third of the time that its own constructor takes."""


class Joiner:
    """Joins one micro-batch over the rows that the store holds."""

    def __init__(
        self, stored: Mapping[bytes, bytes | None], watermarks: Mapping[str, int], deleted: frozenset[BatchKey]
    ) -> None:
        self._packed = Rows(stored)
        self._unpacked: dict[bytes, RowState] = {}
        """Rows that were looked at one by one, as they are now."""
        self._watermarks = watermarks
        self._deleted = deleted
        self.joined = Joined(rows=self._packed.changed)

    def join(self, assigned: Assigned, due: Iterable[bytes] = ()) -> Joined:
        """Apply time to the rows that are `due` for a look, then the records."""
        columns = ColumnJoiner(self._packed, assigned, self._watermarks, self._deleted, self.joined.places)
        for key in self._passed(columns.passed(due)):
            if (row := self._row(key)) is not None:
                name = key[: key.index(b"/")].decode()
                if self._timed(key, name, row) is row:
                    self.joined.opened.append((key, row))
        self._join_predictions(assigned, self._done(columns.opened()))
        self._join_actuals(assigned, self._done(columns.matched()))
        for refused in assigned.refused:
            self._refuse(refused)
        self.joined.dead.extend(assigned.unknown)
        return self.joined

    def _passed(self, passed: Passed) -> Sequence[bytes]:
        """Add what time did by columns. Returns the keys of the rows that are left."""
        self.joined.waits_on += passed.waiting
        for happened in passed.happened:
            self.joined.parts.append(happened)
            disposed = TRANSITIONS[_BEFORE[happened.outcome]].disposed
            for name, rows in Counter(happened.deployment).items():
                self.joined.dispose(name, disposed, rows)
        return passed.left

    def _done(self, happened: HappenedColumns | None) -> Collection[int]:
        """Add what happened by columns. Returns the positions of its records, which are not to be looked at again."""
        if happened is None:
            return ()
        self.joined.parts.append(happened)
        for key in self._unpacked.keys() & set(happened.key) if self._unpacked else ():
            del self._unpacked[key]
        return set(happened.positions)

    def _row(self, key: bytes) -> RowState | None:
        row = self._unpacked.get(key)
        if row is None and (state := self._packed[key]) is not None:
            row = self._unpacked[key] = decode_row(state)
        return row

    def _join_predictions(self, assigned: Assigned, done: Collection[int]) -> None:
        columns, joined = assigned.predictions, self.joined
        if len(done) == len(columns.key):
            return
        happened, refusals = joined.happened, assigned.refusal
        notes, deployment = columns.arrivals.notes.get, ""
        given = (
            columns.key, columns.deployment, columns.row_id, columns.content, columns.prediction, assigned.model,
            assigned.batch, columns.at.tolist(),
        )  # fmt: skip
        left = _left(given, done, assigned.refused_predictions)
        for i, key, name, row_id, content, prediction, model, batch, at in left:
            if name != deployment:
                deployment, spans, watermark = name, assigned.spans[name], self._watermarks[name]
            row = self._row(key)
            if row is not None and (row.due or row.drop) <= watermark:
                row = self._timed(key, name, row)
            phase = _ABSENT if row is None else row.phase
            outcome, after, reason, disposed = TRANSITIONS[phase, prediction_event(row, content)]  # type: ignore[index]
            if outcome is _ACCEPTED or outcome is _MATCHED:
                if i in refusals:
                    self._refuse_opening(assigned, i, refusals[i])
                    continue
                row = with_prediction(row, after, spans, watermark, at, content, prediction, model, batch)
                is_kept = not row_id.startswith(_RECORD)
                joined.counted.append((i, name, row, is_kept))
                if row_id.startswith(RESERVED_PREFIXES):
                    reason = Reason.NO_ASSOCIATION_ID
                if is_kept:
                    state = self._put(key, row)
                    joined.opened.append((key, row))
                    if outcome is _MATCHED:
                        reason = self._count(+1, name, row)
                else:  # it can never be named again: counted and shown
                    disposed, state = _UNIDENTIFIED, b""
            else:
                state = self._state(key)
            joined.dispose(name, disposed)
            source, said = Source(*columns.arrivals.origin(i)), notes(i, NO_NOTES)
            shown = (outcome, reason, name, row_id, key, row, state, b"", source, said, at)
            happened.append(_new(Happened, shown))

    def _join_actuals(self, assigned: Assigned, done: Collection[int]) -> None:
        columns, joined = assigned.actuals, self.joined
        if len(done) == len(columns.key):
            return
        happened, notes, deployment = joined.happened, columns.arrivals.notes.get, ""
        label_days = (columns.received_ms // 86_400_000).tolist()
        given = (columns.key, columns.deployment, columns.row_id, assigned.canonical, columns.at.tolist(), label_days)
        for i, key, name, row_id, value, at, label_day in _left(given, done, assigned.refused_actuals):
            if name != deployment:
                deployment, spans, watermark = name, assigned.spans[name], self._watermarks[name]
            row = self._row(key)
            if row is not None and (row.due or row.drop) <= watermark:
                row = self._timed(key, name, row)
            before, previous = row, b""
            reason: Reason | None
            if row is None and columns.events[i].keep_without_prediction is False:
                outcome, reason, disposed, state = Outcome.ORPHAN, Reason.NOT_KEPT, _ORPHANED, b""
            else:
                phase = _ABSENT if row is None else row.phase
                event = actual_event(row, at, value, spans.by_arrival, watermark)
                outcome, after, reason, disposed = TRANSITIONS[phase, event]  # type: ignore[index]
                if event in LATE_EVENTS and spans.late_policy in NOT_TAKEN:
                    outcome, disposed = NOT_TAKEN[spans.late_policy]
                    if outcome is _LATE_REJECTED:
                        reason = self._reject_late(assigned, i)
                elif outcome is not _DUPLICATE:
                    row = with_actual(row, after, spans, watermark, at, value, label_day)
                    previous = b"" if before is None or before.actual == WITHDRAWAL else before.actual
                    reason = self._held(key, name, before, row)
                elif row is not None and value == row.actual:
                    row = with_newer_instant(row, at, spans, watermark)
                state = self._put(key, row) if row is not None and row is not before else self._state(key)
            joined.dispose(name, disposed)
            source, said = Source(*columns.arrivals.origin(i)), notes(i, NO_NOTES)
            shown = (outcome, reason, name, row_id, key, row, state, previous, source, said, at)
            happened.append(_new(Happened, shown))
            if row is not before and row is not None and 0 < row.due <= watermark:
                self._timed(key, name, row)

    def _held(self, key: bytes, name: str, before: RowState | None, row: RowState) -> Reason | None:
        """The row holds another actual than before: count what that changes, and set a timer where it needs one."""
        reason = None
        if row.due == 0 or row.phase == _WITHDRAWN_PHASE:
            self.joined.opened.append((key, row))
        if before is not None and before.phase == _MATCHED_PHASE:
            reason = self._count(-1, name, before)
        if row.phase == _MATCHED_PHASE:
            reason = self._count(+1, name, row)
        return reason

    def _timed(self, key: bytes, name: str, row: RowState) -> RowState | None:
        """The row as the watermark has left it, with everything that time made of it in the order of happening."""
        watermark = self._watermarks[name]
        while (event := time_event(row, watermark)) is not None:
            outcome, after, _, disposed = TRANSITIONS[row.phase, event]  # type: ignore[index]
            self.joined.dispose(name, disposed)
            row_id = key[len(name) + 1 :].decode()
            if outcome is Outcome.UNMATCHED:
                row = closed(row, after)
                state = self._put(key, row)
                self._pass(outcome, name, row_id, key, row, state, row.predicted_at)
                self.joined.opened.append((key, row))
                continue
            if outcome is Outcome.ORPHAN:
                self._pass(outcome, name, row_id, key, row, self._state(key), row.actual_at)
                outcome = Outcome.FORGOTTEN
            self._pass(outcome, name, row_id, key, row, b"", row.actual_at)
            del self._unpacked[key]
            self.joined.rows[key] = None
            return None
        return row

    def _pass(self, outcome: Outcome, name: str, row_id: str, key: bytes, row: RowState, state: bytes, at: int) -> None:
        self.joined.happened.append(Happened(outcome, None, name, row_id, key, row, state, b"", None, NO_NOTES, at))

    def _reject_late(self, assigned: Assigned, i: int) -> Reason:
        """A dead letter for an actual that came too late; its status is made by the caller."""
        columns = assigned.actuals
        identity = Identity(columns.deployment[i], columns.row_id[i])
        error = Unusable(Reason.LATE, "timestamp: the window of the prediction has closed", identity)
        self.joined.dead.append(refused_at(columns.arrivals, i, False, error))
        return Reason.LATE

    def _refuse_opening(self, assigned: Assigned, i: int, refusal: Refusal) -> None:
        columns = assigned.predictions
        named = columns.row_id[i] if has_association_id(columns.row_id[i]) else None
        error = Unusable(*refusal, Identity(columns.deployment[i], named))
        self._refuse(refused_at(columns.arrivals, i, True, error))

    def _refuse(self, refused: Refused) -> None:
        """A dead letter, and a status that shows the row as it stands."""
        self.joined.dead.append(refused)
        name = refused.identity.deployment_id
        assert name is not None
        row_id = refused.identity.association_id or record_row_id(*refused.origin)
        key = row_key(name, row_id)
        row = self._row(key)
        if row is not None:
            row = self._timed(key, name, row)
        outcome = _REFUSALS.get(refused.reason, Outcome.INVALID)
        rejected = Disposition.PREDICTION_REJECTED if refused.is_prediction else Disposition.ACTUAL_REJECTED
        self.joined.dispose(name, (rejected,))
        at = known_ms(refused.letter.timestamp) * 1000
        state = self._state(key)
        self.joined.happened.append(
            Happened(
                outcome, refused.reason, name, row_id, key, row, state, b"", Source(*refused.origin), refused.notes, at
            )
        )

    def _put(self, key: bytes, row: RowState) -> bytes:
        self._unpacked[key] = row
        state = self.joined.rows[key] = encode_row(row)
        return state

    def _state(self, key: bytes) -> bytes:
        """The row as it is packed, changed by this micro-batch or not; empty where there is none."""
        return self._packed[key] or b""

    def _count(self, sign: int, deployment: str, row: RowState) -> Reason | None:
        """Count a pair, unless its monitoring batch was deleted: then the row changes and no number."""
        if row.batch and (deployment, row.batch) in self._deleted:
            return Reason.DELETED
        self.joined.pairs.append(_new(Pair, (sign, deployment, row)))
        return None


def _left(columns: Sequence[Sequence[Any]], *done: Collection[int]) -> Iterator[tuple[Any, ...]]:
    """Of each record that is left its position and what the columns hold of it."""
    positions = sorted(set(range(len(columns[0]))).difference(*done))
    return zip(positions, *[picked(column, positions) for column in columns], strict=True)


_REFUSALS = {
    Reason.MISSING_ASSOCIATION_ID: Outcome.MISSING_ASSOCIATION_ID,
    Reason.BATCH_LOCKED: Outcome.BATCH_LOCKED,
    Reason.BATCH_DELETED: Outcome.BATCH_DELETED,
    Reason.UNKNOWN_BATCH: Outcome.UNKNOWN_BATCH,
}
