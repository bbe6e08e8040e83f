"""Order: however the same records are interleaved and cut into micro-batches, they end in the same rows and numbers."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.flow.input import ACTUALS, PREDICTIONS, Sent, facts, send, world_of_rows
from tests.flow.invariants import check

RECORDS = st.lists(PREDICTIONS | ACTUALS, min_size=2, max_size=16)
PAUSES = st.lists(st.integers(0, 40), min_size=16, max_size=16)
"""Steps that the tasks may take after each record."""


def end_of(records: Sequence[Sent], pauses: Sequence[int], max_records: int = 10_000) -> dict[str, Any]:
    with closing(world_of_rows(max_records=max_records)) as world:
        for record, steps in zip(records, pauses, strict=False):
            send(world, record)
            world.steps(steps)
        check(world)
        found = facts(world)
        del found["statuses"], found["dead"]  # by source: the records have other offsets
        return found


@settings(max_examples=40)
@given(RECORDS, PAUSES, st.integers(1, 5), st.data())
def test_any_interleaving_ends_the_same(
    records: list[Sent], pauses: list[int], max_records: int, data: st.DataObject
) -> None:
    in_one_go = end_of(records, [0] * len(records))
    other_order = data.draw(st.permutations(records))
    assert end_of(other_order, pauses, max_records) == in_one_go


@settings(max_examples=20)
@given(RECORDS, PAUSES)
def test_everything_twice_ends_as_once(records: list[Sent], pauses: list[int]) -> None:
    once, twice = end_of(records, pauses), end_of(records + records, [*pauses[: len(records)], *pauses])
    twice["submissions"] = once["submissions"]
    assert twice == once
