"""Bytes to columns. Strays are set apart for their home task; forwarded records that were counted before are dropped.

Column by column over the whole micro-batch; only what is refused is looked at one by one. Knows no deployment: what
depends on one is `assign`'s business.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from service.domain.errors import Reason, Rejection
from service.domain.ids import (
    MAX_ASSOCIATION_ID,
    RESERVED_PREFIXES,
    has_association_id,
    is_object_id,
    murmur2_many,
    record_row_id,
    row_key,
)
from service.domain.records import MAX_RECORD_BYTES, OutRecord, Topic, size_of, topic_name
from service.pipeline.columns import NO_NOTES, Actuals, Arrivals, Decoded, Letter, Notes, Origin, Predictions, Refused
from service.ports import Polled, Record
from service.wire.events import (
    LATEST_US,
    MAX_ACTUAL_CHARACTERS,
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
E_ = TypeVar("E_", PredictionEvent, ActualEvent)


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
        refused: list[Refused] = []
        strays: list[OutRecord] = []
        origins: dict[str, int] = {}
        predictions = Arrivals(self._predictions, self._task, list(polled.records.get(Topic.PREDICTIONS, ())))
        actuals = Arrivals(self._actuals, self._task, list(polled.records.get(Topic.ACTUALS, ())))
        for record in polled.records.get(Topic.REKEY, ()):
            self._take_forwarded(record, predictions, actuals, marks, origins, refused)
        return Decoded(
            predictions=_predictions(*self._events(predictions, decode_prediction, refused, strays)),
            actuals=_actuals(*self._events(actuals, decode_actual, refused, strays)),
            refused=refused,
            strays=strays,
            origins=origins,
        )

    def _take_forwarded(
        self,
        record: Record,
        predictions: Arrivals,
        actuals: Arrivals,
        marks: Mapping[str, int],
        origins: dict[str, int],
        refused: list[Refused],
    ) -> None:
        origin = self._forwarded_from(record)
        if origin is None:
            refused.append(
                self._misplaced(record, f"header {HEADER_ORIGIN}: must name an input topic and a place in it")
            )
            return
        partition = f"{origin.topic}/{origin.partition}"
        if origin.offset > max(marks.get(partition, -1), origins.get(partition, -1)):
            origins[partition] = origin.offset
            arrivals = predictions if origin.topic == self._predictions else actuals
            arrivals.forwarded[len(arrivals.records)] = origin
            arrivals.records.append(record)

    def _forwarded_from(self, record: Record) -> Origin | None:
        named = dict(record.headers or ()).get(HEADER_ORIGIN, b"").decode(errors="replace").rsplit("/", 2)
        if (
            len(named) != 3
            or named[0] not in (self._predictions, self._actuals)
            or not all(map(str.isdecimal, named[1:]))
        ):
            return None
        return Origin(named[0], int(named[1]), int(named[2]))

    def _misplaced(self, record: Record, detail: str) -> Refused:
        here = Origin(self._rekey, self._task, record.offset)
        return Refused(False, here, NO_NOTES, Identity(), Reason.MISPLACED_REKEY, detail, letter_of(record, True))

    def _events(
        self, arrivals: Arrivals, decode: Callable[[bytes | None], E_], refused: list[Refused], strays: list[OutRecord]
    ) -> tuple[Arrivals, list[E_], list[str], NDArray[np.int64]]:
        """The events that decode and live here, with their row IDs and times; the others are refused or sent on."""
        arrivals.notes = {i: read_notes(record.headers) for i, record in enumerate(arrivals.records) if record.headers}
        errors: dict[int, Unusable] = {}
        events = _decode_all(arrivals.records, decode, errors)
        row_ids = [
            (errors[i].identity.association_id or "") if event is None else _row_id(event, i, arrivals, errors)
            for i, event in enumerate(events)
        ]
        times = _event_times(arrivals, events, row_ids, errors)
        _check_sizes(events, row_ids, errors)
        away = self._homes(row_ids)
        for i, home in away.items():
            self._send_on(arrivals, i, home, decode is decode_prediction, refused, strays)
        for i, error in errors.items():
            if i not in away:
                refused.append(refused_at(arrivals, i, decode is decode_prediction, error))
        if not away and not errors:
            return arrivals, cast("list[E_]", events), row_ids, times
        stay = [i for i in range(len(events)) if i not in away and i not in errors]
        return arrivals.only(stay), [cast(E_, events[i]) for i in stay], [row_ids[i] for i in stay], times[stay]

    def _homes(self, row_ids: Sequence[str]) -> dict[int, int]:
        """Positions and home partitions of the rows that do not live here. A row without any ID is at home anywhere."""
        named = [i for i, row_id in enumerate(row_ids) if row_id and not row_id.startswith("record:")]
        partitions = murmur2_many([row_ids[i].encode() for i in named]) % self._partitions
        return {named[i]: int(partitions[i]) for i in np.flatnonzero(partitions != self._task)}

    def _send_on(
        self,
        arrivals: Arrivals,
        i: int,
        home: int,
        is_prediction: bool,
        refused: list[Refused],
        strays: list[OutRecord],
    ) -> None:
        record = arrivals.records[i]
        if i in arrivals.forwarded:
            refused.append(self._misplaced(record, f"forwarded to partition {self._task}, but its home is {home}"))
            return
        mark = (HEADER_ORIGIN, "/".join(map(str, arrivals.origin(i))).encode())
        headers = [*(record.headers or ()), mark]
        if size_of(record.key, record.value, headers) > MAX_RECORD_BYTES:
            rule = f"at most {MAX_RECORD_BYTES} bytes can be sent on to the partition of the association ID"
            refused.append(refused_at(arrivals, i, is_prediction, Unusable(Reason.TOO_LARGE, rule, Identity())))
            return
        strays.append(OutRecord(Topic.REKEY, home, record.key, record.value, headers, record.timestamp))


def _decode_all(
    records: Sequence[Record], decode: Callable[[bytes | None], E_], errors: dict[int, Unusable]
) -> list[E_ | None]:
    try:
        return [decode(record.value) for record in records]
    except Unusable:
        return [_decode_one(i, record, decode, errors) for i, record in enumerate(records)]


def _decode_one(i: int, record: Record, decode: Callable[[bytes | None], E_], errors: dict[int, Unusable]) -> E_ | None:
    try:
        return decode(record.value)
    except Unusable as error:
        errors[i] = error
        return None


def _row_id(event: PredictionEvent | ActualEvent, i: int, arrivals: Arrivals, errors: dict[int, Unusable]) -> str:
    given = event.association_id
    if given.__class__ is str and 0 < len(given) <= MAX_ASSOCIATION_ID and not given.startswith(RESERVED_PREFIXES):
        return given
    if given is not None:
        try:
            return association_id(given, event.deployment_id)
        except Unusable as error:
            errors[i] = error
            return ""
    notes = arrivals.notes.get(i, NO_NOTES)
    if notes.row_number is not None and notes.job_id is not None:
        return f"job:{notes.job_id}:{notes.row_number}"
    if notes.row_number is not None and notes.submission_id is not None:
        return f"submission:{notes.submission_id}:{notes.row_number}"
    return record_row_id(*arrivals.origin(i))


def _event_times(
    arrivals: Arrivals,
    events: Sequence[PredictionEvent | ActualEvent | None],
    row_ids: Sequence[str],
    errors: dict[int, Unusable],
) -> NDArray[np.int64]:
    """Microseconds since 1970 (records,); the time that Kafka gave where the event has none."""
    times = _received_ms(arrivals) * 1000
    for i, event in enumerate(events):
        if event is not None and event.timestamp is not None:
            try:
                times[i] = instant_us(event.timestamp)
            except Rejection as error:
                _refuse(errors, i, event, row_ids[i], error.reason, error.detail)
    return times


def known_ms(timestamp: int) -> int:
    """A Kafka timestamp as `_received_ms` has it."""
    return min(max(timestamp, 0), LATEST_US // 1000)


def _received_ms(arrivals: Arrivals) -> NDArray[np.int64]:
    """Kafka timestamps (records,), milliseconds since 1970; producers set them, so they are kept within known years."""
    given = np.array([record.timestamp for record in arrivals.records], dtype=np.int64)
    return np.clip(given, 0, LATEST_US // 1000)


def _check_sizes(
    events: Sequence[PredictionEvent | ActualEvent | None], row_ids: Sequence[str], errors: dict[int, Unusable]
) -> None:
    for i, event in enumerate(events):
        if isinstance(event, PredictionEvent):
            if len(memoryview(event.prediction)) > MAX_PREDICTION_BYTES:
                rule = f"prediction: at most {MAX_PREDICTION_BYTES} bytes of JSON"
                _refuse(errors, i, event, row_ids[i], Reason.TOO_LARGE, rule)
        elif event is not None and event.actual.__class__ is str and len(event.actual) > MAX_ACTUAL_CHARACTERS:
            _refuse(
                errors, i, event, row_ids[i], Reason.TOO_LARGE, f"actual: at most {MAX_ACTUAL_CHARACTERS} characters"
            )


def _refuse(
    errors: dict[int, Unusable],
    i: int,
    event: PredictionEvent | ActualEvent | None,
    row_id: str,
    reason: Reason,
    rule: str,
) -> None:
    if event is not None and i not in errors:
        named = row_id if row_id and has_association_id(row_id) else None
        errors[i] = Unusable(reason, rule, Identity(event.deployment_id, named))


def _predictions(
    arrivals: Arrivals, events: list[PredictionEvent], row_ids: list[str], times: NDArray[np.int64]
) -> Predictions:
    deployments = [event.deployment_id for event in events]
    return Predictions(
        arrivals=arrivals,
        deployment=deployments,
        row_id=row_ids,
        key=[row_key(name, row_id) for name, row_id in zip(deployments, row_ids, strict=True)],
        at=times,
        received_ms=_received_ms(arrivals),
        events=events,
        prediction=[bytes(event.prediction) for event in events],
        content=[xxhash.xxh3_64_intdigest(record.value or b"") for record in arrivals.records],
    )


def _actuals(arrivals: Arrivals, events: list[ActualEvent], row_ids: list[str], times: NDArray[np.int64]) -> Actuals:
    deployments = [event.deployment_id for event in events]
    return Actuals(
        arrivals=arrivals,
        deployment=deployments,
        row_id=row_ids,
        key=[row_key(name, row_id) for name, row_id in zip(deployments, row_ids, strict=True)],
        at=times,
        received_ms=_received_ms(arrivals),
        events=events,
    )


def refused_at(columns: Arrivals, i: int, is_prediction: bool, error: Unusable) -> Refused:
    """The record at this position, refused."""
    notes = columns.notes.get(i, NO_NOTES)
    letter = letter_of(columns.records[i], i in columns.forwarded)
    return Refused(is_prediction, columns.origin(i), notes, error.identity, error.reason, error.detail, letter)


def letter_of(record: Record, forwarded: bool) -> Letter:
    """The record as its producer sent it: where it was forwarded, without the mark that we added last."""
    headers = list(record.headers or ())
    if forwarded and headers and headers[-1][0] == HEADER_ORIGIN:
        headers.pop()
    return Letter(record.key, record.value, headers, record.timestamp)


def read_notes(headers: Sequence[tuple[str, bytes]]) -> Notes:
    """What our headers say; one that can not be read is ignored."""
    found = dict(headers)
    return Notes(
        submission_id=_id(found.get(HEADER_SUBMISSION)),
        job_id=_id(found.get(HEADER_JOB)),
        row_number=_whole(_text(found.get(HEADER_ROW_NUMBER))),
        skip_drift=found.get(HEADER_SKIP_DRIFT) == b"true",
        trace=found.get(HEADER_TRACE),
    )


def _text(value: bytes | None) -> str:
    return value.decode(errors="replace") if value else ""


def _id(value: bytes | None) -> str | None:
    text = _text(value)
    return text if is_object_id(text) else None


def _whole(text: str) -> int | None:
    """A number as headers write it: ASCII digits, and no more of them than an offset has."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
