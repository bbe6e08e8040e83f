"""Builds the outgoing records of a micro-batch: statuses, dead letters, strays, events of monitoring batches.

They are complete, and small enough for the broker, before the ledger transaction begins; what the slot holds is what
is published.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from msgspec import Raw

from service.domain.ids import RESERVED_PREFIXES
from service.domain.outcomes import ENDS, Outcome
from service.domain.records import MAX_RECORD_BYTES, OutRecord, RecordColumns, Topic, size_of
from service.pipeline.columns import Refused
from service.pipeline.join import Happened, Joined
from service.pipeline.join_columns import HappenedColumns
from service.pipeline.status_columns import status_columns
from service.wire.dead_letter import dead_letter_headers, truncated
from service.wire.instants import rfc3339_many
from service.wire.status import (
    HEADER_SOURCE,
    HEADER_STATE,
    HEADER_TRACE,
    HEADER_VERSION,
    RowStatus,
    encode_status,
)

_KEY_KEPT = 64 * 1024
_new = tuple.__new__


def status_records(
    joined: Joined, task: int, first_seq: int, version: int, now_ms: int
) -> Iterator[RecordColumns | list[OutRecord]]:
    """One status for everything that happened, numbered from `first_seq` on; a row that ended gives a tombstone."""
    seq, places = first_seq, list(joined.places)
    for part in joined.parts:
        if isinstance(part, HappenedColumns):
            yield status_columns(part, places, task, seq, version, now_ms)
            seq += 0 if part.outcome in ENDS else len(part.key)
        elif part:
            records = _one_by_one(part, task, seq, version, now_ms)
            yield records
            seq += sum(record.value is not None for record in records)


def _one_by_one(happened: Sequence[Happened], task: int, first_seq: int, version: int, now_ms: int) -> list[OutRecord]:
    rows = [one[5] for one in happened]
    instants = [0 if row is None else row.predicted_at for row in rows]
    instants += [0 if row is None else row.actual_at for row in rows]
    texts = [text.decode() for text in rfc3339_many(np.array(instants, dtype=np.int64))]
    stamp, topic = (HEADER_VERSION, b"%d" % version), Topic.STATUS
    prefixes: dict[tuple[str, int], bytes] = {}
    records, seq = [], first_seq
    for one, predicted_at, actual_at in zip(happened, texts, texts[len(rows) :], strict=False):
        outcome, reason, deployment, row_id, key, row, state, previous, origin, notes, _ = one
        if outcome in ENDS:
            records.append(OutRecord(topic, task, key, None, [(HEADER_STATE, b""), stamp], now_ms))
            continue
        if row is None:
            revision, model, batch, prediction, actual = None, None, None, b"", b""
        else:
            revision, model, batch = row.revision, row.model or None, row.batch or None
            prediction, actual = row.prediction, row.actual
        status = RowStatus(
            deployment,
            row_id,
            _NAMES[outcome],
            seq,
            None if row_id.startswith(RESERVED_PREFIXES) else row_id,
            revision,
            model,
            batch,
            predicted_at if prediction else None,
            actual_at if actual else None,
            Raw(prediction) if prediction else None,
            Raw(actual) if actual else None,
            Raw(previous) if previous else None,
            reason,
            notes[1],
            notes[2],
            origin,
        )
        headers = [(HEADER_STATE, state), stamp]
        if origin is not None:
            place = (origin.topic, origin.partition)
            if place not in prefixes:
                prefixes[place] = f"{origin.topic}/{origin.partition}/".encode()
            headers.append((HEADER_SOURCE, b"%b%d" % (prefixes[place], origin.offset)))
        if notes[4] is not None:
            headers.append((HEADER_TRACE, notes[4]))
        records.append(_new(OutRecord, (topic, task, key, encode_status(status), headers, now_ms)))
        seq += 1
    return records


_NAMES = [outcome.name for outcome in Outcome]


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
