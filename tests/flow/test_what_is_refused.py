"""Refused records: a dead letter with the reason and the record as it came; a status too, if the deployment exists.

The status of a refused record carries the row as it stands: refusing changes nothing.
"""

from datetime import timedelta

import pytest

from service.domain.deployment import MAX_MODELS
from service.domain.records import MAX_RECORD_BYTES, size_of
from tests.builders import ASSOCIATION_ID, PREDICTED_AT, actual, deployment, prediction, regression
from tests.flow.conftest import Opened
from tests.flow.published import only, words
from tests.flow.world import START, FlowWorld

_MINUTE = timedelta(minutes=1)
BAD_PREDICTIONS = {
    "a time without its offset": (prediction(timestamp="2026-01-01T10:17:00"), "bad_timestamp"),
    "a time before 1970": (prediction(at=-1.0), "bad_timestamp"),
    "a time after the year 9999": (prediction(at=1e18), "bad_timestamp"),
    "too far ahead": (prediction(at=START + 6 * _MINUTE), "future_timestamp"),
    "a list": (prediction(prediction=None)[:-1] + b',"prediction":[1]}', "bad_prediction"),
    "null": (prediction(prediction=None)[:-1] + b',"prediction":null}', "bad_prediction"),
    "no prediction": (prediction(prediction=None), "bad_prediction"),
    "no class at all": (prediction(prediction={}), "bad_prediction"),
    "a probability above 1": (prediction(prediction={"late": 1.01}), "bad_prediction"),
    "an unknown label": (prediction(prediction="early"), "unknown_class"),
    "an unknown class": (prediction(prediction={"late": 0.5, "early": 0.5}), "unknown_class"),
    "nested features": (prediction(features={"origin": {"name": "EWR"}}), "bad_features"),
    "features in a list": (prediction(features=None)[:-1] + b',"features":[1]}', "bad_features"),
    "a negative duration": (prediction(service={"responseTimeMs": -1}), "bad_service"),
    "an unknown service outcome": (prediction(service={"outcome": "odd"}), "bad_service"),
    "a model ID with a slash": (prediction(modelId="a/b"), "bad_model_id"),
    "a batch where there are none": (prediction(batchId="b1"), "bad_batch"),
    "a batch name where there are none": (prediction(batchName="today"), "bad_batch"),
    "an empty batch name": (prediction(batchName=""), "bad_batch"),
    "a prediction of 129 KiB": (prediction(prediction={"late": 0.5, "x" * (129 << 10): 0.5}), "too_large"),
}
BAD_ACTUALS = {
    "a time without its offset": (actual(timestamp="2026-01-01T10:17:00"), "bad_timestamp"),
    "too far ahead": (actual(at=START + 6 * _MINUTE), "future_timestamp"),
    "an object": (actual()[:-1].replace(b'"actual":"late"', b'"actual":{}') + b"}", "bad_actual"),
    "no actual": (actual().replace(b',"actual":"late"', b""), "bad_actual"),
    "a flag that is none": (actual(keepWithoutPrediction="no"), "bad_actual"),
    "an unknown class": (actual(actual="early"), "unknown_actual_class"),
    "a text of 4097 characters": (actual(actual="x" * 4097), "too_large"),
}


@pytest.mark.parametrize("case", BAD_PREDICTIONS)
def test_a_refused_prediction_leaves_the_row_as_it_is(world: FlowWorld, case: str) -> None:
    value, reason = BAD_PREDICTIONS[case]
    early = world.told(actual())
    headers = [("trace", b"1")]
    status = world.predicted(value, headers=headers)
    assert (status.word, status.reason) == ("INVALID", reason)
    assert status.fields["rowId"] == ASSOCIATION_ID
    assert (status.state, status.fields["actual"]) == (early.state, "late")
    (letter,) = world.dead_letters()
    assert (letter.reason, letter.value, letter.key) == (reason, value, ASSOCIATION_ID.encode())
    assert (letter.source, letter.headers["trace"]) == (status.source, b"1")
    assert letter.timestamp == world.broker.log("predictions", status.task).records[0].timestamp
    assert world.predicted(prediction()).word == "MATCHED"


@pytest.mark.parametrize("case", BAD_ACTUALS)
def test_a_refused_actual_leaves_the_row_as_it_is(world: FlowWorld, case: str) -> None:
    value, reason = BAD_ACTUALS[case]
    accepted = world.predicted(prediction())
    status = world.told(value)
    assert (status.word, status.reason, status.state) == ("INVALID", reason, accepted.state)
    (letter,) = world.dead_letters()
    assert (letter.reason, letter.value, letter.source) == (reason, value, status.source)
    assert world.accuracy().matched == 0


@pytest.mark.parametrize("value", ["late", True, {"late": 0.5}])
def test_a_regression_takes_numbers_only(opened: Opened, value: str | bool | dict[str, float]) -> None:
    world = opened(regression())
    assert world.predicted(prediction(prediction=value)).reason == "bad_prediction"
    assert world.predicted(prediction(prediction=1)).word == "ACCEPTED"
    if not isinstance(value, dict):
        assert world.told(actual(actual=value)).reason == "bad_actual"
    assert world.told(actual(actual=2)).fields["actual"] == 2


def test_a_little_ahead_is_allowed(world: FlowWorld) -> None:
    assert world.predicted(prediction(at=START + 5 * _MINUTE)).word == "ACCEPTED"


def test_being_ahead_is_judged_by_the_kafka_timestamp_so_that_a_replay_decides_the_same(world: FlowWorld) -> None:
    then = round(PREDICTED_AT.timestamp() * 1000) - 6 * 60_000
    assert world.predicted(prediction(), timestamp=then).reason == "future_timestamp"


@pytest.mark.parametrize("given", ["", "x" * 129, "job:1:2", "record:a:1:2", ["x" * 127], []])
def test_an_impossible_association_id_is_refused_where_it_arrives(world: FlowWorld, given: str | list[str]) -> None:
    offset = world.predict(prediction(given), partition=3)
    status = only(world.settle())
    assert (status.word, status.reason, status.state) == ("INVALID", "bad_association_id", b"")
    assert status.fields["rowId"] == f"record:monitoring.predictions.v1:3:{offset}"
    assert [letter.reason for letter in world.dead_letters()] == ["bad_association_id"]
    assert world.forwarded() == []


@pytest.mark.parametrize("timestamp", [-1, -(1 << 62), 1 << 62])
def test_a_kafka_timestamp_of_no_known_time_stops_nothing(world: FlowWorld, timestamp: int) -> None:
    """Producers set them as they like."""
    for value in (prediction(at=None), prediction(prediction="early"), prediction(timestamp="soon"), b"?"):
        world.predict(value, timestamp=timestamp)
    world.tell(actual(at=None), timestamp=timestamp)
    world.tell(actual(actual="early"), timestamp=timestamp)
    assert sorted(words(world.settle())) == ["ACCEPTED", "INVALID", "INVALID", "INVALID", "MATCHED"]
    assert {letter.timestamp for letter in world.dead_letters()} == {timestamp}


def test_one_bad_record_does_not_spoil_its_neighbours(world: FlowWorld) -> None:
    home = world.home("a")
    for value in (prediction("a"), b"\xff", prediction("a", prediction="early"), prediction("a", modelId="/")):
        world.predict(value, partition=home)
    world.tell(actual("a", actual=1), partition=home)
    world.tell(actual("a"), partition=home)
    found = [(status.word, status.reason) for status in world.settle()]
    assert found[:2] == [("ACCEPTED", None), ("MATCHED", None)]
    assert sorted(map(str, found[2:])) == sorted(
        map(str, [("INVALID", "unknown_class"), ("INVALID", "bad_model_id"), ("INVALID", "unknown_actual_class")])
    )
    assert len(world.dead_letters()) == 4


def test_the_hundred_and_first_model_is_one_too_many(opened: Opened) -> None:
    world = opened(deployment())
    for number in range(MAX_MODELS - 1):
        world.predict(prediction(f"row-{number}", modelId=f"m{number}"))
    assert {status.word for status in world.settle()} == {"ACCEPTED"}
    over = world.predicted(prediction(modelId="one-more"))
    assert (over.word, over.reason) == ("INVALID", "too_many_models")
    assert world.predicted(prediction(modelId="m7")).fields["modelId"] == "m7"


def test_many_new_models_at_once_fill_what_room_there_is(opened: Opened) -> None:
    world = opened(deployment(), partitions=1)
    for number in range(MAX_MODELS + 20):
        world.predict(prediction(f"row-{number}", modelId=f"m{number:03}"))
    reasons = [status.reason for status in world.settle()]
    assert reasons.count("too_many_models") == 21
    assert reasons.count(None) == MAX_MODELS - 1


# ------------------------------------------------------------------------------------------- dead letters only


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "malformed"),
        (None, "malformed"),
        (b"\x00\xff", "malformed"),
        (b"[]", "malformed"),
        (b'{"deploymentId":7}', "malformed"),
        (prediction(deployment_id="a/b"), "unknown_deployment"),
        (prediction(deployment_id="nobody"), "unknown_deployment"),
        (prediction(deployment_id="nobody", timestamp="soon"), "unknown_deployment"),
    ],
)
def test_what_names_no_deployment_is_a_dead_letter_and_nothing_else(
    world: FlowWorld, value: bytes | None, reason: str
) -> None:
    partition = world.home(ASSOCIATION_ID)
    for topic in ("predictions", "actuals"):
        if value is None or topic == "predictions" or reason == "malformed":
            world.broker.produce(topic, b"key", value, partition=partition, headers=[("h", b"1")], timestamp=1234)
    assert world.settle() == []
    letters = world.dead_letters()
    assert letters
    for letter in letters:
        assert (letter.reason, letter.key, letter.value, letter.timestamp) == (reason, b"key", value, 1234)
        assert letter.headers["h"] == b"1"
    assert world.numbers().traffic == {}


def test_an_actual_of_an_unknown_deployment_is_a_dead_letter(world: FlowWorld) -> None:
    world.tell(actual(deployment_id="nobody"))
    assert world.settle() == []
    assert [letter.reason for letter in world.dead_letters()] == ["unknown_deployment"]


def test_a_huge_record_is_cut_in_its_dead_letter(world: FlowWorld) -> None:
    value = prediction(prediction={"late": 0.5, "x" * 1_000_000: 0.5})
    assert world.predicted(value).reason == "too_large"
    (letter,) = world.dead_letters()
    assert letter.value == value[: 64 * 1024]
    assert letter.headers["hindsight.truncated"].startswith(b"length=%d;xxh3_64=" % len(value))


def test_a_dead_letter_of_a_huge_key_and_huge_headers_still_fits(world: FlowWorld) -> None:
    headers = [("filler", b"x" * 500_000), ("filler", b"y" * 500_000)]
    world.broker.produce("predictions", b"k" * 500_000, b"?" * 800_000, partition=0, headers=headers)
    world.settle()
    (record,) = world.broker.log("dlq", 0).records
    assert size_of(record.key, record.value, record.headers) < MAX_RECORD_BYTES
    (letter,) = world.dead_letters()
    assert (letter.reason, letter.source) == ("malformed", ("monitoring.predictions.v1", 0, 0))
    assert letter.headers["hindsight.truncated"].startswith(b"length=800000;")


def test_dead_letters_are_counted_by_reason(world: FlowWorld) -> None:
    world.predict(b"?", partition=0)
    world.predict(b"??", partition=0)
    world.predict(prediction(prediction="early"))
    world.settle()
    worker = world.workers["one"]
    assert worker.metric("dead_letters_total", reason="malformed") == 2
    assert worker.metric("dead_letters_total", reason="unknown_class") == 1
    assert worker.metric("records_total", topic="predictions") == 3
