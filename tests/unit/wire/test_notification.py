"""What a record tells."""

import json

import pytest

from service.wire.notification import (
    Source,
    Unreadable,
    decode_notification,
    encode_notification,
    notification_of,
)

SOURCE = Source("monitoring.batches.v1", 3, 4711, 1_767_261_845_250)


def test_what_is_known_and_what_is_not() -> None:
    record = {
        "deploymentId": "d",
        "batchId": "b",
        "batchName": "B",
        "event": "DRIFT_FAILING",
        "at": "2026-01-01T00:00:00Z",
        "id": "theirs",
        "score": 1.50,
        "parts": [{"a": None}],
    }
    told = json.loads(encode_notification(notification_of(json.dumps(record).encode(), SOURCE)))
    assert told.pop("id") == notification_of(json.dumps(record).encode(), SOURCE).id != "theirs"
    assert told == {
        "schemaVersion": 1,
        "deploymentId": "d",
        "batchId": "b",
        "batchName": "B",
        "event": "DRIFT_FAILING",
        "at": "2026-01-01T00:00:00Z",
        "changes": 1,
        "details": {"id": "theirs", "score": 1.5, "parts": [{"a": None}]},
    }


def test_a_deployment_has_no_batch_and_an_event_without_time_has_its_records() -> None:
    told = notification_of(b'{"deploymentId":"d","event":"HEALTH"}', SOURCE)
    assert (told.batch_id, told.batch_name, told.at) == (None, None, "2026-01-01T10:04:05.250000Z")


def test_numbers_pass_as_they_are_written() -> None:
    value = b'{"deploymentId":"d","event":"E","n":1.0000000000000000001e400}'
    assert b'"n":1.0000000000000000001e400' in encode_notification(notification_of(value, SOURCE))


def test_the_id_names_the_record() -> None:
    value = b'{"deploymentId":"d","event":"E"}'
    others = [SOURCE._replace(offset=1), SOURCE._replace(partition=1), SOURCE._replace(timestamp_ms=1)]
    assert len({notification_of(value, source).id for source in (SOURCE, *others)}) == 4


def test_round_trip() -> None:
    told = notification_of(b'{"deploymentId":"d","event":"E","x":[1]}', SOURCE)
    assert encode_notification(decode_notification(encode_notification(told))) == encode_notification(told)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b'{"event":"E"}', "deploymentId: required"),
        (b'{"deploymentId":"","event":"E"}', "deploymentId: required"),
        (b'{"deploymentId":"d"}', "event: required"),
        (b'{"deploymentId":"d","event":null}', "event: required"),
        (b'{"deploymentId":"d","event":3}', "event: must be a text"),
        (b'{"deploymentId":"d","event":"E","at":"\xff"}', "at: must be a text"),
    ],
)
def test_what_is_no_event(value: bytes, rule: str) -> None:
    with pytest.raises(Unreadable, match=rule):
        notification_of(value, SOURCE)
