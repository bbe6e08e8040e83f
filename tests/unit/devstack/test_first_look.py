"""The pure parts of `hindsight up`: what is read from the workers, when it is over, and what is left to send."""

import io
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from service.config import settings_from_environment
from service.devstack.demo.figures import (
    Rate,
    Totals,
    WorkerFigures,
    is_audited,
    is_counted,
    month_figures,
    statuses,
    together,
    worker_figures,
)
from service.devstack.demo.producer import Leg, journey, packed, unpacked
from service.devstack.demo.replay import ACTUAL, PREDICTION, Replay
from service.devstack.demo.screen import DemoView, MonthFigure
from service.devstack.roles import only_own
from service.devstack.terminal import plain
from service.devstack.up import Options
from service.domain.errors import Invalid
from service.telemetry import Telemetry
from service.usecases.statistics import AccuracySums, Confused, Figures

VERSIONS = {0: 7, 1: 9}


# --- what the workers say -------------------------------------------------------------------------------------------


def exposed(*tasks: int) -> str:
    telemetry = Telemetry(CollectorRegistry())
    for task in tasks:
        telemetry.consumer_lag_records.labels("predictions", task).set(3)
        telemetry.consumer_lag_records.labels("actuals", task).set(4)
        telemetry.rows_open.labels(task).set(10 + task)
        telemetry.conservation_error.labels(task).set(task)
        telemetry.audited_version.labels(task).set(VERSIONS[task])
    return generate_latest(telemetry.registry).decode()


def test_the_figures_of_one_worker_are_those_of_its_metrics() -> None:
    figures = worker_figures(exposed(0, 1))
    assert figures == WorkerFigures(lag_records=14, rows_open=21, conservation_error=1, audited=VERSIONS)


def test_a_worker_without_tasks_says_nothing() -> None:
    assert worker_figures(exposed()) == WorkerFigures()


def test_workers_add_up() -> None:
    assert together([worker_figures(exposed(0)), worker_figures(exposed(1))]) == worker_figures(exposed(0, 1))
    assert together([]) == WorkerFigures()


# --- when it is over ------------------------------------------------------------------------------------------------


def test_it_is_counted_when_both_inputs_are() -> None:
    totals = Totals(predictions=5, actuals=4)
    assert totals.received == 9
    assert is_counted(totals, predictions=5, actuals=4)
    assert not is_counted(totals, predictions=6, actuals=4)
    assert not is_counted(totals, predictions=5, actuals=5)


@pytest.mark.parametrize(
    ("workers", "audited"),
    [
        (WorkerFigures(audited=VERSIONS), True),
        (WorkerFigures(audited=VERSIONS, lag_records=1), False),
        (WorkerFigures(audited={0: 7, 1: 8}), False),
        (WorkerFigures(audited={0: 7}), False),
        (WorkerFigures(), False),
    ],
)
def test_it_is_audited_when_every_audit_saw_the_last_commit(workers: WorkerFigures, audited: bool) -> None:
    assert is_audited(Totals(versions=VERSIONS), workers, tasks=2) is audited


def test_a_task_that_was_never_taken_is_not_audited() -> None:
    assert not is_audited(Totals(versions=VERSIONS), WorkerFigures(audited=VERSIONS), tasks=3)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    rate = Rate(window_s=2.0)
    assert rate.at(0.0, 100) == 0.0
    assert rate.at(1.0, 200) == 100.0
    assert rate.at(2.0, 600) == 250.0
    assert rate.at(3.0, 800) == 300.0
    assert rate.at(9.0, 800) == 0.0


# --- what the database says -----------------------------------------------------------------------------------------


def sums(*confusion: tuple[str, str, int]) -> AccuracySums:
    nothing = Decimal(0)
    rows = sum(cell[2] for cell in confusion)
    return AccuracySums(
        matched=rows,
        error=nothing,
        absolute_error=nothing,
        squared_error=nothing,
        actual=nothing,
        actual_square=nothing,
        log_loss_rows=rows,
        log_loss=Decimal(rows) / 2,
        confusion=[Confused(actual=actual, predicted=predicted, rows=count) for actual, predicted, count in confusion],
    )


def test_months_and_statuses() -> None:
    january = Figures(
        group="2013-01",
        predictions=12,
        outcomes={"ACCEPTED": 12, "MATCHED": 10},
        accuracy=sums(("late", "late", 6), ("late", "on_time", 1), ("on_time", "on_time", 3)),
    )
    february = Figures(group="2013-02", predictions=2, outcomes={"ACCEPTED": 2})
    assert statuses([january, february]) == {"ACCEPTED": 14, "MATCHED": 10}
    assert month_figures([january, february]) == [
        MonthFigure(month="2013-01", predictions=12, matched=10, accuracy=0.9, log_loss=0.5),
        MonthFigure(month="2013-02", predictions=2, matched=0, accuracy=None, log_loss=None),
    ]


# --- what is left to send -------------------------------------------------------------------------------------------
#
#   flight   0  1  0' 2  2' 3  1' 3'        ' = its actual, in order of landing
#   place    0  1  2  3  4  5  6  7

FLIGHTS = [0, 1, 0, 2, 2, 3, 1, 3]
TOPICS = [PREDICTION, PREDICTION, ACTUAL, PREDICTION, ACTUAL, PREDICTION, ACTUAL, ACTUAL]
NAMES = [b"p0", b"p1", b"a0", b"p2", b"a2", b"p3", b"a1", b"a3"]


@pytest.fixture
def year() -> Replay:
    return Replay(
        topics=np.array(TOPICS, dtype=np.int8),
        event_at_us=np.arange(len(FLIGHTS), dtype=np.int64),
        flights=np.array(FLIGHTS, dtype=np.uint32),
        keys=[b"%d" % flight for flight in FLIGHTS],
        values=NAMES,
    )


def test_the_first_journey_is_the_head_of_the_year(year: Replay) -> None:
    first = journey(year, [], 2)
    assert first.left.values == year.head(2).values == [b"p0", b"p1", b"a0", b"a1"]
    assert first.legs == [Leg(rows=2)]
    assert first.before == {PREDICTION: 0, ACTUAL: 0}


def test_a_journey_cut_between_the_topics_goes_on_with_exactly_the_rest(year: Replay) -> None:
    legs = [Leg(rows=4).further(PREDICTION, 3).further(ACTUAL, 1)]
    rest = journey(year, legs, 4)
    assert rest.left.values == [b"a2", b"p3", b"a1", b"a3"]
    assert rest.legs == legs
    assert rest.before == {PREDICTION: 3, ACTUAL: 1}


def test_more_flights_are_gone_on_with_from_where_fewer_were_cut(year: Replay) -> None:
    """The actuals of the first two flights are no beginning of those of all four, by landing."""
    of_two = Leg(rows=2, predictions=2, actuals=1)
    all_four = journey(year, [of_two], 4)
    assert all_four.left.values == [b"p2", b"a2", b"p3", b"a1", b"a3"]
    assert all_four.legs == [of_two, Leg(rows=4)]
    further = [of_two, Leg(rows=4).further(PREDICTION, 1).further(ACTUAL, 2)]
    assert journey(year, further, 4).left.values == [b"p3", b"a3"]


def test_fewer_flights_than_before_leave_nothing(year: Replay) -> None:
    done = [Leg(rows=4, predictions=4, actuals=4)]
    assert len(journey(year, done, 2).left) == 0
    assert journey(year, done, 2).before == {PREDICTION: 4, ACTUAL: 4}


def test_a_leg_that_sent_nothing_is_forgotten(year: Replay) -> None:
    assert journey(year, [Leg(rows=2)], 3).legs == [Leg(rows=3)]


def test_legs_are_kept_as_a_line() -> None:
    legs = [Leg(rows=2000, predictions=2000, actuals=1964), Leg(rows=4000, predictions=120, actuals=7)]
    assert packed(legs) == "2000:2000:1964 4000:120:7"
    assert unpacked(packed(legs)) == legs
    assert unpacked("") == []


# --- the rest -------------------------------------------------------------------------------------------------------


def test_a_child_knows_no_setting_but_ours() -> None:
    inherited = {"PATH": "/bin", "HINDSIGHT_KAFKA__GROUP_ID": "other", "hindsight_api__port": "1"}
    environment = inherited | only_own({"HINDSIGHT_API__PORT": "8081"}, inherited)
    assert environment["PATH"] == "/bin"
    settings = settings_from_environment(environment)
    assert (settings.kafka.group_id, settings.api.port) == ("hindsight", 8081)


def test_a_plain_line() -> None:
    view = DemoView(
        elapsed_s=2.4,
        produced_predictions=1_500,
        produced_actuals=500,
        total=4_000,
        events_per_s=833.3,
        lag_records=17,
        rows_open=1_000,
        outcomes={"MATCHED": 483, "ACCEPTED": 1_500},
        months=(),
        batches=2,
        conservation_error=0,
        broker="Apache Kafka",
    )
    shown = io.StringIO()
    Console(file=shown, width=200).print(plain(view))
    assert shown.getvalue() == (
        "2 s: 2,000 of 4,000 sent, 833 events/s, 17 behind, 1,000 open, lost or doubled 0; "
        "ACCEPTED 1,500, MATCHED 483\n"
    )


@pytest.mark.parametrize(
    ("demo", "rows", "speed", "wrong"),
    [(None, 5, None, "add --demo"), (None, None, 1.0, "add --demo"), ("flights", None, 0.0, "above 0")],
)
def test_options_that_make_no_sense(demo: str | None, rows: int | None, speed: float | None, wrong: str) -> None:
    options = Options(
        demo=demo,
        rows=rows,
        speed=speed,
        exit_when_done=False,
        json=False,
        data_dir=Path(),
        broker="auto",
        workers=1,
    )
    with pytest.raises(Invalid, match=wrong):
        options.check()
