"""How many micro-batches there are of a trickle, and of a backlog. Time is virtual."""

from datetime import timedelta

from tests.builders import deployment, prediction
from tests.flow.conftest import Opened

SPAN = timedelta(seconds=2)
EVERY = timedelta(milliseconds=5)


def test_a_trickle_is_gathered(opened: Opened) -> None:
    world = opened(deployment(), partitions=1)
    world.settle()
    before, number = world.ledger.commits, SPAN // EVERY
    for i in range(number):
        world.predict(prediction(f"row-{i}"))
        world.wait(EVERY)
    assert 40 <= world.ledger.commits - before <= 51
    world.settle()
    assert world.outcomes() == {"ACCEPTED": number}


def test_of_a_backlog_micro_batches_follow_each_other(opened: Opened) -> None:
    world = opened(deployment(), partitions=1, max_records=4, started=False)
    for i in range(800):
        world.predict(prediction(f"row-{i}"))
    started = world.clock.now()
    world.start("one", [0])
    world.settle()
    assert world.ledger.commits >= 200
    assert world.clock.now() - started < timedelta(seconds=1)
