"""What came in must be what the rows and the counters add up to; if not, the metric says by how many records."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from service.domain.row import RowPhase
from tests.builders import ACTUAL_AT, actual, deployment, prediction
from tests.flow.world import FlowWorld

NEXT = prediction("next")


@pytest.fixture
def world() -> Iterator[FlowWorld]:
    """One task, whose store a story may damage: nothing is checked at the end."""
    world = FlowWorld(deployment(), partitions=1)
    try:
        for number in range(3):
            world.predict(prediction(f"row-{number}"))
            world.predict(prediction(f"row-{number}"))
            world.tell(actual(f"row-{number}"))
        world.predict(prediction("open"))
        world.predict(prediction("broken", prediction="early"))
        world.predict(prediction(None))
        world.tell(actual("early"))
        world.tell(actual("early", "on_time", at=ACTUAL_AT + timedelta(hours=1)))
        world.tell(actual("row-0", None, at=ACTUAL_AT + timedelta(hours=1)))
        world.tell(actual("unwanted", keepWithoutPrediction=False))
        world.settle()
        yield world
    finally:
        world.close()


def shown(world: FlowWorld, name: str) -> float | None:
    """The metric after the next audit."""
    world.wait(timedelta(minutes=1))
    return world.workers["one"].metric(name, task="0")


def test_nothing_is_lost(world: FlowWorld) -> None:
    assert shown(world, "conservation_error") == 0
    assert shown(world, "audited_version") == world.checkpoint(0).version
    assert (shown(world, "rows_open"), shown(world, "rows_parked")) == (2, 1)
    assert len(world.rows()) == 5


@pytest.mark.parametrize(
    ("key", "phase", "error"),
    [
        ("flights/open", RowPhase.OPEN, 1),
        ("flights/early", RowPhase.PARKED, 1),
        ("flights/row-0", RowPhase.WITHDRAWN, 1),
        ("flights/row-1", RowPhase.MATCHED, 2),
    ],
)
def test_a_row_that_vanishes_is_missed(world: FlowWorld, key: str, phase: RowPhase, error: int) -> None:
    """A matched row stands for two records, every other one for one."""
    assert world.rows()[key].phase == phase
    del world.store(0)._disk.entries[key.encode()]
    world.predicted(NEXT)
    assert shown(world, "conservation_error") == error
    assert world.conservation_error() == error


def test_a_row_from_nowhere_is_noticed(world: FlowWorld) -> None:
    entries = world.store(0)._disk.entries
    entries[b"flights/ghost"] = entries[b"flights/open"]
    world.predicted(NEXT)
    assert shown(world, "conservation_error") == 1


def test_a_row_in_the_wrong_deployment_is_two_errors(world: FlowWorld) -> None:
    entries = world.store(0)._disk.entries
    entries[b"ferries/open"] = entries.pop(b"flights/open")
    world.predicted(NEXT)
    assert shown(world, "conservation_error") == 2


def test_what_is_missing_in_one_place_does_not_make_up_for_what_is_too_much_in_another(world: FlowWorld) -> None:
    entries = world.store(0)._disk.entries
    del entries[b"flights/open"]
    entries[b"flights/ghost"] = entries[b"flights/early"]
    world.predicted(NEXT)
    assert shown(world, "conservation_error") == 2


def test_the_metrics_of_a_task_leave_with_it(world: FlowWorld) -> None:
    shown(world, "conservation_error")
    world.broker.assign("one", ())
    world.wait(timedelta(seconds=30))
    assert world.workers["one"].metric("conservation_error", task="0") is None
    assert world.workers["one"].metric("rows_open", task="0") is None
    assert world.workers["one"].metric("consumer_lag_records", topic="predictions", partition="0") is None
