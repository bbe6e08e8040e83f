"""The clocks and the watermark by examples. Instants are plain numbers; the allowed lateness is 5."""

from service.domain.watermark import NEVER, DeploymentClock, Heard, InputClock

LATENESS = 5
IDLE = 60


def clock_at(predictions: int, actuals: int, wall: int = 1000) -> DeploymentClock:
    heard = DeploymentClock().heard(Heard(predictions, predictions), Heard(actuals, actuals), wall)
    return heard.risen(LATENESS)


def idle(clock: DeploymentClock, wall: int, *, predictions: bool = True, actuals: bool = True) -> DeploymentClock:
    paced = clock.paced(predictions=predictions, actuals=actuals, wall=wall, idle_timeout=IDLE)
    return paced.risen(LATENESS)


#   predictions   --10------------30------>
#   actuals       --------20-------------->
#   watermark     --------15-------------->      the slower input minus the allowed lateness


def test_the_watermark_is_the_slower_input_minus_the_allowed_lateness() -> None:
    assert clock_at(30, 20).watermark == 15


def test_late_records_and_a_greater_lateness_do_not_turn_it_back() -> None:
    clock = clock_at(30, 20)
    assert clock.heard(Heard(1, 2), Heard(2, 3), 1000).risen(500) == clock


#   predictions   --30---31---40---------->
#   actuals       (never heard)                  stands where the predictions began
#   watermark     --25-------------------->


def test_an_input_that_was_never_heard_stands_where_the_other_began() -> None:
    clock = DeploymentClock().heard(Heard(30, 31), None, 1000).heard(Heard(40, 40), None, 1001).risen(LATENESS)
    assert clock.actuals == InputClock(at=30, stood_at=1000, silent_since=1000)
    assert clock.watermark == 25


#   wall          1000      1059 1060            1160
#   actuals       20        20   80              180     from where it stood, at the pace of the wall clock
#   predictions   30        30   90              190


def test_silent_inputs_move_on_from_where_they_stood() -> None:
    clock = clock_at(30, 20)
    assert idle(clock, 1059) == clock
    assert idle(clock, 1060).watermark == 20 + 60 - LATENESS
    assert idle(idle(clock, 1060), 1160) == idle(clock, 1160)
    assert idle(clock, 1160).watermark == 20 + 160 - LATENESS


def test_a_silent_input_never_jumps_to_the_time_of_the_other() -> None:
    clock = clock_at(1_000_000, 20)
    assert idle(clock, 1100, predictions=False).actuals == InputClock(at=120, stood_at=1100, silent_since=1000)
    assert idle(clock, 1100, predictions=False).watermark == 115


def test_an_input_with_a_backlog_is_not_silent() -> None:
    clock = clock_at(30, 20)
    assert idle(clock, 5000, actuals=False).watermark == 15


#   wall     1000 .......... stopped .......... 9000    9000          9060
#   actuals  20                                 20      50 (backlog)  110   what was read counts from its own time


def test_downtime_counts_once_and_only_for_an_input_that_brought_nothing() -> None:
    clock = clock_at(30, 20).heard(None, Heard(50, 50), 9000).risen(LATENESS)
    assert clock.watermark == 30 - LATENESS
    after = idle(clock, 9060)
    assert after.predictions == InputClock(at=30 + 8060, stood_at=9060, silent_since=1000)
    assert after.actuals == InputClock(at=50 + 60, stood_at=9060, silent_since=9000)
    assert idle(after, 9061).predictions == InputClock(at=30 + 8061, stood_at=9061, silent_since=1000)


def test_a_record_after_silence_is_silence_no_more() -> None:
    clock = idle(clock_at(30, 20), 1100).heard(None, Heard(25, 25), 1101).risen(LATENESS)
    assert clock.actuals == InputClock(at=120, stood_at=1101, silent_since=1101)
    assert idle(clock, 1150).actuals == clock.actuals


def test_a_wall_clock_that_goes_back_moves_nothing() -> None:
    clock = idle(clock_at(30, 20), 1100)
    assert idle(clock, 1090) == clock


def test_other_tasks_hold_the_watermark_where_strays_are() -> None:
    clock = DeploymentClock().heard(Heard(30, 30), Heard(20, 20), 1000)
    assert clock.risen(LATENESS, held_at=12).watermark == 7
    assert clock.risen(LATENESS, held_at=90).watermark == 15


def test_there_is_no_time_before_both_clocks_stand_somewhere() -> None:
    alone = DeploymentClock(predictions=InputClock(at=30, stood_at=1000, silent_since=1000))
    assert alone.stream_time is None
    assert idle(alone, 5000) == alone


def test_the_newest_instant_is_the_greater_clock_or_the_watermark_where_nothing_was_heard() -> None:
    assert (clock_at(30, 20).newest, clock_at(20, 30).newest) == (30, 30)
    assert DeploymentClock().newest == NEVER
    assert DeploymentClock(watermark=7).newest == 7
