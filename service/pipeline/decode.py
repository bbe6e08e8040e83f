"""Bytes to columns. Strays are set apart for their home task; forwarded records that were counted before are dropped.

Knows no deployment: what depends on one is `assign`'s business.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import xxhash

from service.domain.errors import Reason, Rejection
from service.domain.ids import MAX_ASSOCIATION_ID, RESERVED_PREFIXES, has_association_id, murmur2_many, record_row_id
from service.domain.records import OutRecord, Topic, topic_name
from service.pipeline.columns import NO_NOTES, Decoded, Letter, Notes, Origin, Refused
from service.ports import Polled, Record
from service.wire.events import (
    ActualEvent,
    Identity,
    PredictionEvent,
    Unusable,
    association_id,
    decode_actual,
    decode_prediction,
    instant_us,
)
from service.wire.status import (
    HEADER_JOB,
    HEADER_ORIGIN,
    HEADER_ROW_NUMBER,
    HEADER_SKIP_DRIFT,
    HEADER_SUBMISSION,
    HEADER_TRACE,
)

MAX_PREDICTION_BYTES = 128 * 1024
"""A row keeps its prediction and each status shows it: twice this must fit into one record."""
MAX_ACTUAL_CHARACTERS = 4096


class _Arrival(NamedTuple):
    record: Record
    origin: Origin
    notes: Notes
    event: PredictionEvent | ActualEvent | None
    row_id: str
    """Empty where a refused record names no row."""
    refused: Refused | None
    forwarded: bool


class Decoder:
    """Decodes the records of one task."""

    def __init__(self, task: int, partitions: int, prefix: str) -> None:
        self._task = task
        self._partitions = partitions
        self._predictions = topic_name(prefix, Topic.PREDICTIONS)
        self._actuals = topic_name(prefix, Topic.ACTUALS)
        self._rekey = topic_name(prefix, Topic.REKEY)

    def decode(self, polled: Polled, marks: Mapping[str, int]) -> Decoded:
        """Columns of what was polled; `marks` are the highest origin offsets that were taken from rekey so far."""
        decoded = Decoded()
        arrivals = list(self._arrivals(polled, decoded, marks))
        homes = self._homes([arrival.row_id for arrival in arrivals])
        for arrival, home in zip(arrivals, homes, strict=True):
            if home != self._task:
                self._send_on(decoded, arrival, home)
            elif arrival.refused is not None:
                decoded.refused.append(arrival.refused)
            else:
                _add(decoded, arrival)
        return decoded

    def _arrivals(self, polled: Polled, decoded: Decoded, marks: Mapping[str, int]) -> Iterator[_Arrival]:
        for role, topic in ((Topic.PREDICTIONS, self._predictions), (Topic.ACTUALS, self._actuals)):
            for record in polled.records.get(role, ()):
                yield _arrive(record, Origin(topic, self._task, record.offset), role == Topic.PREDICTIONS, False)
        for record in polled.records.get(Topic.REKEY, ()):
            origin = self._forwarded_from(record)
            if origin is None:
                yield self._misplaced(record, f"header {HEADER_ORIGIN}: must name an input topic, partition and offset")
                continue
            partition = f"{origin.topic}/{origin.partition}"
            if origin.offset > max(marks.get(partition, -1), decoded.origins.get(partition, -1)):
                decoded.origins[partition] = origin.offset
                yield _arrive(record, origin, origin.topic == self._predictions, True)

    def _forwarded_from(self, record: Record) -> Origin | None:
        named = dict(record.headers or ()).get(HEADER_ORIGIN, b"").decode(errors="replace").rsplit("/", 2)
        if (
            len(named) != 3
            or named[0] not in (self._predictions, self._actuals)
            or not all(map(str.isdecimal, named[1:]))
        ):
            return None
        return Origin(named[0], int(named[1]), int(named[2]))

    def _misplaced(self, record: Record, detail: str) -> _Arrival:
        here = Origin(self._rekey, self._task, record.offset)
        refused = Refused(False, here, NO_NOTES, Identity(), Reason.MISPLACED_REKEY, detail, letter_of(record))
        return _Arrival(record, here, NO_NOTES, None, "", refused, True)

    def _homes(self, row_ids: Sequence[str]) -> list[int]:
        homes = [self._task] * len(row_ids)
        named = [i for i, row_id in enumerate(row_ids) if row_id and not row_id.startswith("record:")]
        partitions = murmur2_many([row_ids[i].encode() for i in named]) % self._partitions
        for i, home in zip(named, partitions.tolist(), strict=True):
            homes[i] = home
        return homes

    def _send_on(self, decoded: Decoded, arrival: _Arrival, home: int) -> None:
        if arrival.forwarded:
            detail = f"forwarded to partition {self._task}, but its home is {home}"
            refused = self._misplaced(arrival.record, detail).refused
            assert refused is not None
            decoded.refused.append(refused)
            return
        record = arrival.record
        mark = (HEADER_ORIGIN, "/".join(map(str, arrival.origin)).encode())
        headers = (*(record.headers or ()), mark)
        decoded.strays.append(OutRecord(Topic.REKEY, home, record.key, record.value, headers, record.timestamp))


def _arrive(record: Record, origin: Origin, is_prediction: bool, forwarded: bool) -> _Arrival:
    notes = read_notes(record.headers) if record.headers else NO_NOTES
    try:
        event: PredictionEvent | ActualEvent
        event = decode_prediction(record.value) if is_prediction else decode_actual(record.value)
        row_id = _row_id(event, origin, notes)
        _check(event, row_id)
        return _Arrival(record, origin, notes, event, row_id, None, forwarded)
    except Unusable as error:
        refused = Refused(is_prediction, origin, notes, error.identity, error.reason, error.detail, letter_of(record))
        return _Arrival(record, origin, notes, None, error.identity.association_id or "", refused, forwarded)


def _row_id(event: PredictionEvent | ActualEvent, origin: Origin, notes: Notes) -> str:
    given = event.association_id
    if given.__class__ is str and 0 < len(given) <= MAX_ASSOCIATION_ID and not given.startswith(RESERVED_PREFIXES):
        return given
    if given is not None:
        return association_id(given, event.deployment_id)
    if notes.row_number is not None and notes.job_id is not None:
        return f"job:{notes.job_id}:{notes.row_number}"
    if notes.row_number is not None and notes.submission_id is not None:
        return f"submission:{notes.submission_id}:{notes.row_number}"
    return record_row_id(*origin)


def _check(event: PredictionEvent | ActualEvent, row_id: str) -> None:
    """What needs no deployment and is not in the types: sizes and instants. Raises `Unusable`."""
    try:
        if isinstance(event, PredictionEvent):
            if len(bytes(event.prediction)) > MAX_PREDICTION_BYTES:
                raise Rejection(Reason.TOO_LARGE, f"prediction: at most {MAX_PREDICTION_BYTES} bytes of JSON")
        elif isinstance(event.actual, str) and len(event.actual) > MAX_ACTUAL_CHARACTERS:
            raise Rejection(Reason.TOO_LARGE, f"actual: at most {MAX_ACTUAL_CHARACTERS} characters")
        if event.timestamp is not None:
            event.timestamp = instant_us(event.timestamp)
    except Rejection as error:
        raise Unusable(
            error.reason, error.detail, Identity(event.deployment_id, row_id if has_association_id(row_id) else None)
        ) from None


def _add(decoded: Decoded, arrival: _Arrival) -> None:
    record, event = arrival.record, arrival.event
    received_at = record.timestamp * 1000
    if isinstance(event, PredictionEvent):
        predictions = decoded.predictions
        prediction, features = bytes(event.prediction), bytes(event.features)
        predictions.add(arrival.origin, arrival.record, arrival.notes, event.deployment_id, arrival.row_id)
        predictions.predicted_at.append(received_at if event.timestamp is None else event.timestamp)  # type: ignore[arg-type]
        predictions.content.append(_content(event, prediction, features))
        predictions.prediction.append(prediction)
        predictions.features.append(features)
        predictions.model.append(event.model_id)
        predictions.batch_id.append(event.batch_id)
        predictions.batch_name.append(event.batch_name)
    elif isinstance(event, ActualEvent):
        actuals = decoded.actuals
        actuals.add(arrival.origin, arrival.record, arrival.notes, event.deployment_id, arrival.row_id)
        actuals.actual_at.append(received_at if event.timestamp is None else event.timestamp)  # type: ignore[arg-type]
        actuals.value.append(event.actual)
        actuals.keep.append(event.keep_without_prediction)


def _content(event: PredictionEvent, prediction: bytes, features: bytes) -> int:
    """Hash of what makes two predictions of one row the same: their fields as they were written.

    A time that Kafka gave is no part of it: the same event sent twice gets two of them.
    """
    named = f"{event.timestamp}|{event.model_id}|{event.batch_id}|{event.batch_name}|".encode()
    return xxhash.xxh3_64_intdigest(b"%b%b|%b" % (named, prediction, features))


def letter_of(record: Record) -> Letter:
    """The record as its producer sent it (without the mark of our own forwarding)."""
    headers = [header for header in record.headers or () if header[0] != HEADER_ORIGIN]
    return Letter(record.key, record.value, headers, record.timestamp)


def read_notes(headers: Sequence[tuple[str, bytes]]) -> Notes:
    """What our headers say; one that can not be read is ignored."""
    found = dict(headers)
    row_number = found.get(HEADER_ROW_NUMBER, b"")
    return Notes(
        submission_id=_text(found.get(HEADER_SUBMISSION)),
        job_id=_text(found.get(HEADER_JOB)),
        row_number=int(row_number) if row_number.isdigit() else None,
        skip_drift=found.get(HEADER_SKIP_DRIFT) == b"true",
        trace=found.get(HEADER_TRACE),
    )


def _text(value: bytes | None) -> str | None:
    return value.decode(errors="replace") if value else None
