"""The lives of all rows, put together, are the statistics: what each record is told to have counted for adds up to the
cells."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.domain.deployment import Deployment, JoinSpec, LatePolicy, TargetType
from service.domain.outcomes import Outcome
from service.domain.stats.accuracy import PAIR_STRIDE
from service.domain.stats.moments import as_decimal
from service.ports import Topic
from service.usecases.row_life import Arrived, History, Known, Place, RowLife, compose
from service.usecases.row_shares import Cell
from service.usecases.status_stream import Published
from service.wire.held_row import label_day_text
from service.wire.instants import rfc3339
from tests.builders import actual, deployment, prediction, regression
from tests.flow.conftest import Opened
from tests.flow.test_statistics import Day
from tests.flow.world import PREFIX, FlowWorld

LABELS: dict[TargetType, tuple[Any, ...]] = {
    TargetType.BINARY: ("late", "on_time", None),
    TargetType.REGRESSION: (0, -3, 12.5, None),
}


def lives(world: FlowWorld, of: Deployment) -> list[RowLife]:
    """Of every row that has a status."""
    arrived = {
        Place(f"{PREFIX}.{role}.v1", task, record.offset): Arrived(record.timestamp, record.value)
        for role in (Topic.PREDICTIONS, Topic.ACTUALS)
        for task in range(world.broker.partitions)
        for record in world.broker.log(role, task).read(0, 1 << 30)
    }
    known = Known(prefix=PREFIX, deployment=of, arrived=arrived)
    histories: dict[tuple[int, bytes], History] = {}
    for task in range(world.broker.partitions):
        for record in world.broker.log(Topic.STATUS, task).read(0, 1 << 30):
            key = record.key or b""
            published = Published(task, record.offset, record.timestamp, key, record.value, tuple(record.headers))
            histories.setdefault((task, key), History()).add(published)
    found = []
    for (task, key), history in histories.items():
        deployment_id, _, row_id = key.decode().partition("/")
        found.append(compose(deployment_id, row_id, task, history, known))
    return found


def told(lives: Iterable[RowLife]) -> tuple[Counter[Any], Counter[Any], Counter[Any], dict[Cell, list[float]]]:
    """Predictions and outcomes by cell, confusion by cell, and sums of log-loss and errors by cell."""
    predictions: Counter[Any] = Counter()
    outcomes: Counter[Any] = Counter()
    pairs: Counter[Any] = Counter()
    sums: dict[Cell, list[float]] = {}
    for step in (step for life in lives for step in life.steps):
        if (traffic := step.traffic) is not None:
            predictions[traffic.cell] += traffic.predictions
            outcomes[traffic.cell, traffic.outcome] += 1
        for share in step.accuracy:
            pairs[share.cell, share.actual_class, share.predicted_class] += share.sign
            terms = [share.log_loss, share.error, share.absolute_error, share.squared_error]
            total = sums.setdefault(share.cell, [0.0] * 4)
            sums[share.cell] = [old + share.sign * (new or 0.0) for old, new in zip(total, terms, strict=True)]
    return +predictions, outcomes, +pairs, sums


HOUR = timedelta(hours=1)
BRIEF = JoinSpec(window=HOUR, grace=3 * HOUR, early_ttl=2 * HOUR)
"""So that windows close and rows are forgotten while records still come."""


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (deployment(), {"CORRECTED"}),
        (regression(), {"CORRECTED"}),
        (deployment(join=BRIEF), {"UNMATCHED", "EXPIRED", "FORGOTTEN", "ORPHAN", "LATE_CORRECTED"}),
        (regression(join=replace(BRIEF, late_policy=LatePolicy.REJECT)), {"UNMATCHED", "EXPIRED", "LATE_REJECTED"}),
        (regression(join=replace(BRIEF, late_policy=LatePolicy.RECORD)), {"FORGOTTEN", "LATE_RECORDED"}),
    ],
)
def test_they_add_up_to_the_cells(opened: Opened, of: Deployment, words: set[str]) -> None:
    assert of.target_type is not None
    world = opened(of, partitions=1, max_records=7)
    day = Day(world, seed=11)
    names = [f"row-{number}" for number in range(60)]
    for name in [*names, *names[:10]]:  # some again, with another value
        share = day.random.random()
        day.predict(name, {"late": share} if of.target_type is TargetType.BINARY else share * 100)
    value: Any = {"late": 0.9} if of.target_type is TargetType.BINARY else 7
    world.predict(prediction(None, value))
    world.predict(prediction("bad", {"green": 0.9}))
    day.tell_some(names, list(LABELS[of.target_type]))
    world.settle()
    world.clock.advance(2 * HOUR)
    for name in ("one", "two", "three"):  # time has passed by then
        day.world.predict(
            prediction(name, {"late": 0.9} if of.target_type is TargetType.BINARY else 7, at=world.clock.now())
        )
        day.world.tell(actual(name, LABELS[of.target_type][0], at=world.clock.now()))
        world.settle()
        world.wait(timedelta(seconds=2))
    world.settle()

    predictions, outcomes, pairs, sums = told(lives(world, of))
    numbers = world.numbers()
    cells = {
        key: Cell(hour=rfc3339(key.hour), model_id=key.model_id or None, batch_id=key.batch_id or None)
        for key in numbers.traffic
    }
    assert predictions == +Counter({cells[key]: cell.predictions for key, cell in numbers.traffic.items()})
    assert outcomes == +Counter(
        {
            (cells[key], Outcome(code).name): count
            for key, cell in numbers.traffic.items()
            for code, count in enumerate(cell.outcomes.tolist())
        }
    )
    assert words | {"DUPLICATE", "CONFLICT", "WITHDRAWN", "INVALID"} <= {word for _, word in outcomes}
    labels = list(of.class_index)
    expected: Counter[Any] = Counter()
    for key, cell in numbers.accuracy.items():
        place = Cell(
            hour=rfc3339(key.hour), model_id=key.model_id, batch_id=key.batch_id or None,
            label_day=label_day_text(key.label_day),
        )  # fmt: skip
        if of.target_type is TargetType.REGRESSION:
            expected[place, None, None] = cell.matched
        for pair, count in cell.confusion.items():
            expected[place, labels[pair // PAIR_STRIDE], labels[pair % PAIR_STRIDE]] = count
        figures = (cell.log_loss, cell.error, cell.absolute_error, cell.squared_error)
        for one, quanta in zip(sums.get(place, [0.0] * 4), figures, strict=True):
            assert math.isclose(one, float(as_decimal(quanta)), rel_tol=1e-9, abs_tol=1e-9)
    assert pairs == +expected
    assert sum(pairs.values()) > 5


def test_the_live_row_is_the_last_status(opened: Opened) -> None:
    """A worker answers with the row of its store, which the statuses led to."""
    world = opened(deployment())
    day = Day(world, seed=3)
    names = [f"row-{number}" for number in range(20)]
    for name in names:
        day.predict(name, {"late": day.random.random()})
    day.tell_some(names, ["late", "on_time", None])
    world.settle()
    for life in lives(world, deployment()):
        held = world.workers["one"].supervisor.held(life.deployment_id, life.row_id)
        assert (held.row, held.task) == (life.row, life.partition)
        assert held.version == world.checkpoint(held.task).version
