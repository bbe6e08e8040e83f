"""Splitting a micro-batch in two: together they are the whole, and the positions of the first are where it stopped."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from service.adapters.memory import MemoryRecord
from service.pipeline.isolation import halves
from service.ports import INPUT_TOPICS, Polled

OFFSETS = {role: 100 for role in INPUT_TOPICS}


def polled_of(gaps: Mapping[str, list[int]]) -> Polled:
    """Records from offset 100 on, with so many offsets between them; positions lie a little beyond the last."""
    records, positions = {}, {}
    for role, steps in gaps.items():
        offset, found = OFFSETS[role], []
        for step in steps:
            found.append(MemoryRecord(offset, 0, None, None))
            offset += step
        records[role], positions[role] = found, offset
    return Polled(records, positions)


POLLED = (
    st.dictionaries(st.sampled_from(INPUT_TOPICS), st.lists(st.integers(1, 3), max_size=9), min_size=1)
    .map(polled_of)
    .filter(lambda polled: polled.size > 1)
)


@given(POLLED)
def test_nothing_is_lost_repeated_or_reordered(polled: Polled) -> None:
    first, second = halves(polled, OFFSETS)
    for role in INPUT_TOPICS:
        parts = [*first.records.get(role, ()), *second.records.get(role, ())]
        assert parts == list(polled.records.get(role, ()))
    assert abs(first.size - second.size) <= 1
    assert min(first.size, second.size) > 0


@given(POLLED)
def test_the_first_ends_where_the_second_begins(polled: Polled) -> None:
    first, second = halves(polled, OFFSETS)
    assert second.positions == polled.positions
    for role in INPUT_TOPICS:
        if second.records.get(role):
            assert first.positions[role] == second.records[role][0].offset
        else:
            assert first.positions[role] == polled.positions.get(role, OFFSETS[role])
        assert all(record.offset < first.positions[role] for record in first.records.get(role, ()))
