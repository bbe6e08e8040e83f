"""A long run of records that do not decode pauses its task until a person lets it go on."""

from datetime import timedelta

import pytest

from service.domain.deployment import JoinSpec
from service.domain.flood import Flood
from tests.builders import actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.world import FlowWorld

A_WHILE = timedelta(seconds=30)


def rows_at(world: FlowWorld, task: int, count: int) -> list[str]:
    """Association IDs whose home is this task."""
    return [name for name in (f"r{i}" for i in range(1_000)) if world.home(name) == task][:count]


def flood(world: FlowWorld, records: int, task: int = 0) -> None:
    for number in range(records):
        world.predict(b"?%d" % number, partition=task)


def flooded(world: FlowWorld, task: int = 0, worker: str = "one") -> float | None:
    return world.workers[worker].metric("task_flooded", task=str(task))


def resumed_until_done(world: FlowWorld, end: int) -> int:
    """Resume task 0 again and again; returns how often that took."""
    resumed = 0
    while world.checkpoint(0).offsets["predictions"] < end:
        resumed += bool(world.resume(0))
        world.wait(A_WHILE)
    return resumed


def test_a_flood_pauses_its_task_and_no_other(opened: Opened) -> None:
    """Nothing more is taken; what was already polled is dead-lettered. The others go on."""
    world = opened(deployment(), flood=5, max_records=4)
    flood(world, 100)
    world.wait(A_WHILE)
    assert len(world.dead_letters()) == 8
    assert world.checkpoint(0).flood == Flood(runs={"predictions": 8}, paused_by="predictions")
    assert [flooded(world, task) for task in range(4)] == [1, 0, 0, 0]
    (told,) = world.workers["one"].supervisor.flooded.values()
    assert "8 records in a row on monitoring.predictions.v1, partition 0" in told
    assert "hindsight resume --partition 0" in told

    here, elsewhere = rows_at(world, 0, 1)[0], rows_at(world, 2, 1)[0]
    world.predict(prediction(here))
    world.predict(prediction(elsewhere))
    world.wait(A_WHILE)
    assert [status.fields["rowId"] for status in world.news()] == [elsewhere]

    assert resumed_until_done(world, 101) == 12  # each time a run from 0 on: eight, twelve times, and then four
    assert [status.fields["rowId"] for status in world.settle()] == [here]
    assert len(world.dead_letters()) == 100
    assert flooded(world) == 0 and not world.workers["one"].supervisor.flooded


def test_a_run_that_a_good_record_ends_is_no_flood(opened: Opened) -> None:
    world = opened(deployment(), flood=5, max_records=3)
    for name in rows_at(world, 0, 20):
        flood(world, 5)
        world.predict(prediction(name))
    assert len(world.settle()) == 20
    assert len(world.dead_letters()) == 100
    assert world.checkpoint(0).flood == Flood()


def test_a_flood_within_one_micro_batch_pauses_too(opened: Opened) -> None:
    world = opened(deployment(), flood=5)
    flood(world, 6)
    world.predict(prediction(rows_at(world, 0, 1)[0]))
    world.settle()
    assert world.checkpoint(0).flood == Flood(runs={"predictions": 6}, paused_by="predictions")
    assert world.resume() == {0: Flood(runs={"predictions": 6}, paused_by="predictions")}


def test_a_restart_does_not_start_over(opened: Opened) -> None:
    """Nor does another owner: run and pause are in the ledger."""
    world = opened(deployment(), flood=5, max_records=3, started=False)
    flood(world, 100)
    world.start("one", range(4))
    world.wait(A_WHILE)
    written = len(world.dead_letters())
    assert written == 6
    for name in ("one", "one", "two"):
        world.kill(next(iter(world.workers)))
        world.start(name, range(4))
        world.wait(A_WHILE)
        assert len(world.dead_letters()) == written
        assert flooded(world, worker=name) == 1
        assert world.workers[name].supervisor.restored
    assert resumed_until_done(world, 100) == 16


def test_a_run_goes_on_across_owners(opened: Opened) -> None:
    world = opened(deployment(), flood=5)
    flood(world, 3)
    world.settle()
    assert world.checkpoint(0).flood == Flood(runs={"predictions": 3})
    world.kill("one")
    world.start("two", range(4))
    flood(world, 3)
    world.settle()
    assert world.checkpoint(0).flood.paused_by == "predictions"


def test_chores_are_done_while_a_task_is_paused(opened: Opened) -> None:
    """A deleted batch goes, and the pause stays."""
    world = opened(deployment(batch_enabled=True), flood=5)
    batch = world.catalog.open_batch("flights", "January")
    world.predicted(prediction(rows_at(world, 0, 1)[0], batchId=batch.id))
    flood(world, 6)
    world.settle()
    world.catalog.delete_batch("flights", batch.id)
    world.settle()
    assert not world.numbers().traffic or all(not cell.predictions for cell in world.numbers().traffic.values())
    assert world.checkpoint(0).flood.paused_by == "predictions"


@pytest.mark.parametrize("halved", [False, True])
def test_what_a_deployment_refuses_is_no_flood(opened: Opened, halved: bool) -> None:
    """Unknown deployments, wrong classes, closed batches: they stop nothing, however many there are."""
    world = opened(deployment(), flood=5, slot_bytes=700 if halved else 1 << 20)
    for name in rows_at(world, 0, 20):
        world.predict(prediction(name, deployment_id="nobody"))
        world.predict(prediction(name, "no-class"))
        world.tell(actual(name, deployment_id="nobody"))
        world.predict(prediction(name, batchId="none"))
    world.settle()
    assert len(world.dead_letters()) == 80
    assert world.checkpoint(0).flood == Flood()


def test_undecodable_strays_are_counted_where_they_are_refused(opened: Opened) -> None:
    world = opened(deployment(), flood=5)
    for name in rows_at(world, 0, 6):
        world.predict(prediction(name, features=None, timestamp="never"), partition=1)
    world.settle()
    assert world.checkpoint(1).flood == Flood()
    assert world.checkpoint(0).flood == Flood(runs={"rekey": 6}, paused_by="rekey")


def test_time_stands_still_while_a_task_is_paused(opened: Opened) -> None:
    """What waits behind the flood may be the actual: no row becomes unmatched before it was looked at."""
    world = opened(deployment(join=JoinSpec(window=timedelta(minutes=10), grace=timedelta(minutes=10))), flood=5)
    name = rows_at(world, 0, 1)[0]
    world.predict(prediction(name))
    world.tell(actual("elsewhere", deployment_id="nobody"), partition=0)
    flood(world, 6)
    world.wait(timedelta(hours=1))
    assert [status.word for status in world.news()] == ["ACCEPTED"]
    world.resume()
    world.wait(timedelta(hours=1))
    assert "UNMATCHED" in [status.word for status in world.news()]
