"""By columns or record by record: the join gives the same statuses, rows, timers and numbers."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from service.pipeline import join_columns
from tests.flow.input import ACTUALS, PREDICTIONS, Sent, facts, send, world_of_rows
from tests.flow.invariants import check

RECORDS = st.lists(PREDICTIONS | ACTUALS, min_size=2, max_size=24)


def end_of(records: Sequence[Sent], steps_after: Sequence[int], few: int) -> dict[str, Any]:
    with patch.object(join_columns, "FEW", few), closing(world_of_rows()) as world:
        for record, steps in zip(records, steps_after, strict=False):
            send(world, record)
            world.steps(steps)
        check(world)
        told: dict[bytes, list[Any]] = {}
        for status in world.statuses():
            fields = {name: field for name, field in status.fields.items() if name != "seq"}
            told.setdefault(status.key, []).append((fields, status.headers))
        clocks = [world.clocks(task) for task in range(2)]
        return facts(world) | {"told": told, "timers": world.timed(), "clocks": clocks}


@settings(max_examples=150)
@given(RECORDS, st.lists(st.sampled_from([0, 0, 0, 0, 40]), min_size=24, max_size=24))
def test_columns_do_what_is_done_one_by_one(records: list[Sent], steps_after: list[int]) -> None:
    assert end_of(records, steps_after, few=1) == end_of(records, steps_after, few=1000)
