"""In which order the records of several topics are taken, by hand and as laws."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from service.adapters.kafka.held_records import HeldRecords
from service.ports import INPUT_TOPICS, Record, Topic


@dataclass
class Fetched:
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def fetched(*timestamps: int) -> list[Record]:
    return [Fetched(offset, timestamp) for offset, timestamp in enumerate(timestamps)]


def holding(**timestamps: list[int]) -> HeldRecords:
    held = HeldRecords()
    for role, times in timestamps.items():
        held.add(role, fetched(*times))
    return held


def times_of(taken: dict[str, list[Record]]) -> dict[str, list[int]]:
    return {role: [record.timestamp for record in records] for role, records in taken.items()}


def test_the_oldest_are_taken_first_whatever_their_topic() -> None:
    held = holding(predictions=[1, 3, 5], actuals=[2, 4, 6])
    assert times_of(held.take(3, ())) == {"predictions": [1, 3], "actuals": [2]}
    assert times_of(held.take(3, ())) == {"predictions": [5], "actuals": [4, 6]}
    assert not held


def test_nothing_is_taken_that_an_older_record_on_its_way_could_precede() -> None:
    held = holding(predictions=[1, 2], actuals=[1, 2, 3, 4])
    assert times_of(held.take(100, {Topic.PREDICTIONS})) == {"predictions": [1, 2], "actuals": [1, 2]}
    assert times_of(held.take(100, {Topic.PREDICTIONS})) == {"actuals": [3, 4]}


def test_where_nothing_more_is_coming_everything_is_taken() -> None:
    held = holding(predictions=[9], actuals=[1], rekey=[5])
    assert times_of(held.take(100, ())) == {"predictions": [9], "actuals": [1], "rekey": [5]}


def test_a_time_that_goes_back_does_not_break_the_order_of_offsets() -> None:
    held = holding(predictions=[5, 1, 6], actuals=[2])
    assert times_of(held.take(2, ())) == {"predictions": [5], "actuals": [2]}
    assert times_of(held.take(2, ())) == {"predictions": [1, 6]}


def test_cleared_means_gone() -> None:
    held = holding(predictions=[1])
    held.clear()
    assert (len(held), held.count("predictions"), held.take(5, ())) == (0, 0, {})


batches = st.lists(
    st.tuples(st.sampled_from(INPUT_TOPICS), st.lists(st.integers(0, 20), min_size=1, max_size=6)), max_size=6
)
polls = st.lists(st.tuples(st.integers(1, 8), st.sets(st.sampled_from(INPUT_TOPICS))), max_size=12)


@given(batches, polls)
def test_every_record_comes_once_in_order_and_none_before_an_older_one(
    added: list[tuple[str, list[int]]], taking: list[tuple[int, set[str]]]
) -> None:
    held = HeldRecords()
    left: dict[str, list[Record]] = {role: [] for role in INPUT_TOPICS}
    for role, times in added:
        records: list[Record] = [Fetched(len(left[role]) + place, time) for place, time in enumerate(times)]
        left[role] += records
        held.add(role, records)
    reached = {role: list(accumulate((record.timestamp for record in left[role]), max)) for role in left}
    for most, coming in [*taking, (1000, set())]:
        horizon = min((reached[role][-1] for role in coming if reached[role]), default=1000)
        taken = held.take(most, coming)
        counts = {role: len(taken.get(role, ())) for role in left}
        assert all(records == left[role][: len(records)] for role, records in taken.items())
        due = sum(time <= horizon for times in reached.values() for time in times)
        assert sum(counts.values()) == min(most, due)
        newest = max((reached[role][count - 1] for role, count in counts.items() if count), default=0)
        assert newest <= horizon
        waiting = [reached[role][count] for role, count in counts.items() if count < len(reached[role])]
        assert all(newest <= time for time in waiting)
        left = {role: records[counts[role] :] for role, records in left.items()}
        reached = {role: times[counts[role] :] for role, times in reached.items()}
    assert not any(left.values())
