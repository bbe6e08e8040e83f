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
)

HOUR = 3_600_000_000


def row(due: int = 0, drop: int = 0) -> RowState:
    return RowState(RowPhase.OPEN, 1, 0, 0, due, drop, 0, 0, b"1", b"", "m", "")


ROWS = st.lists(
    st.tuples(
        st.builds(lambda name, number: f"{name}/{number}/x".encode(), st.sampled_from("ab"), st.integers(0, 30)),
        st.builds(row, st.integers(1, 1 << 55), st.integers(1, 1 << 55)),
    ),
    max_size=30,
)


@given(ROWS)
def test_every_row_is_in_the_entry_of_its_deployment_and_hour(rows: list[tuple[bytes, RowState]]) -> None:
    entries = packed_timers(rows, b"v1")
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
    entries = sorted(entry for entry, _ in packed_timers(rows, b"v1"))
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
    ((early, _),) = packed_timers([(b"d/a", row(due=5 * HOUR))], b"v1")
    ((late, _),) = packed_timers([(b"d/a", row(due=6 * HOUR - 1))], b"v1")
    assert early == late
    ((next_one, _),) = packed_timers([(b"d/a", row(due=6 * HOUR))], b"v1")
    assert next_one > late


def test_two_writes_do_not_overwrite_each_other() -> None:
    (one,), (other,) = (packed_timers([(b"d/a", row(due=1))], stamp) for stamp in (b"v1", b"v2"))
    assert one[0] != other[0]
