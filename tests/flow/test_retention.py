"""Old statistics: hours become days, days go, and what comes late for them is counted where they are.

hours kept  |<------ 2 days ------>| watermark
kept at all |<------------- 5 days -------------->|
"""

from datetime import datetime, timedelta

import pytest

from service.domain.deployment import JoinSpec
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.pipeline.retention import RetentionSpec
from tests.builders import PREDICTED_AT, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.world import FlowWorld

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = PREDICTED_AT.replace(hour=0, minute=0)
SPEC = RetentionSpec(hourly_for=2 * DAY, kept_for=5 * DAY)
PATIENT = deployment(join=JoinSpec(allowed_lateness=timedelta(0), max_future_skew=timedelta(days=400)))


@pytest.fixture
def world(opened: Opened) -> FlowWorld:
    return opened(PATIENT, partitions=1, retention=SPEC)


def one_day(world: FlowWorld, name: str, start: datetime) -> None:
    """A matched row in each of six hours of the day."""
    for hour in (0, 1, 5, 13, 22, 23):
        world.predict(prediction(f"{name}-{hour}", at=start + hour * HOUR))
        world.tell(actual(f"{name}-{hour}", at=start + hour * HOUR))
    world.settle()


def reach(world: FlowWorld, watermark: datetime) -> None:
    world.predict(prediction(f"clock-{watermark}", at=watermark))
    world.tell(actual(f"clock-{watermark}", at=watermark))
    world.settle()
    world.wait(timedelta(seconds=20))
    world.settle()


def hours(world: FlowWorld) -> list[float]:
    """Hours since midnight of the first day that have a cell with predictions."""
    numbers = world.numbers()
    assert {key.hour for key in numbers.accuracy} <= {key.hour for key in numbers.traffic}
    start = MIDNIGHT.timestamp()
    return sorted({key.hour / 1e6 / 3600 - start / 3600 for key, cell in numbers.traffic.items() if cell.predictions})


def total(world: FlowWorld) -> tuple[int, dict[str, int], Accuracy]:
    numbers, predictions = world.numbers(), Traffic()
    for traffic in numbers.traffic.values():
        predictions = predictions.merged(traffic)
    return predictions.predictions, dict(world.outcomes()), world.accuracy()


def test_hours_become_days_and_no_figure_changes(opened: Opened) -> None:
    rolled, plain = opened(PATIENT, partitions=1, retention=SPEC), opened(PATIENT, partitions=1)
    for world in (rolled, plain):
        one_day(world, "first", MIDNIGHT)
        reach(world, MIDNIGHT + 3 * DAY + HOUR)
    assert hours(plain) == [0, 1, 5, 13, 22, 23, 73]
    assert hours(rolled) == [0, 73]
    assert total(rolled) == total(plain)


def test_a_day_that_is_not_old_enough_stays(world: FlowWorld) -> None:
    one_day(world, "first", MIDNIGHT)
    reach(world, MIDNIGHT + 3 * DAY - HOUR)
    assert hours(world) == [0, 1, 5, 13, 22, 23, 71]


def test_what_comes_late_for_a_day_counts_in_its_cell(world: FlowWorld) -> None:
    one_day(world, "first", MIDNIGHT)
    reach(world, MIDNIGHT + 3 * DAY)
    world.told(actual("first-13", "on_time", at=MIDNIGHT + 4 * DAY))
    world.predicted(prediction("backfill", at=MIDNIGHT + 7 * HOUR))
    assert hours(world) == [0, 72]
    assert world.confusion() == {(1, 1): 6, (0, 1): 1}


def test_old_days_go_and_nothing_comes_back(world: FlowWorld) -> None:
    one_day(world, "first", MIDNIGHT)
    one_day(world, "second", MIDNIGHT + DAY)
    reach(world, MIDNIGHT + 6 * DAY)
    assert hours(world) == [24, 144]
    world.told(actual("first-13", "on_time", at=MIDNIGHT + 6 * DAY))
    world.predicted(prediction("backfill", at=MIDNIGHT + 7 * HOUR))
    assert hours(world) == [24, 144]
    assert world.confusion() == {(1, 1): 7}
    world.unchecked = True  # the cells of the first day are gone, its statuses are not
    assert world.conservation_error() == 0


def test_many_days_are_rolled_up_one_after_the_other_and_a_crash_changes_nothing(opened: Opened) -> None:
    rolled, plain = opened(PATIENT, partitions=1, retention=SPEC), opened(PATIENT, partitions=1)
    for world in (rolled, plain):
        for number in range(3):
            one_day(world, f"day-{number}", MIDNIGHT + number * DAY)
        world.predict(prediction("clock", at=MIDNIGHT + 5 * DAY))
        world.tell(actual("clock", at=MIDNIGHT + 5 * DAY))
        world.settle()
        world.wait(timedelta(seconds=1))
        world.kill("one")
        world.start("one", (0,))
        world.settle()
        world.wait(timedelta(seconds=20))
        world.settle()
    assert hours(rolled) == [0, 24, 48, 120]
    assert total(rolled) == total(plain)
