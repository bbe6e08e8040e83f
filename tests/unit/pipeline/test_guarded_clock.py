"""Wall time: the smaller of two clocks, and never backwards."""

from datetime import timedelta

from service.adapters.memory import HandClock
from service.pipeline.guarded_clock import ANSWER_S, GuardedClock

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


def test_before_any_comparison_the_machine_is_believed() -> None:
    clock = HandClock()
    assert GuardedClock(clock).now() == clock.now()


def test_a_machine_that_runs_ahead_is_not_believed() -> None:
    clock = HandClock()
    guarded, database = GuardedClock(clock), clock.now()
    guarded.compare(database, clock.monotonic())
    clock.jump(database + HOUR)
    assert guarded.now() == database
    clock.advance(SECOND)
    assert guarded.now() == database + SECOND


def test_a_database_that_runs_ahead_is_not_believed_either() -> None:
    clock = HandClock()
    guarded = GuardedClock(clock)
    guarded.compare(clock.now() + HOUR, clock.monotonic())
    assert guarded.now() == clock.now()


def test_a_clock_that_is_set_back_stands_still() -> None:
    clock = HandClock()
    guarded, before = GuardedClock(clock), clock.now()
    clock.advance(HOUR)
    assert guarded.now() == before + HOUR
    clock.jump(before)
    assert guarded.now() == before + HOUR
    clock.advance(HOUR + SECOND)
    assert guarded.now() == before + HOUR + SECOND


def test_a_slow_answer_does_not_put_the_clock_back() -> None:
    clock = HandClock()
    guarded, asked_at, database = GuardedClock(clock), clock.monotonic(), clock.now()
    clock.advance(2 * SECOND)
    guarded.compare(database, asked_at)
    assert guarded.now() == clock.now()


def test_an_answer_that_took_too_long_is_not_taken() -> None:
    clock = HandClock()
    guarded = GuardedClock(clock)
    assert guarded.compare(clock.now(), clock.monotonic())
    asked_at, early = clock.monotonic(), clock.now()
    clock.advance(timedelta(seconds=ANSWER_S) + SECOND)
    assert not guarded.compare(early, asked_at)  # asked, stood still, and heard how late it was then
    assert guarded.now() == clock.now()
    clock.jump(clock.now() + HOUR)  # this machine runs ahead
    assert not guarded.compare(clock.now(), asked_at)
    assert guarded.now() == clock.now() - HOUR
