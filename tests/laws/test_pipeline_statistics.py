"""Subtract exactly: after corrections and withdrawals the cells are those of a run that only saw the final records."""

import json
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.deployment import ActualOrder, Deployment, JoinSpec, TargetType
from service.domain.stats.accuracy import Accuracy
from service.ports import AccuracyCellKey
from tests.builders import ACTUAL_AT, PREDICTED_AT, actual, deployment, prediction, regression
from tests.flow import plain_statistics as plain
from tests.flow.invariants import check
from tests.flow.world import FlowWorld

ROWS = "abcd"
SHARE = st.floats(0, 1)
LABELS = ("on_time", "late")
FIGURE = st.floats(-1e150, 1e150) | st.sampled_from([0.0, 1e-300, 1e18, 0.1, -0.1])
COLOURS = ("red", "green", "blue")

KINDS: dict[str, tuple[Deployment, st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "regression": (regression(), FIGURE, FIGURE),
    "binary": (
        deployment(),
        st.one_of(
            st.fixed_dictionaries({"late": SHARE}),
            st.fixed_dictionaries({"on_time": SHARE}),
            st.sampled_from(LABELS),
        ),
        st.sampled_from(LABELS),
    ),
    "multiclass": (
        deployment(
            target_type=TargetType.MULTICLASS,
            class_index={label: index for index, label in enumerate(COLOURS)},
            positive_class=None,
        ),
        st.dictionaries(st.sampled_from(COLOURS), SHARE, min_size=1) | st.sampled_from(COLOURS),
        st.sampled_from(COLOURS),
    ),
}


def cells_of(
    settings_of: Deployment, predictions: Sequence[bytes], actuals: Sequence[bytes], pauses: Sequence[int]
) -> dict[AccuracyCellKey, Accuracy]:
    with closing(FlowWorld(settings_of, partitions=1, cells=2)) as world:
        for value in predictions[: len(predictions) // 2]:
            world.predict(value)
        for value, steps in zip(actuals, pauses, strict=False):
            world.tell(value)
            world.steps(steps)
        for value in predictions[len(predictions) // 2 :]:
            world.predict(value)
        check(world)
        return {key: cell for key, cell in world.numbers().accuracy.items() if cell != Accuracy()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(st.data())
def test_corrections_leave_no_trace(kind: str, data: st.DataObject) -> None:
    settings_of, values, truths = KINDS[kind]
    predictions = [
        prediction(row, data.draw(values), at=PREDICTED_AT + timedelta(hours=number)) for number, row in enumerate(ROWS)
    ]
    drawn = data.draw(
        st.lists(
            st.tuples(st.sampled_from(ROWS), truths | st.none(), st.integers(0, 4)),
            unique_by=lambda one: (one[0], one[2]),  # of two at one instant the text decides, which is not the point
            min_size=1,
            max_size=14,
        )
    )
    actuals = [actual(row, value, at=ACTUAL_AT + timedelta(hours=hours)) for row, value, hours in drawn]
    pauses = data.draw(st.lists(st.integers(0, 25), min_size=14, max_size=14))
    events = [json.loads(value) for value in actuals]
    final = [plain.held(event for event in events if event["associationId"] == row) for row in ROWS]
    last = [json.dumps(event).encode() for event in final if event is not None]
    assert cells_of(settings_of, predictions, actuals, pauses) == cells_of(settings_of, predictions, last, [0] * 4)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from(ROWS), FIGURE | st.none(), st.integers(0, 4)), min_size=1, max_size=10))
def test_by_arrival_the_last_received_is_all_that_counts(drawn: list[tuple[str, float | None, int]]) -> None:
    settings_of = regression(join=JoinSpec(actual_order=ActualOrder.ARRIVAL))
    predictions = [prediction(row, 1.5, at=PREDICTED_AT) for row in ROWS]
    actuals = [actual(row, value, at=ACTUAL_AT + timedelta(hours=hours)) for row, value, hours in drawn]
    last = {row: number for number, (row, _, _) in enumerate(drawn)}
    final = [actuals[number] for number in last.values() if drawn[number][1] is not None]
    assert cells_of(settings_of, predictions, actuals, [0, 9] * 5) == cells_of(settings_of, predictions, final, [0] * 9)
