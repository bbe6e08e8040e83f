"""Any bytes decode to an event or a rejection, and what is written can be read."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from service.domain.errors import Reason, Rejection
from service.domain.instants import LATEST_US
from service.domain.outcomes import ENDS, Outcome
from service.wire.events import ActualEvent, PredictionEvent, Unusable, compact, decode_actual, decode_prediction
from service.wire.instants import instant_us, instants_of, rfc3339, rfc3339_many
from service.wire.status import RowStatus, Source, decode_status, encode_status
from tests.laws.schema_validator import SCHEMAS
from tests.laws.wire_events import EVENTS, JSON, KINDS, NUMBER, OBJECT_ID, PROBABILITIES, SCALAR, TEXT, polled

Decode = Callable[[bytes], PredictionEvent | ActualEvent]
DECODERS: Final[dict[str, Decode]] = {"prediction": decode_prediction, "actual": decode_actual}
ZONE: Final = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


# ------------------------------------------------------------------------------------------ any bytes


def either(kind: str, value: bytes) -> None:
    """Decoding gives an event or `Unusable`, and the pipeline a row or a refusal."""
    try:
        DECODERS[kind](value)
    except Unusable as error:
        assert error.detail
    decoded = polled(kind, value)
    events = [*decoded.predictions.events, *decoded.actuals.events]
    assert len(events) + len(decoded.refused) == 1
    for refused in decoded.refused:
        assert refused.letter.value == value


DEEP: Final = 10_000
HOSTILE: Final = {
    "brackets": b"[" * DEEP,
    "braces": b'{"a":' * DEEP,
    "deep prediction": b'{"deploymentId":"d","prediction":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep features": b'{"deploymentId":"d","prediction":1,"features":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep unknown field": b'{"x":' + b"[" * DEEP + b"]" * DEEP + b',"deploymentId":"d","prediction":1}',
    "deep CloudEvent": b'{"specversion":"1.0","data":' + b'{"data":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "deep composite ID": b'{"deploymentId":"d","associationId":' + b"[" * DEEP + b"]" * DEEP + b',"actual":1}',
    "huge number": b'{"deploymentId":"d","associationId":"a","actual":' + b"9" * DEEP + b',"prediction":1e999}',
    "huge time": b'{"deploymentId":"d","prediction":1,"timestamp":' + b"9" * DEEP + b"}",
    "tiny time": b'{"deploymentId":"d","prediction":1,"timestamp":"0001-01-01T00:00:00+23:59"}',
    "last time": b'{"deploymentId":"d","prediction":1,"timestamp":"9999-12-31T23:59:59.9999999-23:59"}',
    "NaN": b'{"deploymentId":"d","associationId":"a","prediction":NaN,"actual":NaN}',
    "Infinity": b'{"deploymentId":"d","associationId":"a","prediction":-Infinity,"actual":Infinity}',
    "no UTF-8": b'{"deploymentId":"d","associationId":"\xff","prediction":"\xfe","actual":"\xfd","x":"\xfc"}',
    "UTF-16": '{"deploymentId":"d"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"deploymentId":"d","prediction":1}',
    "lone surrogate": b'{"deploymentId":"d","associationId":"\\ud800","prediction":"\\ud800","actual":"\\ud800"}',
    "repeated name": b'{"deploymentId":"d","deploymentId":7,"associationId":"a","prediction":1,"actual":1,"actual":[]}',
    "null bytes": b"\x00" * 100,
    "nothing": b"",
}


@KINDS
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_an_event_or_unusable(kind: str, value: bytes) -> None:
    either(kind, value)


@KINDS
@given(value=st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_an_event_or_unusable(kind: str, value: bytes) -> None:
    either(kind, value)


@KINDS
@given(data=st.data())
@settings(max_examples=300)
def test_damaged_events_are_an_event_or_unusable(kind: str, data: st.DataObject) -> None:
    value = bytearray(json.dumps(data.draw(EVENTS[kind])).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(value)))
        end = data.draw(st.integers(start, min(start + 4, len(value))))
        value[start:end] = data.draw(st.binary(max_size=4) | st.sampled_from([b'"', b"{", b"[", b"\\ud800", b"1e999"]))
    either(kind, bytes(value))


@KINDS
@given(value=JSON)
def test_any_json_is_an_event_or_unusable(kind: str, value: object) -> None:
    either(kind, json.dumps(value).encode())


# ---------------------------------------------------------------------------------------- round trips


@given(EVENTS["prediction"])
def test_a_prediction_comes_out_as_it_went_in(event: dict[str, Any]) -> None:
    found = decode_prediction(json.dumps(event).encode())
    assert found.deployment_id == event["deploymentId"]
    assert found.association_id == event.get("associationId")
    assert json.loads(bytes(found.prediction)) == event["prediction"]
    assert json.loads(bytes(found.features)) == event.get("features", {})
    assert (found.model_id, found.batch_id, found.batch_name) == tuple(
        event.get(name) for name in ("modelId", "batchId", "batchName")
    )
    assert msgspec.json.decode(msgspec.json.encode(found)) == msgspec.json.decode(
        msgspec.json.encode(decode_prediction(msgspec.json.encode(found)))
    )


@given(EVENTS["actual"])
def test_an_actual_comes_out_as_it_went_in(event: dict[str, Any]) -> None:
    found = decode_actual(json.dumps(event).encode())
    assert (found.deployment_id, found.association_id) == (event["deploymentId"], event["associationId"])
    assert found.actual == event["actual"] or float(event["actual"]) == found.actual
    assert found.keep_without_prediction is event.get("keepWithoutPrediction")
    assert decode_actual(msgspec.json.encode(found)) == found


@KINDS
@given(data=st.data())
def test_an_envelope_changes_nothing(kind: str, data: st.DataObject) -> None:
    event = data.draw(EVENTS[kind])
    envelope = {"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "data": event}
    wrapped, plain = (DECODERS[kind](json.dumps(value).encode()) for value in (envelope, event))
    assert msgspec.json.encode(wrapped) == msgspec.json.encode(plain)


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


INSTANT_TEXT: Final = st.integers(0, LATEST_US).map(rfc3339)
STATUS: Final = st.builds(
    RowStatus,
    OBJECT_ID,
    TEXT,
    st.sampled_from([outcome.name for outcome in Outcome if outcome not in ENDS]),
    st.integers(0, 1 << 60),
    association_id=st.none() | TEXT,
    revision=st.none() | st.integers(0, 99),
    model_id=st.none() | OBJECT_ID,
    batch_id=st.none() | OBJECT_ID,
    predicted_at=st.none() | INSTANT_TEXT,
    actual_at=st.none() | INSTANT_TEXT,
    prediction=st.none() | (NUMBER | TEXT | PROBABILITIES).map(raw),
    actual=st.none() | SCALAR.map(raw),
    previous_actual=st.none() | (NUMBER | TEXT).map(raw),
    reason=st.none() | st.sampled_from(Reason).map(str),
    job_id=st.none() | TEXT,
    row_number=st.none() | st.integers(0, 1 << 40),
    source=st.none() | st.builds(Source, TEXT, st.integers(0, 99), st.integers(0, 1 << 60)),
)


@given(STATUS)
def test_a_status_comes_out_as_it_went_in_and_fits_its_schema(status: RowStatus) -> None:
    value = encode_status(status)
    found = decode_status(value)
    assert encode_status(found) == value
    for name in RowStatus.__struct_fields__:
        assert getattr(found, name) == getattr(status, name), name
    SCHEMAS["status"].validate(json.loads(value))


# --------------------------------------------------------------------------------------------- instants


@given(st.integers(0, LATEST_US))
@example(0)
@example(LATEST_US)
def test_an_instant_comes_out_as_it_went_in(at: int) -> None:
    text = rfc3339(at)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    event = decode_prediction(compact({"deploymentId": "d", "prediction": 1, "timestamp": text}))
    assert event.timestamp is not None
    assert instant_us(event.timestamp) == at


@given(st.lists(st.integers(0, LATEST_US)))
@example([0, LATEST_US, 86_399_999_999, 86_400_000_000])
def test_many_instants_are_written_as_each_alone(instants: list[int]) -> None:
    assert rfc3339_many(np.array(instants, dtype=np.int64)) == [rfc3339(at).encode() for at in instants]


ASCII: Final = st.characters(max_codepoint=127)
ANY_INSTANT_TEXT: Final = st.one_of(
    st.integers(0, LATEST_US).map(rfc3339),
    st.datetimes(datetime(1969, 12, 30), timezones=ZONE).map(datetime.isoformat),  # noqa: DTZ001
    st.from_regex(
        r"\A\d{4}-[0-1]\d-[0-3]\d[Tt ][0-2]\d:[0-6]\d:[0-6]\d(\.\d{1,7})?([Zz]|[+-][0-2]\d:[0-6]\d)\Z",
        alphabet=ASCII,
    ),
    st.sampled_from(["", "Z", "2026-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2026-01-01"]),
)
SECONDS: Final = st.floats(-1e6, 3e11) | st.sampled_from([float("inf"), 253402300799.99999, 0.0000005, 0.0000015])


@settings(max_examples=500)
@given(st.lists(ANY_INSTANT_TEXT, max_size=3) | st.lists(SECONDS, max_size=3))
@example(["2099-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999+00:00"])
def test_many_instants_are_read_as_each_alone(given: list[str | float]) -> None:
    read = instants_of(given)
    if read is not None:
        events = [decode_prediction(compact({"deploymentId": "d", "prediction": 1, "timestamp": one})) for one in given]
        assert read.tolist() == [instant_us(event.timestamp or 0) for event in events]
    elif given:
        assert any(isinstance(one, float) or not PLAIN.fullmatch(one) for one in given) or is_refused(given)


PLAIN: Final = re.compile(r".{10}[Tt].{8}(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")


def is_refused(given: Sequence[str | float]) -> bool:
    for one in given:
        try:
            event = decode_prediction(compact({"deploymentId": "d", "prediction": 1, "timestamp": one}))
            instant_us(event.timestamp or 0)
        except Rejection:
            return True
    return False


@given(st.integers(0, LATEST_US), st.integers(0, LATEST_US))
def test_texts_of_instants_are_ordered_as_the_instants(one: int, other: int) -> None:
    assert (one < other) == (rfc3339(one) < rfc3339(other))


@given(st.integers(2 * 86_400_000_000, LATEST_US - 2 * 86_400_000_000), ZONE)
def test_an_instant_is_the_same_in_every_zone(at: int, zone: timezone) -> None:
    assert instant_us((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).astimezone(zone)) == at


@given(st.floats(allow_nan=True, allow_infinity=True) | st.datetimes(timezones=ZONE))
@example(-1e-9)
@example(253_402_300_800.0)
def test_an_instant_lies_within_the_years_or_is_rejected(instant: datetime | float) -> None:
    try:
        at = instant_us(instant)
    except Rejection as error:
        assert error.reason is Reason.BAD_TIMESTAMP
    else:
        assert 0 <= at <= LATEST_US
        if isinstance(instant, float):
            assert abs(at / 1_000_000 - instant) <= max(1e-6, abs(instant) * 1e-15)
