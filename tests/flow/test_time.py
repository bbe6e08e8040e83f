"""What happens because time passes: windows close, late actuals correct, rows are forgotten.

Time is the watermark: the slower input, less an allowed lateness of ten minutes. Rows wait an hour for their
actual, two more hours for a late one, and actuals wait three hours for their prediction. Timers fire by the full hour.
"""

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.deployment import ActualOrder, Deployment, JoinSpec, LatePolicy
from service.domain.row import RowPhase
from service.ports import MicroBatch, SettingsMoved, Unavailable
from tests.builders import ASSOCIATION_ID, PREDICTED_AT, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.published import TOMBSTONE, Status, words
from tests.flow.world import FlowWorld

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LATENESS = 10 * MINUTE
ROW = f"flights/{ASSOCIATION_ID}"
DUE = PREDICTED_AT + HOUR
DROP = DUE + 2 * HOUR
LATE, ON_TIME = (1, 1), (0, 1)
"""Confusion pairs of a flight that was predicted to be late."""


def brief(**fields: object) -> Deployment:
    spans = {"window": HOUR, "grace": 2 * HOUR, "early_ttl": 3 * HOUR, "allowed_lateness": LATENESS}
    return deployment(join=JoinSpec(**(spans | fields)))  # type: ignore[arg-type]


@pytest.fixture
def world(opened: Opened) -> FlowWorld:
    return opened(brief(), partitions=1)


def reach(world: FlowWorld, watermark: datetime) -> list[Status]:
    """Other rows of this time move the watermark; returns what came of all rows but them."""
    name = f"clock-{watermark:%d-%H%M%S%f}"
    world.predict(prediction(name, at=watermark + LATENESS))
    world.tell(actual(name, at=watermark + LATENESS))
    world.settle()
    world.wait(timedelta(seconds=5))
    world.settle()
    return [status for status in world.statuses() if b"clock-" not in status.key][-3:]


def end(world: FlowWorld) -> str:
    """The last word on the row."""
    return [status for status in world.statuses() if status.key == ROW.encode()][-1].word


# ------------------------------------------------------------------------------------------- a window closes
#
#   event time  10:17          11:17             12:00
#               |--- window ---|                 |
#          prediction         due         the timer fires


def test_a_row_without_an_actual_is_unmatched_when_its_window_has_passed(world: FlowWorld) -> None:
    world.predicted(prediction())
    reach(world, DUE + 40 * MINUTE)
    assert end(world) == "ACCEPTED"
    status = reach(world, DUE + 43 * MINUTE)[-1]
    assert (status.word, status.fields["revision"], status.source) == ("UNMATCHED", 2, None)
    assert "hindsight-source" not in status.headers
    assert world.rows()[ROW].phase == RowPhase.UNMATCHED
    assert world.outcomes()["UNMATCHED"] == 1


def test_a_cell_knows_when_the_last_of_its_windows_closes(world: FlowWorld) -> None:
    world.predict(prediction())
    world.predict(prediction("later", at=PREDICTED_AT + MINUTE))
    world.predict(prediction(None, at=PREDICTED_AT + 2 * MINUTE))
    world.settle()
    (cell,) = world.numbers().traffic.values()
    assert (cell.predictions, cell.last_due) == (3, round((DUE + MINUTE).timestamp() * 1e6))


def test_a_matched_row_is_left_in_peace(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(at=DUE - MINUTE))
    reach(world, DUE + HOUR)
    assert end(world) == "MATCHED"
    assert world.rows()[ROW].phase == RowPhase.MATCHED


def test_a_withdrawn_actual_does_not_keep_the_window_open(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(at=PREDICTED_AT + MINUTE))
    world.told(actual(actual=None, at=PREDICTED_AT + 2 * MINUTE))
    reach(world, DUE + HOUR)
    assert end(world) == "UNMATCHED"
    assert world.rows()[ROW].phase == RowPhase.UNMATCHED_WITHDRAWN


# ------------------------------------------------------------------------------------------- a late actual
#
#   event time  10:17          11:17                        13:17
#               |--- window ---|---------- grace -----------|
#          prediction         due      X late actual       drop


def test_a_late_actual_corrects(world: FlowWorld) -> None:
    world.predicted(prediction())
    reach(world, DUE + HOUR)
    status = world.told(actual())
    assert (status.word, status.fields["revision"]) == ("LATE_CORRECTED", 3)
    assert status.fields["actual"] == "late"
    assert world.confusion()[LATE] == 1 + world.outcomes()["MATCHED"]
    (key,) = [key for key in world.numbers().accuracy if key.hour == _hour(PREDICTED_AT)]
    assert world.numbers().accuracy[key].matched == 1


def test_the_watermark_judges_not_the_timer(world: FlowWorld) -> None:
    """At 11:30 the timer of the hour has not fired yet, but the window has closed."""
    world.predicted(prediction())
    reach(world, DUE + 13 * MINUTE)
    assert end(world) == "ACCEPTED"
    world.tell(actual())
    assert words(world.settle()) == ["UNMATCHED", "LATE_CORRECTED"]


def test_where_late_actuals_are_only_recorded_no_number_changes(opened: Opened) -> None:
    world = opened(brief(late_policy=LatePolicy.RECORD), partitions=1)
    world.predicted(prediction())
    reach(world, DUE + HOUR)
    before = world.accuracy()
    status = world.told(actual())
    assert (status.word, status.fields["revision"]) == ("LATE_RECORDED", 2)
    assert "actual" not in status.fields
    assert (world.accuracy(), world.dead_letters()) == (before, [])
    assert world.clocks(0)["flights"].dispositions["ACTUAL_LATE_RECORDED"] == 1


def test_where_late_actuals_are_refused_they_are_dead_letters(opened: Opened) -> None:
    world = opened(brief(late_policy=LatePolicy.REJECT), partitions=1)
    world.predicted(prediction())
    reach(world, DUE + HOUR)
    status = world.told(actual())
    assert (status.word, status.reason) == ("LATE_REJECTED", "late")
    (letter,) = world.dead_letters()
    assert (letter.reason, letter.value, letter.source) == ("late", actual(), status.source)


def test_a_late_correction_takes_the_old_pair_away(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(at=PREDICTED_AT + MINUTE))
    reach(world, DUE + HOUR)
    status = world.told(actual(actual="on_time", at=PREDICTED_AT + 2 * MINUTE))
    assert (status.word, status.fields["previousActual"]) == ("LATE_CORRECTED", "late")
    assert world.confusion()[ON_TIME] == 1
    assert world.confusion()[LATE] == world.outcomes()["MATCHED"] - 1


def test_a_late_older_actual_changes_nothing(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(at=PREDICTED_AT + 2 * MINUTE))
    reach(world, DUE + HOUR)
    status = world.told(actual(actual="on_time", at=PREDICTED_AT + MINUTE))
    assert (status.word, status.reason) == ("DUPLICATE", "older_actual")


def test_a_late_withdrawal_closes_the_row_in_turn(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(at=PREDICTED_AT + MINUTE))
    reach(world, DUE + HOUR)
    world.tell(actual(actual=None, at=PREDICTED_AT + 2 * MINUTE))
    assert words(world.settle()) == ["WITHDRAWN", "UNMATCHED"]
    assert world.rows()[ROW].phase == RowPhase.UNMATCHED_WITHDRAWN
    world.tell(actual(at=PREDICTED_AT + 3 * MINUTE))
    assert words(world.settle()) == ["LATE_CORRECTED"]


def test_an_unmatched_row_can_hold_a_withdrawal(world: FlowWorld) -> None:
    world.predicted(prediction())
    reach(world, DUE + HOUR)
    assert world.told(actual(actual=None, at=PREDICTED_AT + 2 * MINUTE)).word == "WITHDRAWN"
    assert world.told(actual(at=PREDICTED_AT + MINUTE)).word == "DUPLICATE"
    assert world.told(actual(at=PREDICTED_AT + 3 * MINUTE)).word == "LATE_CORRECTED"


def test_where_arrival_decides_the_last_late_actual_is_held(opened: Opened) -> None:
    world = opened(brief(actual_order=ActualOrder.ARRIVAL), partitions=1)
    world.predicted(prediction())
    world.told(actual(at=PREDICTED_AT + 5 * MINUTE))
    reach(world, DUE + HOUR)
    status = world.told(actual(actual="on_time", at=PREDICTED_AT + MINUTE))
    assert (status.word, status.fields["actual"]) == ("LATE_CORRECTED", "on_time")


def test_a_repeated_prediction_of_a_closed_row_is_still_known(world: FlowWorld) -> None:
    world.predicted(prediction())
    reach(world, DUE + HOUR)
    assert world.predicted(prediction()).word == "DUPLICATE"
    assert world.predicted(prediction(prediction={"late": 0.1})).word == "CONFLICT"


# ------------------------------------------------------------------------------------------- a row is forgotten
#
#   event time  10:17          11:17                        13:17        14:00
#               |--- window ---|---------- grace -----------|            |
#          prediction         due                          drop    the timer fires


def test_an_unmatched_row_expires(world: FlowWorld) -> None:
    world.predicted(prediction())
    reach(world, DROP + HOUR)
    assert words(reach(world, DROP + 2 * HOUR))[-2:] == ["UNMATCHED", TOMBSTONE]
    assert ROW not in world.rows()
    assert world.clocks(0)["flights"].dispositions["PREDICTION_EXPIRED"] == 1
    assert world.told(actual()).word == "EARLY"


def test_a_matched_row_is_settled(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(at=DUE - MINUTE))
    reach(world, DROP + HOUR)
    assert end(world) == TOMBSTONE
    assert ROW not in world.rows()
    dispositions = world.clocks(0)["flights"].dispositions
    assert (dispositions["PREDICTION_SETTLED"], dispositions["ACTUAL_SETTLED"]) == (1, 1)
    assert world.confusion()[LATE] >= 1


def test_a_record_for_a_forgotten_row_finds_none_before_the_timer_fires(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(at=DUE - MINUTE))
    reach(world, DUE + HOUR)
    reach(world, DROP + MINUTE)
    assert end(world) == "MATCHED"
    world.predict(prediction())
    assert words(world.settle()) == [TOMBSTONE, "ACCEPTED"]


#   event time  10:17                                 13:17     14:00
#               |------------- early TTL -------------|         |
#            actual                                  drop   the timer fires


def test_an_actual_whose_prediction_never_comes_is_an_orphan(world: FlowWorld) -> None:
    world.told(actual(at=PREDICTED_AT))
    reach(world, PREDICTED_AT + 4 * HOUR)
    *_, status, tombstone = reach(world, PREDICTED_AT + 5 * HOUR)
    assert (status.word, status.fields["actual"], status.source) == ("ORPHAN", "late", None)
    assert tombstone.word == TOMBSTONE
    assert world.clocks(0)["flights"].dispositions["ACTUAL_ORPHANED"] == 1


@pytest.mark.parametrize("order", [(0, 60), (60, 0)])
def test_a_parked_row_waits_for_its_newest_actual_in_any_order(world: FlowWorld, order: tuple[int, int]) -> None:
    for minutes in order:
        world.told(actual(actual="late", at=PREDICTED_AT + minutes * MINUTE))
    reach(world, PREDICTED_AT + 4 * HOUR - MINUTE)
    assert end(world) != TOMBSTONE
    reach(world, PREDICTED_AT + 5 * HOUR)
    assert end(world) == TOMBSTONE


# ------------------------------------------------------------------------------------------- silent inputs
#
#   wall time   12:00:00     +60 s                        +1 h 43 min
#   records     the last     silent: clocks move on       window and its hour have passed


def test_a_deployment_at_rest_closes_its_windows(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual("other", at=PREDICTED_AT))
    assert world.pass_time(HOUR + LATENESS) == []
    assert words(world.pass_time(43 * MINUTE + timedelta(seconds=60))) == ["UNMATCHED"]


def test_predictions_alone_close_their_windows_too(world: FlowWorld) -> None:
    """Idle input does close windows (ksqlDB #9084): actuals were never heard at all."""
    world.predicted(prediction())
    assert world.pass_time(HOUR) == []
    assert words(world.pass_time(HOUR)) == ["UNMATCHED"]


def test_an_idle_deployment_closes_beside_a_busy_one(opened: Opened) -> None:
    world = opened(brief(), deployment("taxis"), partitions=1)
    world.predicted(prediction())
    for number in range(8):
        world.clock.jump(world.clock.now() + 15 * MINUTE)
        world.predict(prediction(f"taxi-{number}", deployment_id="taxis", at=None))
        world.settle()
        world.wait(timedelta(seconds=2))
    assert end(world) == "UNMATCHED"


def test_a_replay_of_old_records_closes_nothing_early(world: FlowWorld) -> None:
    """A year of predictions first, their actuals five minutes later: none is late, whatever the wall clock says."""
    days = [datetime(2013, 1, 1, tzinfo=PREDICTED_AT.tzinfo) + timedelta(days=10 * number) for number in range(36)]
    for number, day in enumerate(days):
        world.predict(prediction(f"row-{number}", at=day))
    world.settle()
    assert set(words(world.pass_time(5 * MINUTE))) <= {"ACCEPTED"}
    for number, day in enumerate(days):
        world.tell(actual(f"row-{number}", at=day + 30 * MINUTE))
    assert set(words(world.settle())) == {"MATCHED"}


def test_a_stopped_service_reads_its_backlog_before_it_closes_windows(opened: Opened) -> None:
    world = opened(brief(), partitions=1)
    world.predicted(prediction())
    world.stop("one")
    world.clock.jump(world.clock.now() + timedelta(days=7))
    world.tell(actual(at=PREDICTED_AT + 30 * MINUTE))
    world.predict(prediction("new", at=PREDICTED_AT + 30 * MINUTE))
    world.start("one", (0,))
    assert sorted(words(world.settle())) == ["ACCEPTED", "MATCHED"]
    world.wait(timedelta(seconds=30))
    assert world.rows()["flights/new"].phase == RowPhase.OPEN


def test_a_left_row_is_not_unmatched_because_of_disorder(world: FlowWorld) -> None:
    """A prediction older than the watermark waits its whole window from there (Kafka Streams KAFKA-19536)."""
    reach(world, PREDICTED_AT + 5 * HOUR)
    world.predicted(prediction())
    reach(world, PREDICTED_AT + 5 * HOUR + 59 * MINUTE)
    assert end(world) == "ACCEPTED"
    assert world.told(actual(at=PREDICTED_AT + MINUTE)).word == "MATCHED"


def test_a_backfill_beside_live_traffic_loses_nothing(world: FlowWorld) -> None:
    reach(world, PREDICTED_AT + 20 * HOUR)
    old = PREDICTED_AT - timedelta(days=200)
    for number in range(20):
        world.predict(prediction(f"old-{number}", at=old + number * HOUR))
    world.settle()
    for number in range(20):
        world.tell(actual(f"old-{number}", at=old + number * HOUR + 30 * MINUTE))
    assert set(words(world.settle())) == {"MATCHED"}


def test_a_row_outlives_the_retention_of_the_input(world: FlowWorld) -> None:
    """Windows outlive topics (ksqlDB #4363): what has been read is in the store, whatever the log forgets."""
    world.predicted(prediction())
    for topic in ("predictions", "actuals"):
        world.broker.log(topic, 0).truncate(world.broker.log(topic, 0).end)
    world.unchecked = True
    assert world.told(actual(at=DUE - MINUTE)).word == "MATCHED"


# ------------------------------------------------------------------------------------------- crashes and clocks


def test_timers_outlive_the_worker_and_its_disk(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual("other", at=PREDICTED_AT))
    world.stop("one")
    world.lose_disk("one")
    world.start("one", (0,))
    world.settle()
    assert words(world.pass_time(2 * HOUR)) == ["UNMATCHED"]
    world.kill("one")
    world.start("one", (0,))
    world.settle()
    assert TOMBSTONE in words(world.pass_time(3 * HOUR))
    assert ROW not in world.rows()


def test_a_row_closed_while_the_disk_was_away_stays_closed(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.pass_time(2 * HOUR)
    world.stop("one")
    world.lose_disk("one")
    world.compact()
    world.start("one", (0,))
    world.settle()
    assert world.rows()[ROW].phase == RowPhase.UNMATCHED
    assert TOMBSTONE in words(world.pass_time(3 * HOUR))


def test_many_rows_are_closed_in_bounded_steps(opened: Opened) -> None:
    world = opened(brief(), partitions=1, max_records=100)
    for number in range(3500):
        world.predict(prediction(f"row-{number}"))
    world.settle()
    version = world.checkpoint(0).version
    world.pass_time(2 * HOUR)
    world.wait(timedelta(seconds=30))
    world.settle()
    assert world.outcomes()["UNMATCHED"] == 3500
    assert world.checkpoint(0).version - version == 4


def test_strays_that_are_on_their_way_hold_the_watermark(opened: Opened) -> None:
    """Task 1 has forwarded a record of this time, and may have more of it: task 0 does not run ahead of it."""
    world = opened(brief(), partitions=3)
    home = world.home(ASSOCIATION_ID)
    away, third = [task for task in range(3) if task != home]
    world.predict(prediction(), partition=away)
    later, elsewhere = [next(str(i) for i in range(100) if world.home(str(i)) == task) for task in (home, third)]
    world.predict(prediction(elsewhere))
    world.settle()
    assert [world.clocks(task)["flights"].has_strays for task in (home, away, third)] == [True, True, False]
    world.predict(prediction(later, at=PREDICTED_AT + 20 * HOUR))
    world.tell(actual(later, at=PREDICTED_AT + 20 * HOUR))
    world.settle()
    watermark = world.clocks(home)["flights"].clock.watermark
    assert watermark <= round((PREDICTED_AT - LATENESS).timestamp() * 1e6)
    world.pass_time(HOUR)
    world.pass_time(HOUR)
    assert end(world) == "UNMATCHED"


@pytest.mark.parametrize("live", [False, True])
def test_a_stray_that_is_refused_for_its_time_moves_no_clock(opened: Opened, live: bool) -> None:
    world = opened(brief(), partitions=2)
    names = [[str(i) for i in range(100) if world.home(str(i)) == task] for task in range(2)]
    for task in (0, 1) if live else ():
        world.predict(prediction(names[task][0]))
        world.tell(actual(names[task][0]))
    world.settle()
    for task in (0, 1):
        for send, value in ((world.predict, prediction), (world.tell, actual)):
            send(value(names[task][1], at=datetime(2099, 1, 1, tzinfo=UTC)), partition=1 - task)
    world.predict(prediction())
    world.settle()
    world.wait(timedelta(seconds=10))
    assert world.rows()[ROW].due == round(DUE.timestamp() * 1e6)
    assert max(world.clocks(task)["flights"].clock.watermark for task in (0, 1)) < round(DUE.timestamp() * 1e6)


def test_a_trickle_of_old_records_does_not_stop_time(world: FlowWorld) -> None:
    """A probe that repeats one old prediction every two minutes."""
    world.predict(prediction())
    world.tell(actual("other", at=PREDICTED_AT))
    world.settle()
    for _ in range(90):
        world.clock.jump(world.clock.now() + 2 * MINUTE)
        world.wait(timedelta(seconds=1))
        world.predict(prediction("probe", at=PREDICTED_AT))
        world.settle()
    assert end(world) == "UNMATCHED"


def test_a_deployment_at_rest_comes_to_its_final_figures(world: FlowWorld) -> None:
    """Nothing happens to the matched row when its window closes; the ledger's watermark says so all the same."""
    world.predict(prediction())
    world.tell(actual(at=PREDICTED_AT + 30 * MINUTE))
    world.settle()
    world.pass_time(2 * HOUR + 30 * MINUTE)
    world.pass_time(20 * MINUTE)
    (cell,) = world.numbers().traffic.values()
    assert cell.last_due is not None
    assert world.clocks(0)["flights"].clock.watermark >= cell.last_due


def test_inputs_that_are_far_apart_are_told(world: FlowWorld) -> None:
    """Old predictions, no actuals, then live: rows wait on the old time, and somebody should know."""
    world.predict(prediction("old", at=PREDICTED_AT - timedelta(days=365)))
    world.settle()
    world.predict(prediction())
    world.settle()
    world.wait(timedelta(seconds=1))
    skew = world.workers["one"].metric("input_skew_seconds", task="0")
    assert skew == pytest.approx((timedelta(days=365) + LATENESS).total_seconds(), abs=5)


def test_an_outage_of_the_database_is_no_silence(opened: Opened) -> None:
    """Actuals come while a commit waits for two hours, whose settings have then moved."""
    world = opened(brief(late_policy=LatePolicy.REJECT), deployment("taxis"), partitions=1)
    world.predict(prediction())
    world.tell(actual("other", at=PREDICTED_AT))
    world.settle()
    faults: list[Exception] = [SettingsMoved("moved"), *[Unavailable("away")] * 10_000]
    persist = world.ledger.persist

    async def failing(batch: MicroBatch) -> None:
        if faults:
            raise faults[-1] if len(faults) > 1 else faults.pop()
        await persist(batch)

    world.ledger.persist = failing  # type: ignore[method-assign]
    world.predict(prediction("taxi", deployment_id="taxis"))
    world.wait(timedelta(seconds=5))
    world.tell(actual(at=PREDICTED_AT + 30 * MINUTE))
    world.wait(2 * HOUR)
    del faults[1:]
    assert "MATCHED" in words(world.settle())


def _hour(at: datetime) -> int:
    return round(at.replace(minute=0, second=0).timestamp() * 1e6)
