"""What a dead letter adds to the record that was refused."""

import xxhash

from service.domain.errors import Reason
from service.wire.dead_letter import dead_letter_headers, truncated


def test_our_headers_come_after_those_of_the_record() -> None:
    sent = [("traceparent", b"00-1-1-00"), ("own", b"\xff"), ("own", b"twice")]
    headers = dead_letter_headers(
        "monitoring.actuals.v1", 3, 4711, Reason.BAD_ACTUAL, "actual: must be a number for a regression", sent
    )
    assert headers == [
        *sent,
        ("__connect.errors.topic", b"monitoring.actuals.v1"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"4711"),
        ("__connect.errors.stage", b"hindsight"),
        ("__connect.errors.exception.message", b"actual: must be a number for a regression"),
        ("hindsight.reason", b"bad_actual"),
        ("hindsight.detail", b"actual: must be a number for a regression"),
    ]


def test_any_detail_can_be_sent() -> None:
    headers = dict(dead_letter_headers("t", 0, 0, Reason.MALFORMED, "ä \ud800", []))
    assert headers["hindsight.detail"] == "ä ?".encode()


def test_a_value_too_large_keeps_its_beginning_and_can_be_recognised() -> None:
    value = bytes(range(256)) * 4096
    kept, (name, note) = truncated(value)
    assert kept == value[: 64 * 1024]
    assert name == "hindsight.truncated"
    assert note == f"length=1048576;xxh3_64={xxhash.xxh3_64_hexdigest(value)}".encode()
