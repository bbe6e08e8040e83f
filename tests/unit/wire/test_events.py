"""What a producer may send, and what it hears when it is wrong."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from service.domain.errors import Reason, Rejection
from service.domain.instants import LATEST_US
from service.wire.events import (
    ActualEvent,
    Identity,
    PredictionEvent,
    Unusable,
    association_id,
    decode_actual,
    decode_prediction,
)
from service.wire.instants import instant_us, rfc3339, rfc3339_clamped
from tests.builders import actual, prediction

Decode = Callable[[bytes | None], PredictionEvent | ActualEvent]


def refusal(decode: Decode, value: bytes | None) -> Unusable:
    with pytest.raises(Unusable) as refused:
        decode(value)
    return refused.value


# ------------------------------------------------------------------------------------------- accepted


def test_a_prediction() -> None:
    event = decode_prediction(
        b'{"deploymentId":"d","associationId":"a","timestamp":"2026-01-01T11:17:00+01:00","modelId":"m",'
        b'"prediction":{"late":0.83,"on_time":0.17},"batchId":"b","batchName":"first","features":{"origin":"EWR"},'
        b'"service":{"responseTimeMs":12.5,"cacheHit":false,"outcome":"user_error"}}'
    )
    assert (event.deployment_id, event.association_id, event.model_id) == ("d", "a", "m")
    assert (event.batch_id, event.batch_name) == ("b", "first")
    assert event.timestamp == datetime(2026, 1, 1, 10, 17, tzinfo=UTC)
    assert bytes(event.prediction) == b'{"late":0.83,"on_time":0.17}'
    assert bytes(event.features) == b'{"origin":"EWR"}'
    assert event.service is not None
    assert (event.service.response_time_ms, event.service.outcome) == (12.5, "user_error")


def test_the_least_that_a_prediction_says() -> None:
    event = decode_prediction(b'{"deploymentId":"d","prediction":1}')
    assert (event.association_id, event.timestamp, event.model_id, event.service) == (None, None, None, None)
    assert bytes(event.features) == b"{}"


def test_an_actual() -> None:
    event = decode_actual(actual("a", "late", wasActedOn=True, keepWithoutPrediction=False))
    assert (event.association_id, event.actual, event.was_acted_on) == ("a", "late", True)
    assert not event.keep_without_prediction


@pytest.mark.parametrize(("given", "meant"), [("late", "late"), (1, 1.0), (1.5, 1.5), (True, True), (None, None)])
def test_an_actual_is_text_number_boolean_or_null(given: float | str | bool | None, meant: object) -> None:
    event = decode_actual(actual("a", given))
    assert (event.actual, type(event.actual)) == (meant, type(meant))


@pytest.mark.parametrize("field", ["associationId", "timestamp", "modelId", "batchId", "batchName", "service"])
def test_null_is_the_same_as_leaving_a_field_out(field: str) -> None:
    with_null = decode_prediction(b'{"deploymentId":"d","prediction":1,"%b":null}' % field.encode())
    without = decode_prediction(b'{"deploymentId":"d","prediction":1}')
    assert msgspec.json.encode(with_null) == msgspec.json.encode(without)


def test_unknown_fields_are_ignored() -> None:
    assert decode_prediction(prediction(fieldOfTomorrow={"nested": [1]})).deployment_id == "flights"


def test_of_a_repeated_field_the_last_counts() -> None:
    assert decode_actual(b'{"deploymentId":"d","associationId":"a","actual":1,"actual":2}').actual == 2


@pytest.mark.parametrize(
    "text",
    ["2026-01-01T10:17:00Z", "2026-01-01T11:17:00+01:00", "2026-01-01t10:17:00z", "2026-01-01T10:17:00.0000001Z"],
)
def test_a_time_is_rfc_3339(text: str) -> None:
    event = decode_prediction(prediction(at=None, timestamp=text))
    assert event.timestamp == datetime(2026, 1, 1, 10, 17, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-01-01 10:17:00Z", "2026-01-01T11:17:00+0100"])
def test_two_spellings_of_time_are_taken_that_no_schema_shows(text: str) -> None:
    assert decode_prediction(prediction(at=None, timestamp=text)).timestamp is not None


def test_a_time_is_seconds_since_1970() -> None:
    timestamp = decode_prediction(prediction(at=1767262620.25)).timestamp
    assert timestamp is not None
    assert rfc3339(instant_us(timestamp)) == "2026-01-01T10:17:00.250000Z"


# ---------------------------------------------------------------------------------------- CloudEvents


def test_structured_mode_is_unwrapped() -> None:
    envelope = b'{"specversion":"1.0","id":"1","source":"/models","type":"prediction","data":%b}'
    assert decode_prediction(envelope % prediction("a")).association_id == "a"
    assert decode_actual(envelope % actual("a")).association_id == "a"


def test_binary_mode_is_the_plain_event() -> None:
    """Its attributes are in `ce_*` headers."""
    assert decode_actual(actual("a")).association_id == "a"


def test_a_broken_event_in_an_envelope_is_told_as_if_it_were_plain() -> None:
    error = refusal(decode_actual, b'{"specversion":"1.0","data":{"deploymentId":"d","associationId":"a"}}')
    assert (error.reason, error.identity) == (Reason.BAD_ACTUAL, Identity("d", "a"))


@pytest.mark.parametrize("data", [b"[]", b'"text"', b"null", b"{"])
def test_an_envelope_without_an_object(data: bytes) -> None:
    error = refusal(decode_prediction, b'{"specversion":"1.0","data":%b}' % data)
    assert (error.reason, error.identity) == (Reason.MALFORMED, Identity())


# ------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xff", b"[]", b"7", b"{", b'{"deploymentId":"d","prediction":NaN}', b"[" * 10_000, b'{"a":' * 10_000],
    ids=["null", "empty", "not UTF-8", "array", "number", "cut off", "NaN", "deep arrays", "deep objects"],
)
def test_what_is_no_json_object_is_malformed(value: bytes | None) -> None:
    error = refusal(decode_prediction, value)
    assert (error.reason, error.identity) == (Reason.MALFORMED, Identity())
    assert error.detail.startswith("the value is not a JSON object: ")


@pytest.mark.parametrize(
    "deployment_id", [b"", b'"deploymentId":7,', b'"deploymentId":null,', b'"deploymentId":"a/b",']
)
def test_what_names_no_deployment_is_malformed(deployment_id: bytes) -> None:
    error = refusal(decode_prediction, b'{%b"prediction":1,"timestamp":"never"}' % deployment_id)
    assert (error.reason, error.identity) == (Reason.MALFORMED, Identity())
    assert error.detail.startswith("deploymentId: ")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (b'"associationId":7', Reason.BAD_ASSOCIATION_ID),
        (b'"associationId":[]', Reason.BAD_ASSOCIATION_ID),
        (b'"associationId":["a",1]', Reason.BAD_ASSOCIATION_ID),
        (b'"timestamp":"yesterday"', Reason.BAD_TIMESTAMP),
        (b'"timestamp":"2026-01-01T10:17:00"', Reason.BAD_TIMESTAMP),
        (b'"timestamp":1e999', Reason.BAD_TIMESTAMP),
        (b'"modelId":7', Reason.BAD_MODEL_ID),
        (b'"batchId":7', Reason.BAD_BATCH),
        (b'"batchName":""', Reason.BAD_BATCH),
        (b'"batchName":"a\\u0000"', Reason.BAD_BATCH),
        (b'"service":{"outcome":"fine"}', Reason.BAD_SERVICE),
        (b'"service":{"outcome":"ok\\n"}', Reason.BAD_SERVICE),
        (b'"service":{"responseTimeMs":-1}', Reason.BAD_SERVICE),
    ],
)
def test_a_prediction_with_a_wrong_field(fields: bytes, reason: Reason) -> None:
    error = refusal(decode_prediction, b'{"deploymentId":"d","prediction":1,%b}' % fields)
    assert error.reason is reason
    assert error.detail.startswith(fields.split(b'"')[1].decode() + ": ")
    assert error.identity == Identity("d", None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (b'"actual":[1]', Reason.BAD_ACTUAL),
        (b'"actual":1e999', Reason.BAD_ACTUAL),
        (b'"actual":1,"wasActedOn":"no"', Reason.BAD_ACTUAL),
        (b'"actual":1,"keepWithoutPrediction":"no"', Reason.BAD_ACTUAL),
        (b'"actual":1,"timestamp":true', Reason.BAD_TIMESTAMP),
        (b'"prediction":1', Reason.BAD_ACTUAL),
    ],
)
def test_an_actual_with_a_wrong_field_still_names_its_row(fields: bytes, reason: Reason) -> None:
    error = refusal(decode_actual, b'{"deploymentId":"d","associationId":["a","b"],%b}' % fields)
    assert (error.reason, error.identity) == (reason, Identity("d", '["a","b"]'))


def test_missing_fields() -> None:
    assert refusal(decode_prediction, b'{"deploymentId":"d"}').reason is Reason.BAD_PREDICTION
    assert refusal(decode_actual, b'{"deploymentId":"d","actual":1}').reason is Reason.BAD_ASSOCIATION_ID


def test_a_text_that_is_not_utf_8() -> None:
    error = refusal(decode_prediction, b'{"deploymentId":"d","prediction":1,"modelId":"\xff"}')
    assert (error.reason, error.identity) == (Reason.MALFORMED, Identity("d", None))
    assert error.detail.startswith("a text is not UTF-8: ")


# ------------------------------------------------------------------------------- association IDs, time


@pytest.mark.parametrize(
    ("given", "canonical"), [("a", "a"), (["a", "b"], '["a","b"]'), (["ä", '"'], '["ä","\\""]'), ("x" * 128, "x" * 128)]
)
def test_the_canonical_association_id(given: str | list[str], canonical: str) -> None:
    assert association_id(given, "d") == canonical


@pytest.mark.parametrize("given", ["", "x" * 129, "job:1", "submission:1", "record:1", ["x" * 125]])
def test_a_forbidden_association_id(given: str | list[str]) -> None:
    with pytest.raises(Unusable) as refused:
        association_id(given, "d")
    assert (refused.value.reason, refused.value.identity) == (Reason.BAD_ASSOCIATION_ID, Identity("d"))


def test_instants() -> None:
    assert instant_us(0) == 0
    assert instant_us(1.5) == 1_500_000
    assert instant_us(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert instant_us(datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == LATEST_US
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(LATEST_US) == "9999-12-31T23:59:59.999999Z"
    assert rfc3339_clamped(-1) == rfc3339(0)
    assert rfc3339_clamped(LATEST_US + 1) == rfc3339(LATEST_US)


@pytest.mark.parametrize(
    "given",
    [-1, -1e-9, 253_402_300_800, 1e300, float("nan"), float("inf"), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
     datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23))),
     datetime.max.replace(tzinfo=timezone(-timedelta(hours=1)))],
)  # fmt: skip
def test_an_instant_outside_the_years_1970_to_9999(given: datetime | float) -> None:
    with pytest.raises(Rejection) as refused:
        instant_us(given)
    assert refused.value.reason is Reason.BAD_TIMESTAMP
