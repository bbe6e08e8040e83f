"""Timers: packed by deployment and hour of the instant, sorted by time, unique to the write that made them."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.row import RowPhase, RowState
from service.domain.timers import (
    BUCKET_US,
    bucket_of,
    packed_keys,
    packed_timers,
    passed_buckets,
    timers_begin,
    timers_end,
    unpacked_keys,
    waiting_rows,
)
from service.domain.watermark import NEVER

HOUR = 3_600_000_000


def row(due: int = 0, drop: int = 0, phase: RowPhase = RowPhase.OPEN) -> RowState:
    return RowState(phase, 1, 0, 0, due, drop, 0, 0, b"1", b"", "m", "")


ROWS = st.lists(
    st.tuples(
        st.builds(lambda name, number: f"{name}/{number}/x".encode(), st.sampled_from("ab"), st.integers(0, 30)),
        st.builds(row, st.integers(1, 1 << 55), st.integers(1, 1 << 55)),
    ),
    max_size=30,
)


@given(ROWS)
def test_every_row_is_in_the_entry_of_its_deployment_and_hour(rows: list[tuple[bytes, RowState]]) -> None:
    entries = packed_timers(waiting_rows(rows), b"v1")
    found = []
    for entry, packed in entries:
        deployment, bucket = bucket_of(entry)
        assert timers_begin(deployment, bucket) <= entry < timers_begin(deployment, bucket + HOUR)
        for key in unpacked_keys(packed):
            assert key.split(b"/")[0] == deployment
            found.append((key, bucket))
    assert sorted(found) == sorted((key, one.due - one.due % HOUR) for key, one in rows)
    assert len({entry for entry, _ in entries}) == len(entries)


@given(ROWS)
def test_entries_of_a_deployment_lie_together_by_time_before_every_row(rows: list[tuple[bytes, RowState]]) -> None:
    entries = sorted(entry for entry, _ in packed_timers(waiting_rows(rows), b"v1"))
    assert [bucket_of(entry) for entry in entries] == sorted(bucket_of(entry) for entry in entries)
    assert all(entry < key for entry in entries for key, _ in rows)
    for entry in entries:
        deployment, _ = bucket_of(entry)
        inside = [other for other in entries if timers_begin(deployment) <= other < timers_end(deployment)]
        assert inside == [other for other in entries if bucket_of(other)[0] == deployment]


@given(st.integers(0, 1 << 55), st.integers(-1, 1 << 55))
def test_a_bucket_has_passed_when_each_of_its_instants_has(at: int, watermark: int) -> None:
    bucket = at - at % HOUR
    assert (bucket < passed_buckets(watermark)) == (bucket + HOUR <= watermark)


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_keys_come_back_as_they_were_packed(keys: list[bytes]) -> None:
    assert unpacked_keys(packed_keys(keys)) == keys


def test_the_bucket_begins_no_later_than_the_instant() -> None:
    assert BUCKET_US == HOUR
    ((early, _),) = packed_timers(waiting_rows([(b"d/a", row(due=5 * HOUR))]), b"v1")
    ((late, _),) = packed_timers(waiting_rows([(b"d/a", row(due=6 * HOUR - 1))]), b"v1")
    assert early == late
    ((next_one, _),) = packed_timers(waiting_rows([(b"d/a", row(due=6 * HOUR))]), b"v1")
    assert next_one > late


def test_two_writes_do_not_overwrite_each_other() -> None:
    (one,), (other,) = (packed_timers(waiting_rows([(b"d/a", row(due=1))]), stamp) for stamp in (b"v1", b"v2"))
    assert one[0] != other[0]


def test_an_entry_as_it_is_stored() -> None:
    """0x01, deployment ID, `/`, 8 bytes of the hour's start, stamp; and the row keys as a MessagePack array."""
    hours = (495_000 * HOUR).to_bytes(8, "big")
    rows = [(b"d/a/b", row(due=495_000 * HOUR + 1)), (b"d/c", row(drop=495_001 * HOUR - 1, phase=RowPhase.MATCHED))]
    assert packed_timers(waiting_rows(rows), b"v1") == [(b"\x01d/" + hours + b"v1", b"\x92\xc4\x05d/a/b\xc4\x03d/c")]
    assert bucket_of(b"\x01d/" + hours + b"v1") == (b"d", 495_000 * HOUR)
    assert (timers_begin(b"d"), timers_end(b"d")) == (b"\x01d/" + bytes(8), b"\x01d0")


def test_before_anything_was_heard_no_bucket_has_passed() -> None:
    assert passed_buckets(NEVER) == 0
    assert [passed_buckets(watermark) for watermark in (HOUR - 1, HOUR, 5 * HOUR // 2)] == [0, HOUR, 2 * HOUR]


def test_buckets_are_exact_to_the_microsecond_in_any_year() -> None:
    year_9999 = 253_402_297_200_000_000
    assert passed_buckets(year_9999) == year_9999
    assert passed_buckets(year_9999 - 1) == year_9999 - HOUR


def test_an_hour_or_a_stamp_may_hold_the_byte_of_a_slash() -> None:
    bucket = next(hour * HOUR for hour in range(495_000, 496_000) if b"/" in (hour * HOUR).to_bytes(8, "big"))
    ((entry, _),) = packed_timers(waiting_rows([(b"d/a", row(due=bucket))]), b"/1/")
    assert bucket_of(entry) == (b"d", bucket)
