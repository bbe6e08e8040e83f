"""Applies the transition table to a micro-batch: one outcome per record, through an overlay over the store's rows.

Rows are unpacked when a record names them and packed again when they change; the store itself is not touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from service.domain.errors import Reason
from service.domain.ids import RESERVED_PREFIXES, has_association_id, record_row_id, row_key
from service.domain.join_window import (
    LATE_EVENTS,
    NOT_TAKEN,
    TRANSITIONS,
    WITHDRAWAL,
    Disposition,
    actual_event,
    closed,
    prediction_event,
    time_event,
    with_actual,
    with_newer_instant,
    with_prediction,
)
from service.domain.outcomes import Outcome
from service.domain.row import RowPhase, RowState, decode_row, encode_row
from service.pipeline.assign import Assigned, Refusal
from service.pipeline.columns import NO_NOTES, Arrivals, Notes, Refused
from service.pipeline.decode import known_ms, refused_at
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

    happened: list[Happened] = field(default_factory=list)
    rows: dict[bytes, bytes | None] = field(default_factory=dict)
    """New state of every row that changed, by key."""
    opened: list[tuple[bytes, RowState]] = field(default_factory=list)
    """Rows that need a timer, by key, as they were when they came to need it."""
    counted: list[tuple[int, int]] = field(default_factory=list)
    """Predictions whose traffic and features count: position among the predictions, and in `happened`."""
    pairs: list[Pair] = field(default_factory=list)
    dispositions: dict[str, dict[Disposition, int]] = field(default_factory=dict)
    dead: list[Refused] = field(default_factory=list)

    def dispose(self, deployment: str, disposed: Iterable[Disposition]) -> None:
        counts = self.dispositions.setdefault(deployment, {})
        for disposition in disposed:
            counts[disposition] = counts.get(disposition, 0) + 1


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


def row_batches(rows: Mapping[bytes, RowState]) -> set[BatchKey]:
    """The monitoring batches that these rows belong to."""
    named = {(key[: key.index(b"/")], row.batch) for key, row in rows.items() if row.batch}
    return {(name.decode(), batch) for name, batch in named}


def unpacked(keys: Sequence[bytes], states: Sequence[bytes | None]) -> dict[bytes, RowState]:
    """The stored rows, by key."""
    return {key: decode_row(state) for key, state in zip(keys, states, strict=True) if state is not None}


# Members of enumerations as plain names: looking one up in its class is slow, and this is done for every record.
_ABSENT, _MATCHED_PHASE, _WITHDRAWN_PHASE = RowPhase.ABSENT, RowPhase.MATCHED, RowPhase.WITHDRAWN
_ACCEPTED, _MATCHED, _DUPLICATE = Outcome.ACCEPTED, Outcome.MATCHED, Outcome.DUPLICATE
_LATE_REJECTED = Outcome.LATE_REJECTED

_ORPHANED: tuple[Disposition, ...] = (Disposition.ACTUAL_ORPHANED,)
_UNIDENTIFIED: tuple[Disposition, ...] = (Disposition.PREDICTION_UNIDENTIFIED,)
_RECORD = "record:"
_new = tuple.__new__
"""Makes a named tuple of a tuple in a third of the time that its own constructor takes."""


class Joiner:
    """Joins one micro-batch over the rows that the store holds."""

    def __init__(
        self, rows: Mapping[bytes, RowState], watermarks: Mapping[str, int], deleted: frozenset[BatchKey]
    ) -> None:
        self._rows = dict(rows)
        self._watermarks = watermarks
        self._deleted = deleted
        self.joined = Joined()

    def join(self, assigned: Assigned, due: Iterable[bytes] = ()) -> Joined:
        """Apply time to the rows that are `due` for a look, then the records."""
        for key in due:
            if key in self._rows:
                name = key[: key.index(b"/")].decode()
                row = self._rows[key]
                if self._timed(key, name, row) is row:
                    self.joined.opened.append((key, row))
        self._join_predictions(assigned)
        self._join_actuals(assigned)
        for refused in assigned.refused:
            self._refuse(refused)
        self.joined.dead.extend(assigned.unknown)
        return self.joined

    def _join_predictions(self, assigned: Assigned) -> None:
        columns, joined, rows = assigned.predictions, self.joined, self._rows
        happened, skipped, refusals = joined.happened, assigned.refused_predictions, assigned.refusal
        notes, deployment = columns.arrivals.notes.get, ""
        records = zip(
            columns.key, columns.deployment, columns.row_id, columns.content, columns.prediction, assigned.model,
            assigned.batch, columns.at.tolist(), _origins(columns.arrivals), strict=True,
        )  # fmt: skip
        for i, (key, name, row_id, content, prediction, model, batch, at, origin) in enumerate(records):
            if i in skipped:
                continue
            if name != deployment:
                deployment, spans, watermark = name, assigned.spans[name], self._watermarks[name]
            row = rows.get(key)
            if row is not None and (row.due or row.drop) <= watermark:
                row = self._timed(key, name, row)
            phase = _ABSENT if row is None else row.phase
            outcome, after, reason, disposed = TRANSITIONS[phase, prediction_event(row, content)]  # type: ignore[index]
            if outcome is _ACCEPTED or outcome is _MATCHED:
                if i in refusals:
                    self._refuse_opening(assigned, i, refusals[i])
                    continue
                joined.counted.append((i, len(happened)))
                row = with_prediction(row, after, spans, watermark, at, content, prediction, model, batch)
                if row_id.startswith(RESERVED_PREFIXES):
                    reason = Reason.NO_ASSOCIATION_ID
                if row_id.startswith(_RECORD):
                    # it can never be named again: counted, shown, and not kept
                    disposed, state = _UNIDENTIFIED, b""
                else:
                    state = self._put(key, row)
                    joined.opened.append((key, row))
                    if outcome is _MATCHED:
                        reason = self._count(+1, name, row)
            else:
                state = self._state(key, row)
            if disposed:
                joined.dispose(name, disposed)
            shown = (outcome, reason, name, row_id, key, row, state, b"", origin, notes(i, NO_NOTES), at)
            happened.append(_new(Happened, shown))

    def _join_actuals(self, assigned: Assigned) -> None:
        columns, joined, rows = assigned.actuals, self.joined, self._rows
        happened, notes, deployment = joined.happened, columns.arrivals.notes.get, ""
        records = zip(
            columns.key, columns.deployment, columns.row_id, assigned.canonical, columns.at.tolist(),
            (columns.received_ms // 86_400_000).tolist(), _origins(columns.arrivals), strict=True,
        )  # fmt: skip
        for i, (key, name, row_id, value, at, label_day, origin) in enumerate(records):
            if value is None:
                continue
            if name != deployment:
                deployment, spans, watermark = name, assigned.spans[name], self._watermarks[name]
            row = rows.get(key)
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
                state = self._put(key, row) if row is not None and row is not before else self._state(key, row)
            if disposed:
                joined.dispose(name, disposed)
            shown = (outcome, reason, name, row_id, key, row, state, previous, origin, notes(i, NO_NOTES), at)
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
                self._pass(outcome, name, row_id, key, row, self._state(key, row), row.actual_at)
                outcome = Outcome.FORGOTTEN
            self._pass(outcome, name, row_id, key, row, b"", row.actual_at)
            del self._rows[key]
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
        row = self._rows.get(key)
        if row is not None:
            row = self._timed(key, name, row)
        outcome = _REFUSALS.get(refused.reason, Outcome.INVALID)
        rejected = Disposition.PREDICTION_REJECTED if refused.is_prediction else Disposition.ACTUAL_REJECTED
        self.joined.dispose(name, (rejected,))
        at = known_ms(refused.letter.timestamp) * 1000
        state = self._state(key, row)
        self.joined.happened.append(
            Happened(
                outcome, refused.reason, name, row_id, key, row, state, b"", Source(*refused.origin), refused.notes, at
            )
        )

    def _put(self, key: bytes, row: RowState) -> bytes:
        self._rows[key] = row
        state = self.joined.rows[key] = encode_row(row)
        return state

    def _state(self, key: bytes, row: RowState | None) -> bytes:
        """The row as it is packed, changed by this micro-batch or not; empty where there is none."""
        if row is None:
            return b""
        return self.joined.rows.get(key) or encode_row(row)

    def _count(self, sign: int, deployment: str, row: RowState) -> Reason | None:
        """Count a pair, unless its monitoring batch was deleted: then the row changes and no number."""
        if row.batch and (deployment, row.batch) in self._deleted:
            return Reason.DELETED
        self.joined.pairs.append(_new(Pair, (sign, deployment, row)))
        return None


def _origins(arrivals: Arrivals) -> list[Source]:
    if arrivals.forwarded:
        return [Source(*arrivals.origin(i)) for i in range(len(arrivals.records))]
    topic, partition = arrivals.topic, arrivals.partition
    return [Source(topic, partition, record.offset) for record in arrivals.records]


_REFUSALS = {
    Reason.MISSING_ASSOCIATION_ID: Outcome.MISSING_ASSOCIATION_ID,
    Reason.BATCH_LOCKED: Outcome.BATCH_LOCKED,
    Reason.BATCH_DELETED: Outcome.BATCH_DELETED,
    Reason.UNKNOWN_BATCH: Outcome.UNKNOWN_BATCH,
}
