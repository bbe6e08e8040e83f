"""Timers: packed by deployment and hour of the instant, sorted by time, unique to the write that made them."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.row import RowPhase, RowState
from service.domain.timers import BUCKET_US, due_at, packed_timers, unpacked_keys

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


def bucket_of(entry: bytes) -> int:
    return int.from_bytes(entry[1:9], "big")


@given(ROWS)
def test_every_row_is_in_the_entry_of_its_deployment_and_hour(rows: list[tuple[bytes, RowState]]) -> None:
    entries = packed_timers(rows, b"v1")
    found = []
    for entry, packed in entries:
        deployment = entry[9:].split(b"/")[0]
        for key in unpacked_keys(packed):
            assert key.split(b"/")[0] == deployment
            found.append((key, bucket_of(entry)))
    assert sorted(found) == sorted((key, one.due - one.due % HOUR) for key, one in rows)
    assert len({entry for entry, _ in entries}) == len(entries)


@given(ROWS)
def test_entries_sort_by_time_before_every_row(rows: list[tuple[bytes, RowState]]) -> None:
    entries = sorted(entry for entry, _ in packed_timers(rows, b"v1"))
    assert [bucket_of(entry) for entry in entries] == sorted(bucket_of(entry) for entry in entries)
    assert all(entry < key for entry in entries for key, _ in rows)


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


def test_a_parked_actual_is_looked_at_when_it_expires() -> None:
    assert due_at(row(due=0, drop=7)) == 7
    assert due_at(row(due=3, drop=7)) == 3
