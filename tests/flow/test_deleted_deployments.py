"""A deployment that is deleted while rows of it wait: its numbers go on every task, and nothing counts for it again.

predicted     deleted                    due
   |------------x---------------------------|
 counted    cells go               no outcome, no status that counts
"""

from datetime import timedelta

import pytest

from service.domain.deployment import JoinSpec
from tests.builders import PREDICTED_AT, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.world import FlowWorld

WINDOW = timedelta(hours=1)
SPEC = JoinSpec(window=WINDOW, grace=WINDOW, allowed_lateness=timedelta(0), max_future_skew=timedelta(days=1))


@pytest.fixture
def world(opened: Opened) -> FlowWorld:
    opened_world = opened(deployment(join=SPEC), deployment(id="other", join=SPEC), partitions=4)
    for number in range(12):
        opened_world.predict(prediction(f"row-{number}"))
        opened_world.predict(prediction(f"row-{number}", deploymentId="other"))
    for number in range(6):
        opened_world.tell(actual(f"row-{number}"))
        opened_world.tell(actual(f"row-{number}", deploymentId="other"))
    opened_world.settle()
    return opened_world


def counted(world: FlowWorld, deployment_id: str) -> tuple[int, int]:
    """Its predictions and its matched pairs."""
    numbers = world.numbers()
    predictions = [cell.predictions for key, cell in numbers.traffic.items() if key.deployment_id == deployment_id]
    matched = [cell.matched for key, cell in numbers.accuracy.items() if key.deployment_id == deployment_id]
    return sum(predictions), sum(matched)


def has_cells(world: FlowWorld, deployment_id: str) -> bool:
    numbers = world.numbers()
    return deployment_id in {key.deployment_id for key in numbers.traffic} | {
        key.deployment_id for key in numbers.accuracy
    }


def test_its_cells_go_on_every_task_and_no_others(world: FlowWorld) -> None:
    assert counted(world, "flights") == counted(world, "other") == (12, 6)
    world.catalog.delete("flights")
    world.settle()
    assert not has_cells(world, "flights")
    assert counted(world, "other") == (12, 6)


def test_rows_that_were_waiting_count_nowhere_when_their_time_comes(world: FlowWorld) -> None:
    world.catalog.delete("flights")
    for step in range(1, 5):
        world.predict(prediction(f"clock-{step}", at=PREDICTED_AT + step * WINDOW, deploymentId="other"))
        world.tell(actual(f"clock-{step}", at=PREDICTED_AT + step * WINDOW, deploymentId="other"))
        world.settle()
        world.pass_time(WINDOW)
    assert not has_cells(world, "flights")
    assert counted(world, "other") == (16, 10)


def test_what_comes_afterwards_is_a_dead_letter(world: FlowWorld) -> None:
    world.catalog.delete("flights")
    world.predict(prediction("late"))
    world.tell(actual("row-7"))
    world.settle()
    assert [letter.reason for letter in world.dead_letters()] == ["unknown_deployment"] * 2
    assert not has_cells(world, "flights")


def test_cells_that_were_cold_go_too(world: FlowWorld) -> None:
    (name,) = world.workers
    world.kill(name)
    world.start(name, range(4))
    world.catalog.delete("flights")
    world.settle()
    assert not has_cells(world, "flights")
