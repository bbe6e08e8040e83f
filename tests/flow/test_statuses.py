"""What a consumer of the status topic can rely on, whatever the record: numbers, headers, sources, envelopes."""

import json
from datetime import timedelta

import pytest

from service.domain.row import decode_row
from tests.builders import ACTUAL_AT, ASSOCIATION_ID, actual, prediction
from tests.flow.published import words
from tests.flow.world import FlowWorld

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_seq_counts_the_statuses_of_a_partition_and_nothing_else(world: FlowWorld) -> None:
    for number in range(30):
        world.predict(prediction(f"row-{number}"))
        world.predict(b"?", partition=number % 4)
        world.tell(actual(f"row-{number}", "early" if number % 5 == 0 else "late"))
        if number % 7 == 0:
            world.settle()
    world.settle()
    seqs: dict[int, list[int]] = {}
    for status in world.statuses():
        seqs.setdefault(status.task, []).append(status.fields["seq"])
    assert len(seqs) == 4
    for task, numbers in seqs.items():
        assert numbers == list(range(len(numbers)))
        assert world.checkpoint(task).seq == len(numbers)


def test_the_state_header_is_the_row_as_the_store_holds_it(world: FlowWorld) -> None:
    key = f"flights/{ASSOCIATION_ID}".encode()
    sent = [actual(), actual(), actual(actual=None, at=ACTUAL_AT + timedelta(hours=1)), actual()]
    answers = [world.predicted(prediction())]
    held = [world.states()[key]]
    for value in sent:
        answers.append(world.told(value))
        held.append(world.states()[key])
    assert words(answers) == ["ACCEPTED", "MATCHED", "DUPLICATE", "WITHDRAWN", "DUPLICATE"]
    assert [answer.key for answer in answers] == [key] * 5
    assert [answer.state for answer in answers] == held
    assert decode_row(held[-1]).revision == 3


def test_the_version_header_is_the_ledgers(world: FlowWorld) -> None:
    first = world.predicted(prediction())
    second = world.told(actual())
    assert (first.headers["hindsight-version"], second.headers["hindsight-version"]) == (b"1", b"2")
    assert world.checkpoint(first.task).version == 2
    assert world.broker.committed[first.task].version == 2


def test_the_source_header_says_where_the_record_came_in(world: FlowWorld) -> None:
    world.predicted(prediction())
    status = world.told(actual())
    assert status.source is not None
    topic, partition, offset = status.source
    assert (topic, partition, offset) == ("monitoring.actuals.v1", status.task, 0)
    assert status.headers["hindsight-source"] == f"{topic}/{partition}/{offset}".encode()


def test_the_kafka_timestamp_of_a_status_is_the_time_of_processing(world: FlowWorld) -> None:
    world.wait(timedelta(hours=1))
    before = world.now_ms
    status = world.predicted(prediction(), timestamp=before - 1000)
    assert before <= status.timestamp <= world.now_ms


def test_a_trace_is_passed_on(world: FlowWorld) -> None:
    traced = world.predicted(prediction(), headers=[("traceparent", TRACE)])
    assert traced.headers["traceparent"] == TRACE
    assert "traceparent" not in world.told(actual()).headers
    refused = world.told(actual(actual="early"), headers=[("traceparent", TRACE)])
    assert refused.headers["traceparent"] == TRACE
    (letter,) = world.dead_letters()
    assert letter.headers["traceparent"] == TRACE


def test_a_value_is_shown_as_it_was_sent(world: FlowWorld) -> None:
    value = prediction(prediction={"late": 0.1}).replace(b'{"late":0.1}', b'{ "late": 1.0E-1 }')
    assert world.predicted(value).fields["prediction"] == {"late": 0.1}
    (record,) = world.broker.log("status", world.home(ASSOCIATION_ID)).records
    assert b'"prediction":{ "late": 1.0E-1 }' in (record.value or b"")


# ------------------------------------------------------------------------------------------- submissions


def test_the_records_of_a_submission_are_counted_by_status(world: FlowWorld) -> None:
    s1, s2 = ([("hindsight-submission-id", name)] for name in (b"s1", b"s2"))
    for number in range(10):
        world.predict(prediction(f"row-{number}"), headers=s1)
    world.predict(prediction("row-1"), headers=s1)
    world.predict(prediction("row-1", prediction="early"), headers=s1)
    world.predict(b"?", headers=s1)
    world.predict(prediction(deployment_id="nobody"), headers=s1)
    world.settle()
    for number in range(6):
        world.tell(actual(f"row-{number}"), headers=s2)
    world.tell(actual("elsewhere"), headers=s2, partition=(world.home("elsewhere") + 1) % 4)
    world.settle()
    assert world.submissions() == {
        ("s1", "ACCEPTED"): 10,
        ("s1", "DUPLICATE"): 1,
        ("s1", "INVALID:unknown_class"): 1,
        ("s1", "MALFORMED"): 1,
        ("s1", "UNKNOWN_DEPLOYMENT"): 1,
        ("s2", "MATCHED"): 6,
        ("s2", "EARLY"): 1,
    }


def test_job_and_row_number_are_shown(world: FlowWorld) -> None:
    headers = [("hindsight-job-id", b"j1"), ("hindsight-row-number", b"12")]
    status = world.predicted(prediction(), headers=headers)
    assert (status.fields["jobId"], status.fields["rowNumber"]) == ("j1", 12)
    assert status.fields["rowId"] == ASSOCIATION_ID


# ------------------------------------------------------------------------------------------- CloudEvents


def test_a_cloud_event_in_binary_mode_is_the_plain_event(world: FlowWorld) -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_type", b"prediction"), ("ce_id", b"1"), ("ce_source", b"/here")]
    assert world.predicted(prediction(), headers=headers).word == "ACCEPTED"


def structured(value: bytes) -> bytes:
    envelope = {"specversion": "1.0", "type": "event", "id": "1", "source": "/here", "data": json.loads(value)}
    return json.dumps(envelope).encode()


def test_a_cloud_event_in_structured_mode_is_unwrapped(world: FlowWorld) -> None:
    assert world.predicted(structured(prediction())).word == "ACCEPTED"
    assert world.told(structured(actual())).word == "MATCHED"
    assert world.told(structured(actual(actual={}))).reason == "bad_actual"  # type: ignore[arg-type]
    assert world.confusion() == {(1, 1): 1}


@pytest.mark.parametrize("data", [b"7", b"{}", b'{"deploymentId":"flights"}'])
def test_a_cloud_event_around_something_else_is_refused(world: FlowWorld, data: bytes) -> None:
    world.predict(b'{"specversion":"1.0","data":%b}' % data, partition=0)
    answers = words(world.settle())
    assert answers == (["INVALID"] if b"flights" in data else [])
    assert len(world.dead_letters()) == 1
