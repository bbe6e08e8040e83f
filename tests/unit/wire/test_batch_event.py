"""Events of monitoring batches on the wire."""

from datetime import UTC, datetime, timedelta, timezone

import orjson

from service.wire.batch_event import (
    MonitoringBatchEvent,
    batch_event_key,
    decode_batch_event,
    encode_batch_event,
    instant,
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=1)))
EVENT = MonitoringBatchEvent(deployment_id="d", batch_id="b", batch_name="2026-01-02", event="CREATED", at=instant(AT))


def test_the_bytes() -> None:
    assert orjson.loads(encode_batch_event(EVENT)) == {
        "deploymentId": "d",
        "batchId": "b",
        "batchName": "2026-01-02",
        "event": "CREATED",
        "at": "2026-01-02T02:04:05.000678Z",
    }
    assert batch_event_key("d", "b") == b"d/b"


def test_round_trip() -> None:
    assert decode_batch_event(encode_batch_event(EVENT)) == EVENT


def test_microseconds_are_always_there() -> None:
    assert instant(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"
