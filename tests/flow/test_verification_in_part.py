"""What `verify` can compare in part only, or not at all."""

from dataclasses import replace
from datetime import timedelta

from service.domain.deployment import JoinSpec
from service.pipeline.retention import RetentionSpec
from tests.builders import actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.test_verification import only_task, told
from tests.flow.verified import look


def test_hours_after_the_gap_are_compared_in_full(opened: Opened) -> None:
    world = opened(deployment(), partitions=1)
    for name in ("old", "older"):
        world.predicted(prediction(name, at=world.clock.now()))
    world.pass_time(timedelta(hours=30))
    world.predicted(prediction("young", at=world.clock.now()))
    world.pass_time(timedelta(hours=3))
    world.predicted(prediction("new", at=world.clock.now()))
    looked = look(world)
    looked.statuses.dropped[0] = {0}
    cells = {key: replace(cell, predictions=7) for key, cell in looked.change(0).prediction_cells.items()}
    looked.change(0, prediction_cells=cells)
    assert [(expected, found) for _, figure, expected, found in told(only_task(looked))] == [(1, 7), (1, 7)]


def test_days_and_what_was_dropped(opened: Opened) -> None:
    kept = RetentionSpec(hourly_for=timedelta(days=2), kept_for=timedelta(days=20))
    world = opened(deployment(join=JoinSpec(allowed_lateness=timedelta(0))), partitions=1, retention=kept)
    start = world.clock.now() - timedelta(days=40)
    for number in range(40):
        at = start + timedelta(days=number)
        world.predict(prediction(f"row-{number}", at=at))
        world.tell(actual(f"row-{number}", at=at))
        world.settle()
    world.wait(timedelta(seconds=30))
    world.settle()
    world.unchecked = True  # what was dropped is missed in the sum of all outcomes
    task = only_task(look(world))
    assert (task.differences, task.faults) == ([], []) and task.cells > 20
    assert any("were dropped (HINDSIGHT_PIPELINE__KEPT_DAYS)" in note for note in task.unchecked)
    assert any("they were rolled up, and compared by the day" in note for note in task.unchecked)


def test_deleted_batches(opened: Opened) -> None:
    world = opened(deployment(batch_enabled=True), partitions=1)
    batch = world.catalog.open_batch("flights", "one")
    world.predicted(prediction("a", batchId=batch.id))
    world.predicted(prediction("b"))
    world.catalog.delete_batch("flights", batch.id)
    world.settle()
    world.told(actual("a"))
    task = only_task(look(world))
    assert task.differences == [] and task.cells == 1
    assert any("1 deleted monitoring batches with 2 statuses" in note for note in task.unchecked)


def test_a_task_that_nobody_took(opened: Opened) -> None:
    looked = look(opened(deployment(), partitions=1))

    async def nothing(task: int) -> None:
        return None

    looked.cells.snapshot = nothing  # type: ignore[method-assign]
    assert only_task(looked).unchecked == ["no worker has taken this task yet"]
    looked.cells.world.predicted(prediction())
    assert only_task(looked).faults[0].startswith("version 1 was published, but the ledger in the database stands at")
    looked.statuses.hidden = True
    assert only_task(looked).faults == ["its status partition is not empty, but the ledger has no such task"]
