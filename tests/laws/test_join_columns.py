"""By columns or record by record: the join gives the same statuses, rows, timers and numbers."""

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.deployment import JoinSpec, LatePolicy
from service.pipeline import join_columns
from tests.builders import deployment
from tests.flow.input import ACTUALS, CHANGED, HOUR, PATIENT, PREDICTIONS, Sent, facts, send
from tests.flow.invariants import check
from tests.flow.world import FlowWorld

RECORDS = st.lists(CHANGED | PREDICTIONS | ACTUALS, min_size=2, max_size=24)


HASTY = [
    JoinSpec(window=window, grace=grace, early_ttl=2 * HOUR, allowed_lateness=timedelta(0), late_policy=late_policy)
    for window, grace, late_policy in [
        (2 * HOUR, HOUR, LatePolicy.RECORD),
        (HOUR / 2, 2 * HOUR, LatePolicy.CORRECT),
        (timedelta(minutes=73), 2 * HOUR, LatePolicy.REJECT),
    ]
]
"""The watermark closes rows and forgets them while the records come; with the last it comes to a `due` exactly."""


def end_of(records: Sequence[Sent], steps_after: Sequence[int], join: JoinSpec, few: int) -> dict[str, Any]:
    world = FlowWorld(deployment(batch_enabled=True, join=join), partitions=2)
    with patch.object(join_columns, "FEW", few), closing(world):
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
@given(
    RECORDS, st.lists(st.sampled_from([0, 0, 0, 0, 40]), min_size=24, max_size=24), st.sampled_from([PATIENT, *HASTY])
)
def test_columns_do_what_is_done_one_by_one(records: list[Sent], steps_after: list[int], join: JoinSpec) -> None:
    assert end_of(records, steps_after, join, few=1) == end_of(records, steps_after, join, few=1000)
