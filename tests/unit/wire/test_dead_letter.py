"""What a dead letter adds to the record that was refused."""

import xxhash
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import Reason
from service.wire.dead_letter import (
    dead_letter_headers,
    read_dead_letter,
    replay_mark,
    replayed_ranges,
    truncated,
)


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


Headers = st.lists(st.tuples(st.text(max_size=8), st.binary(max_size=8)), max_size=4)
OFFSETS = st.integers(0, 2**63 - 1)


@given(Headers, OFFSETS, st.binary(max_size=9) | st.none(), st.booleans())
def test_a_letter_gives_the_record_back(
    own: list[tuple[str, bytes]], offset: int, key: bytes | None, cut: bool
) -> None:
    """Whatever headers of its own it had, even some that are called as ours are."""
    own = [*own, ("hindsight.reason", b"own"), ("hindsight.truncated", b"own"), ("hindsight.replayed", b"own")]
    headers = dead_letter_headers("t", 3, offset, Reason.MALFORMED, "why", own)
    read = read_dead_letter(1, 2, 5, key, b"v", tuple([*headers, truncated(b"value")[1]] if cut else headers))
    assert read is not None
    assert (read.headers, read.key, read.value, read.timestamp) == (own, key, b"v", 5)
    assert read[6:11] == ("t", 3, offset, "malformed", "why")
    assert (read.truncated is not None) == cut
    assert list(replayed_ranges(b"[[0,9]]", headers)) == []


@given(Headers)
def test_what_is_no_letter(headers: list[tuple[str, bytes]]) -> None:
    assert read_dead_letter(0, 0, 0, b"", b"", headers) is None
    ours = dead_letter_headers("t", 3, 1, Reason.MALFORMED, "why", headers)
    assert read_dead_letter(0, 0, 0, b"", b"", [*ours, ("one", b"more")]) is None
    broken = [(name, b"-1" if name.endswith(".offset") else content) for name, content in ours]
    assert read_dead_letter(0, 0, 0, b"", b"", broken) is None


@given(st.sets(OFFSETS))
def test_a_mark_names_what_was_sent_again(offsets: set[int]) -> None:
    value, headers = replay_mark(sorted(offsets))
    assert headers == [("hindsight.replayed", b"%d" % len(offsets))]
    ranges = list(replayed_ranges(value, headers))
    assert all(first <= last for first, last in ranges)
    if len(offsets) == sum(last - first + 1 for first, last in ranges) <= 1_000:
        assert {at for first, last in ranges for at in range(first, last + 1)} == offsets
    else:
        raise AssertionError(ranges)


def test_neighbours_are_one_range_and_nonsense_is_none() -> None:
    assert replay_mark([1, 2, 3, 7])[0] == b"[[1,3],[7,7]]"
    assert list(replayed_ranges(b"no JSON", [("hindsight.replayed", b"1")])) == []
    assert list(replayed_ranges(b"[[1,2]]", [])) == []
