"""Applies the transition table to a micro-batch: one outcome per record, through an overlay over the store's rows.

Rows are unpacked when a record names them and packed again when they change; the store itself is not touched.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from service.domain.errors import Reason
from service.domain.ids import has_association_id, record_row_id, row_key
from service.domain.join_window import (
    TRANSITIONS,
    WITHDRAWAL,
    Disposition,
    actual_event,
    prediction_event,
    with_actual,
    with_newer_instant,
    with_prediction,
)
from service.domain.outcomes import Outcome
from service.domain.row import RowPhase, RowState, decode_row, encode_row
from service.pipeline.assign import Assigned, Refusal
from service.pipeline.columns import Notes, Origin, Refused
from service.pipeline.decode import letter_of
from service.pipeline.registry import BatchKey
from service.wire.events import Identity


class Happened(NamedTuple):
    """What one record led to. `row` is the row after it, None where there is none."""

    outcome: Outcome
    reason: Reason | None
    deployment: str
    row_id: str
    key: bytes
    row: RowState | None
    state: bytes
    """The row as packed, empty where there is none."""
    previous_actual: bytes
    origin: Origin
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
    opened: list[tuple[bytes, RowState, str]] = field(default_factory=list)
    """Rows that need a timer: key, row, deployment."""
    counted: list[int] = field(default_factory=list)
    """Positions of the predictions whose traffic and features count."""
    pairs: list[Pair] = field(default_factory=list)
    dispositions: dict[str, dict[Disposition, int]] = field(default_factory=dict)
    dead: list[Refused] = field(default_factory=list)

    def dispose(self, deployment: str, disposed: Iterable[Disposition]) -> None:
        counts = self.dispositions.setdefault(deployment, {})
        for disposition in disposed:
            counts[disposition] = counts.get(disposition, 0) + 1


def keys_of(assigned: Assigned) -> list[bytes]:
    """Every row that the records name, each once."""
    named = (
        zip(assigned.predictions.deployment, assigned.predictions.row_id, strict=True),
        zip(assigned.actuals.deployment, assigned.actuals.row_id, strict=True),
        ((one.identity.deployment_id, one.identity.association_id) for one in assigned.refused),
    )
    return list(dict.fromkeys(row_key(name, row_id) for name, row_id in chain(*named) if name and row_id))


def row_batches(stored: Iterable[bytes | None], keys: Sequence[bytes]) -> set[BatchKey]:
    """The monitoring batches that these stored rows belong to."""
    found = set()
    for key, state in zip(keys, stored, strict=True):
        if state is not None and (batch := decode_row(state).batch):
            found.add((key.split(b"/", 1)[0].decode(), batch))
    return found


class Joiner:
    """Joins one micro-batch over the rows that the store holds."""

    def __init__(
        self, stored: Mapping[bytes, bytes], watermarks: Mapping[str, int], deleted: frozenset[BatchKey]
    ) -> None:
        self._states = dict(stored)
        self._rows: dict[bytes, RowState] = {}
        self._watermarks = watermarks
        self._deleted = deleted
        self.joined = Joined()

    def join(self, assigned: Assigned, label_days: Sequence[int]) -> Joined:
        """`label_days`: UTC day (days since 1970) on which each actual was received."""
        self._join_predictions(assigned)
        self._join_actuals(assigned, label_days)
        for refused in assigned.refused:
            self._refuse(refused)
        self.joined.dead.extend(assigned.unknown)
        return self.joined

    def _join_predictions(self, assigned: Assigned) -> None:
        columns = assigned.predictions
        for i, (name, row_id) in enumerate(zip(columns.deployment, columns.row_id, strict=True)):
            if i in assigned.refused_predictions:
                continue
            origin, notes, at = columns.origin[i], columns.notes[i], columns.predicted_at[i]
            key = row_key(name, row_id)
            row = self._row(key)
            transition = TRANSITIONS[
                RowPhase.ABSENT if row is None else row.phase, prediction_event(row, columns.content[i])  # type: ignore[index]
            ]
            outcome, phase, reason, disposed = transition
            opens = outcome is Outcome.ACCEPTED or outcome is Outcome.MATCHED
            refusal = assigned.refusal[i]
            if opens and refusal is not None:
                self._refuse_opening(assigned, i, refusal)
                continue
            if opens:
                self.joined.counted.append(i)
                row = with_prediction(
                    row, phase, assigned.spans[name], self._watermarks[name], at, columns.content[i],
                    columns.prediction[i], assigned.model[i], assigned.batch[i],
                )  # fmt: skip
                if row_id.startswith("record:"):
                    disposed, reason = (Disposition.PREDICTION_UNIDENTIFIED,), Reason.NO_ASSOCIATION_ID
                    self._note(outcome, reason, name, row_id, key, row, b"", b"", origin, notes, at)
                    self.joined.dispose(name, disposed)
                    continue
                if not has_association_id(row_id):
                    reason = Reason.NO_ASSOCIATION_ID
                self._put(key, row)
                self.joined.opened.append((key, row, name))
                if outcome is Outcome.MATCHED:
                    reason = self._count(+1, name, row) or reason
            if disposed:
                self.joined.dispose(name, disposed)
            self._note(outcome, reason, name, row_id, key, row, self._states[key], b"", origin, notes, at)

    def _join_actuals(self, assigned: Assigned, label_days: Sequence[int]) -> None:
        columns = assigned.actuals
        for i, (name, row_id) in enumerate(zip(columns.deployment, columns.row_id, strict=True)):
            value = assigned.canonical[i]
            if value is None:
                continue
            origin, notes, at = columns.origin[i], columns.notes[i], columns.actual_at[i]
            key = row_key(name, row_id)
            row = before = self._row(key)
            spans = assigned.spans[name]
            if row is None and not columns.keep[i]:
                self.joined.dispose(name, (Disposition.ACTUAL_ORPHANED,))
                self._note(Outcome.ORPHAN, Reason.NOT_KEPT, name, row_id, key, None, b"", b"", origin, notes, at)
                continue
            event = actual_event(row, at, value, spans.by_arrival)
            outcome, phase, reason, disposed = TRANSITIONS[RowPhase.ABSENT if row is None else row.phase, event]  # type: ignore[index]
            previous = b""
            if outcome is not Outcome.DUPLICATE:
                row = with_actual(row, phase, spans, self._watermarks[name], at, value, label_days[i])
                self._put(key, row)
                if before is None:
                    self.joined.opened.append((key, row, name))
                else:
                    previous = b"" if before.actual == WITHDRAWAL else before.actual
                    if before.phase == RowPhase.MATCHED:
                        reason = self._count(-1, name, before) or reason
                if phase is RowPhase.MATCHED:
                    reason = self._count(+1, name, row) or reason
            elif row is not None and value == row.actual:
                row = with_newer_instant(row, at, spans.by_arrival)
                if row is not before:
                    self._put(key, row)
            if disposed:
                self.joined.dispose(name, disposed)
            self._note(outcome, reason, name, row_id, key, row, self._states.get(key, b""), previous, origin, notes, at)

    def _refuse_opening(self, assigned: Assigned, i: int, refusal: Refusal) -> None:
        columns = assigned.predictions
        name, row_id = columns.deployment[i], columns.row_id[i]
        reason, detail = refusal
        identity = Identity(name, row_id if has_association_id(row_id) else None)
        self._refuse(
            Refused(True, columns.origin[i], columns.notes[i], identity, reason, detail, letter_of(columns.record[i]))
        )

    def _refuse(self, refused: Refused) -> None:
        """A dead letter; with a deployment a status too, which shows the row as it stands."""
        self.joined.dead.append(refused)
        name = refused.identity.deployment_id
        assert name is not None
        row_id = refused.identity.association_id or record_row_id(*refused.origin)
        key = row_key(name, row_id)
        row = self._row(key)
        outcome = _REFUSALS.get(refused.reason, Outcome.INVALID)
        rejected = Disposition.PREDICTION_REJECTED if refused.is_prediction else Disposition.ACTUAL_REJECTED
        self.joined.dispose(name, (rejected,))
        state, at = self._states.get(key, b""), refused.letter.timestamp * 1000
        self._note(outcome, refused.reason, name, row_id, key, row, state, b"", refused.origin, refused.notes, at)

    def _row(self, key: bytes) -> RowState | None:
        row = self._rows.get(key)
        if row is None and (state := self._states.get(key)) is not None:
            row = self._rows[key] = decode_row(state)
        return row

    def _put(self, key: bytes, row: RowState) -> None:
        self._rows[key] = row
        self.joined.rows[key] = self._states[key] = encode_row(row)

    def _count(self, sign: int, deployment: str, row: RowState) -> Reason | None:
        """Count a pair, unless its monitoring batch was deleted: then the row changes and no number."""
        if row.batch and (deployment, row.batch) in self._deleted:
            return Reason.DELETED
        self.joined.pairs.append(Pair(sign, deployment, row))
        return None

    def _note(self, *happened: object) -> None:
        self.joined.happened.append(Happened(*happened))  # type: ignore[arg-type]


_REFUSALS = {
    Reason.MISSING_ASSOCIATION_ID: Outcome.MISSING_ASSOCIATION_ID,
    Reason.BATCH_LOCKED: Outcome.BATCH_LOCKED,
    Reason.BATCH_DELETED: Outcome.BATCH_DELETED,
    Reason.UNKNOWN_BATCH: Outcome.UNKNOWN_BATCH,
}
