"""Bytes to columns. Strays are set apart for their home task; forwarded records that were counted before are dropped.

Column by column over the whole micro-batch; only what is refused is looked at one by one. Knows no deployment: what
depends on one is `assign`'s business.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from service.domain.errors import Reason, Rejection
from service.domain.ids import (
    are_association_ids,
    has_association_id,
    is_object_id,
    murmur2_many,
    record_row_id,
    row_key,
)
from service.domain.instants import LATEST_US
from service.domain.records import MAX_RECORD_BYTES, OutRecord, Topic, size_of, topic_name
from service.pipeline.columns import (
    NO_NOTES,
    Actuals,
    Arrivals,
    Decoded,
    Letter,
    Notes,
    Origin,
    Predictions,
    Refused,
    Strayed,
)
from service.ports import Polled, Record
from service.wire.events import (
    MAX_ACTUAL_CHARACTERS,
    ActualEvent,
    Identity,
    NotPlain,
    PredictionEvent,
    Unusable,
    association_id,
    decode_actual,
    decode_plain_actuals,
    decode_plain_predictions,
    decode_prediction,
)
from service.wire.instants import instant_us, instants_of
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
        strays: list[OutRecord] = []
        strayed: list[Strayed] = []
        predictions, actuals, origins, refused = self._arrivals(polled, marks)
        predicted = _predictions(*self._events(predictions, _PREDICTION, refused, strays, strayed))
        events, common, _ = self._events(actuals, _ACTUAL, refused, strays, strayed)
        acted = Actuals(*common, events=events)
        heard = {(name, True) for name in set(predicted.deployment)} | {(name, False) for name in set(acted.deployment)}
        return Decoded(
            predictions=predicted,
            actuals=acted,
            heard=frozenset(heard | {stray[:2] for stray in strayed}),
            refused=refused,
            strays=strays,
            strayed=strayed,
            origins=origins,
        )

    def unprocessable(self, polled: Polled, marks: Mapping[str, int], cause: str) -> Decoded:
        """The records of a poll that breaks what comes after: all of them refused, none of them looked into."""
        decoded = self.decode(Polled({}, {}), marks)
        predictions, actuals, decoded.origins, decoded.refused = self._arrivals(polled, marks)
        error = Unusable(Reason.UNPROCESSABLE, f"it breaks the service: {cause}; please report this", Identity())
        for arrivals, is_prediction in ((predictions, True), (actuals, False)):
            _read_notes(arrivals)
            for i in range(len(arrivals.records)):
                decoded.refused.append(refused_at(arrivals, i, is_prediction, error))
        return decoded

    def undecoded(self, polled: Polled, refused: Sequence[Refused]) -> dict[str, list[bool]]:
        """Of each topic, in the order of its records: whether it is among those that `decode` has refused."""
        if not refused:
            return {role: [False] for role, records in polled.records.items() if records}
        origins = {one.origin for one in refused}
        names = {Topic.PREDICTIONS: self._predictions, Topic.ACTUALS: self._actuals, Topic.REKEY: self._rekey}
        return {
            role: [
                Origin(names[role], self._task, record.offset) in origins
                or (role == Topic.REKEY and self._forwarded_from(record) in origins)
                for record in records
            ]
            for role, records in polled.records.items()
        }

    def _arrivals(
        self, polled: Polled, marks: Mapping[str, int]
    ) -> tuple[Arrivals, Arrivals, dict[str, int], list[Refused]]:
        """Predictions and actuals, those that were forwarded to here after the others; and what that leaves behind."""
        origins: dict[str, int] = {}
        refused: list[Refused] = []
        predictions = Arrivals(self._predictions, self._task, list(polled.records.get(Topic.PREDICTIONS, ())))
        actuals = Arrivals(self._actuals, self._task, list(polled.records.get(Topic.ACTUALS, ())))
        for record in polled.records.get(Topic.REKEY, ()):
            self._take_forwarded(record, predictions, actuals, marks, origins, refused)
        return predictions, actuals, origins, refused

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
        self,
        arrivals: Arrivals,
        kind: "_Kind[E_]",
        refused: list[Refused],
        strays: list[OutRecord],
        strayed: list[Strayed],
    ) -> tuple[list[E_], "_Common", list[bytes]]:
        """The events that decode and live here, with what every kind has, and the texts of the predictions; the others
        are refused or sent on."""
        _read_notes(arrivals)
        errors: dict[int, Unusable] = {}
        received_ms = _received_ms(arrivals)
        events, times = _decode_all(arrivals.records, received_ms, kind, errors)
        row_ids = _row_ids(events, arrivals, errors)
        if times is None:
            times = _event_times(events, row_ids, received_ms, errors)
        prediction = _check_sizes(events, row_ids, kind, errors)
        encoded = _encoded(row_ids)
        away: dict[int, int] = self._homes(row_ids, encoded)
        for i, home in away.items():
            self._send_on(arrivals, i, home, kind.is_prediction, refused, strays)
        for i in {*away, *arrivals.forwarded}:
            if (event := events[i]) is not None and i not in errors:
                place = (int(times[i]), int(received_ms[i]), i in away)
                strayed.append(Strayed(event.deployment_id, kind.is_prediction, *place))
        for i, error in errors.items():
            if i not in away:
                refused.append(refused_at(arrivals, i, kind.is_prediction, error))
        if away or errors:
            stay = [i for i in range(len(events)) if i not in away and i not in errors]
            arrivals, events = arrivals.only(stay), [events[i] for i in stay]
            row_ids, encoded = [row_ids[i] for i in stay], [encoded[i] for i in stay]
            prediction = [prediction[i] for i in stay] if prediction else []
            times, received_ms = times[stay], received_ms[stay]
        found = cast("list[E_]", events)
        names = [event.deployment_id for event in found]
        common = _Common(arrivals, names, row_ids, _row_keys(names, encoded), times, received_ms)
        return found, common, prediction

    def _homes(self, row_ids: Sequence[str], encoded: Sequence[bytes]) -> dict[int, int]:
        """Positions and home partitions of the rows that do not live here. A row without any ID is at home anywhere."""
        partitions = murmur2_many(encoded) % self._partitions
        return {
            i: int(partitions[i])
            for i in np.flatnonzero(partitions != self._task).tolist()
            if row_ids[i] and not row_ids[i].startswith("record:")
        }

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


class _Kind(NamedTuple, Generic[E_]):
    """How the records of one input topic are decoded: all at once, or with care where one of them does not fit."""

    is_prediction: bool
    decode_many: Callable[[Iterable[bytes | None]], list[E_]]
    decode: Callable[[bytes | None], E_]


_PREDICTION = _Kind(True, decode_plain_predictions, decode_prediction)
_ACTUAL = _Kind(False, decode_plain_actuals, decode_actual)


class _Common(NamedTuple):
    """The columns that predictions and actuals share."""

    arrivals: Arrivals
    deployment: list[str]
    row_id: list[str]
    key: list[bytes]
    at: NDArray[np.int64]
    received_ms: NDArray[np.int64]


def _decode_all(
    records: Sequence[Record], received_ms: NDArray[np.int64], kind: _Kind[E_], errors: dict[int, Unusable]
) -> tuple[list[E_ | None], NDArray[np.int64] | None]:
    """The event of every record, and their times where they could be read all at once."""
    try:
        events = kind.decode_many([record.value for record in records])
    except NotPlain:
        return [_decode_one(i, record, kind, errors) for i, record in enumerate(records)], None
    given = [event.timestamp for event in events]
    if not any(given) and given.count(None) == len(given):
        return list(events), received_ms * 1000
    times = instants_of(given)  # type: ignore[arg-type]
    if times is None:
        return [_decode_one(i, record, kind, errors) for i, record in enumerate(records)], None
    return list(events), times


def _decode_one(i: int, record: Record, kind: _Kind[E_], errors: dict[int, Unusable]) -> E_ | None:
    try:
        return kind.decode(record.value)
    except Unusable as error:
        errors[i] = error
        return None


def _row_ids(events: Sequence[E_ | None], arrivals: Arrivals, errors: dict[int, Unusable]) -> list[str]:
    if not errors:
        given = [event.association_id for event in events]  # type: ignore[union-attr]
        if set(map(type, given)) == {str} and are_association_ids(given):  # type: ignore[arg-type]
            return cast("list[str]", given)
    return [
        (errors[i].identity.association_id or "") if event is None else _row_id(event, i, arrivals, errors)
        for i, event in enumerate(events)
    ]


def _row_id(event: PredictionEvent | ActualEvent, i: int, arrivals: Arrivals, errors: dict[int, Unusable]) -> str:
    if event.association_id is not None:
        try:
            return association_id(event.association_id, event.deployment_id)
        except Unusable as error:
            errors[i] = error
            return ""
    notes = arrivals.notes.get(i, NO_NOTES)
    if notes.row_number is not None and notes.job_id is not None:
        return f"job:{notes.job_id}:{notes.row_number}"
    if notes.row_number is not None and notes.submission_id is not None:
        return f"submission:{notes.submission_id}:{notes.row_number}"
    return record_row_id(*arrivals.origin(i))


def _encoded(row_ids: Sequence[str]) -> list[bytes]:
    joined = "\n".join(row_ids)
    if joined.count("\n") == len(row_ids) - 1:
        return joined.encode().split(b"\n")
    return [row_id.encode() for row_id in row_ids]


def _row_keys(names: Sequence[str], encoded: Sequence[bytes]) -> list[bytes]:
    """`row_key` of every row."""
    prefixes = {name: row_key(name, "") for name in set(names)}
    if len(prefixes) == 1:
        (prefix,) = prefixes.values()
        return [prefix + row_id for row_id in encoded]
    return [prefixes[name] + row_id for name, row_id in zip(names, encoded, strict=True)]


def _event_times(
    events: Sequence[PredictionEvent | ActualEvent | None],
    row_ids: Sequence[str],
    received_ms: NDArray[np.int64],
    errors: dict[int, Unusable],
) -> NDArray[np.int64]:
    """Microseconds since 1970 (records,); the time that Kafka gave where the event has none."""
    times = received_ms * 1000
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
    events: Sequence[PredictionEvent | ActualEvent | None],
    row_ids: Sequence[str],
    kind: _Kind[E_],
    errors: dict[int, Unusable],
) -> list[bytes]:
    """Refuse what is too large. Returns the texts of predictions."""
    prediction: list[bytes] = []
    if kind.is_prediction:
        prediction = [b"" if event is None else bytes(event.prediction) for event in events]  # type: ignore[union-attr]
        sizes = list(map(len, prediction))
        most, rule = MAX_PREDICTION_BYTES, f"prediction: at most {MAX_PREDICTION_BYTES} bytes of JSON"
    else:
        values = [None if event is None else event.actual for event in events]  # type: ignore[union-attr]
        sizes = [len(value) if value.__class__ is str else 0 for value in values]
        most, rule = MAX_ACTUAL_CHARACTERS, f"actual: at most {MAX_ACTUAL_CHARACTERS} characters"
    if max(sizes, default=0) > most:
        for i, size in enumerate(sizes):
            if size > most:
                _refuse(errors, i, events[i], row_ids[i], Reason.TOO_LARGE, rule)
    return prediction


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


def _predictions(events: list[PredictionEvent], common: _Common, prediction: list[bytes]) -> Predictions:
    return Predictions(
        *common,
        events=events,
        prediction=prediction,
        content=[xxhash.xxh3_64_intdigest(record.value or b"") for record in common.arrivals.records],
        unidentified=[i for i, event in enumerate(events) if event.association_id is None],
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


def _read_notes(arrivals: Arrivals) -> None:
    headers = [record.headers for record in arrivals.records]
    if any(headers):
        arrivals.notes = {i: read_notes(found) for i, found in enumerate(headers) if found}


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
