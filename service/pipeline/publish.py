"""Builds the outgoing records of a micro-batch: statuses, dead letters, strays, events of monitoring batches.

They are complete, and small enough for the broker, before the ledger transaction begins; what the slot holds is what
is published.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from msgspec import Raw

from service.domain.ids import has_association_id
from service.domain.outcomes import Outcome
from service.domain.records import MAX_RECORD_BYTES, OutRecord, Topic, size_of
from service.domain.row import RowState
from service.pipeline.columns import Refused
from service.pipeline.join import Happened
from service.wire.dead_letter import dead_letter_headers, truncated
from service.wire.status import (
    HEADER_SOURCE,
    HEADER_STATE,
    HEADER_TRACE,
    HEADER_VERSION,
    RowStatus,
    Source,
    encode_status,
)

_KEY_KEPT = 64 * 1024
_new = tuple.__new__


def status_records(
    happened: Sequence[Happened], task: int, first_seq: int, version: int, now_ms: int
) -> list[OutRecord]:
    """One status per record, numbered from `first_seq` on."""
    rows = [one.row for one in happened]
    instants = [0 if row is None else row.predicted_at for row in rows]
    instants += [0 if row is None else row.actual_at for row in rows]
    texts = _instants(instants)
    predicted, acted = texts[: len(rows)], texts[len(rows) :]
    stamp = (HEADER_VERSION, b"%d" % version)
    topic, records = Topic.STATUS, []
    for seq, (one, predicted_at, actual_at) in enumerate(zip(happened, predicted, acted, strict=True), first_seq):
        outcome, reason, deployment, row_id, key, row, state, previous, origin, notes, _ = one
        revision, model, batch, predicted_for, acted_for, prediction, actual = (
            _NO_ROW if row is None else _shown(row, predicted_at, actual_at)
        )
        status = RowStatus(
            deployment,
            row_id,
            _NAMES[outcome],
            seq,
            row_id if has_association_id(row_id) else None,
            revision,
            model,
            batch,
            predicted_for,
            acted_for,
            prediction,
            actual,
            Raw(previous) if previous else None,
            reason,
            notes.job_id,
            notes.row_number,
            Source(*origin),
        )
        source = (HEADER_SOURCE, f"{origin[0]}/{origin[1]}/{origin[2]}".encode())
        headers = [(HEADER_STATE, state), stamp, source]
        if notes.trace is not None:
            headers.append((HEADER_TRACE, notes.trace))
        records.append(_new(OutRecord, (topic, task, key, encode_status(status), headers, now_ms)))
    return records


_NAMES = [outcome.name for outcome in Outcome]
_Shown = tuple[int | None, str | None, str | None, str | None, str | None, Raw | None, Raw | None]
_NO_ROW: _Shown = (None, None, None, None, None, None, None)


def _shown(row: RowState, predicted_at: str, actual_at: str) -> _Shown:
    """Revision, model, batch, instants and values of a row, as `RowStatus` takes them."""
    return (
        row.revision,
        row.model or None,
        row.batch or None,
        predicted_at if row.prediction else None,
        actual_at if row.actual else None,
        Raw(row.prediction) if row.prediction else None,
        Raw(row.actual) if row.actual else None,
    )


def _instants(instants: Sequence[int]) -> list[str]:
    """RFC 3339 in UTC with six decimals; each distinct instant is written once."""
    distinct, places = np.unique(np.array(instants, dtype=np.int64), return_inverse=True)
    texts: list[str] = np.datetime_as_string(distinct.astype("datetime64[us]"), unit="us", timezone="UTC").tolist()
    return [texts[place] for place in places.tolist()]


def dead_letter_records(dead: Iterable[Refused], task: int) -> list[OutRecord]:
    """One dead letter per refused record, byte for byte as it came unless it is too large to be sent again.

    Then its value is cut; and where even that does not help, its key is, and its own headers are left out.
    """
    records = []
    for refused in dead:
        key, value, sent, timestamp = refused.letter
        headers = dead_letter_headers(*refused.origin, refused.reason, refused.detail, sent)
        if size_of(key, value, headers) > MAX_RECORD_BYTES:
            value, note = truncated(value or b"")
            headers.append(note)
            if size_of(key, value, headers) > MAX_RECORD_BYTES:
                key, headers = (key or b"")[:_KEY_KEPT], headers[len(sent) :]
        records.append(OutRecord(Topic.DLQ, task, key, value, headers, timestamp))
    return records


def event_records(events: Iterable[tuple[int, bytes, bytes]], task: int, now_ms: int) -> list[OutRecord]:
    """Events of monitoring batches (id, key, value) whose home is this task."""
    return [OutRecord(Topic.BATCHES, task, key, value, [], now_ms) for _, key, value in events]
