"""The join by examples: what an event is to a row, and what the row is after it."""

from dataclasses import replace

import pytest
from msgspec.structs import replace as row_with

from service.domain.deployment import Spans
from service.domain.join_window import (
    WITHDRAWAL,
    Event,
    actual_event,
    closed,
    next_look,
    prediction_event,
    time_event,
    with_actual,
    with_newer_instant,
    with_prediction,
)
from service.domain.row import RowPhase, RowState

SPANS = Spans(window=30, grace=60, early_ttl=90, by_arrival=False)
LATE, ON_TIME = b'"late"', b'"on_time"'


def opened(at: int = 100, watermark: int = 0, row: RowState | None = None) -> RowState:
    phase = RowPhase.MATCHED if row else RowPhase.OPEN
    return with_prediction(row, phase, SPANS, watermark, at, 7, b"0.83", "m1", "b1")


def holding(at: int, value: bytes, row: RowState | None = None, watermark: int = 0) -> RowState:
    return with_actual(row, RowPhase.MATCHED if row else RowPhase.PARKED, SPANS, watermark, at, value, 20_000)


# ------------------------------------------------------------------------------------------- what an event is


def test_the_first_prediction_opens_and_later_ones_are_compared_by_content() -> None:
    assert prediction_event(None, 7) is Event.PREDICTION
    assert prediction_event(holding(1, LATE), 7) is Event.PREDICTION
    assert prediction_event(opened(), 7) is Event.PREDICTION_AGAIN
    assert prediction_event(opened(), 8) is Event.PREDICTION_CHANGED


@pytest.mark.parametrize(
    ("at", "value", "event"),
    [
        (51, ON_TIME, Event.ACTUAL),
        (50, ON_TIME, Event.ACTUAL),  # same instant, greater text
        (50, b'"a"', Event.ACTUAL_LESSER),
        (49, ON_TIME, Event.ACTUAL_LESSER),
        (49, LATE, Event.ACTUAL_SAME),
        (51, LATE, Event.ACTUAL_SAME),
        (51, WITHDRAWAL, Event.WITHDRAWAL),
        (49, WITHDRAWAL, Event.WITHDRAWAL_LESSER),
    ],
)
def test_an_actual_is_compared_with_the_held_one_by_instant_then_text(at: int, value: bytes, event: Event) -> None:
    assert actual_event(holding(50, LATE), at, value, by_arrival=False) is event


def test_where_arrival_decides_every_other_value_is_greater() -> None:
    assert actual_event(holding(50, LATE), 1, ON_TIME, by_arrival=True) is Event.ACTUAL
    assert actual_event(holding(50, LATE), 1, LATE, by_arrival=True) is Event.ACTUAL_SAME


def test_a_withdrawal_again_is_the_same() -> None:
    assert actual_event(holding(50, WITHDRAWAL), 60, WITHDRAWAL, by_arrival=False) is Event.WITHDRAWAL_SAME


#   event time   100              130
#                 |---- window ----|
#             prediction          due
#   watermark                   129  130
#   an actual is            in time  late


@pytest.mark.parametrize(
    ("value", "in_time", "late"),
    [(LATE, Event.ACTUAL, Event.LATE_ACTUAL), (WITHDRAWAL, Event.WITHDRAWAL, Event.LATE_WITHDRAWAL)],
)
def test_an_actual_is_late_once_the_watermark_is_at_due(value: bytes, in_time: Event, late: Event) -> None:
    assert actual_event(opened(at=100), 120, value, by_arrival=False, watermark=129) is in_time
    assert actual_event(opened(at=100), 120, value, by_arrival=False, watermark=130) is late


def test_what_repeats_the_held_actual_or_is_older_is_not_late() -> None:
    row = holding(50, LATE, row=opened(at=100))
    assert actual_event(row, 60, LATE, by_arrival=False, watermark=500) is Event.ACTUAL_SAME
    assert actual_event(row, 40, ON_TIME, by_arrival=False, watermark=500) is Event.ACTUAL_LESSER
    assert actual_event(row, 60, ON_TIME, by_arrival=False, watermark=500) is Event.LATE_ACTUAL


def test_a_parked_actual_is_never_due_so_none_is_late_for_it() -> None:
    assert actual_event(holding(50, LATE), 60, ON_TIME, by_arrival=False, watermark=500) is Event.ACTUAL


def test_the_first_microsecond_of_1970_is_an_instant_as_any_other() -> None:
    row = with_prediction(None, RowPhase.OPEN, replace(SPANS, window=1), 0, 0, 7, b"0.83", "m1", "b1")
    assert actual_event(row, 0, LATE, by_arrival=False, watermark=1) is Event.LATE_ACTUAL


# ------------------------------------------------------------------------------------------- when rows end
#
#   event time   100              130                    190
#                 |---- window ----|------- grace --------|
#             prediction          due                    drop


def test_a_prediction_waits_for_the_window_then_the_grace() -> None:
    row = opened(at=100)
    assert (row.due, row.drop) == (130, 190)


def test_a_prediction_older_than_the_watermark_waits_from_the_watermark() -> None:
    row = opened(at=100, watermark=500)
    assert (row.predicted_at, row.due, row.drop) == (100, 530, 590)


def test_a_parked_actual_waits_for_its_own_span() -> None:
    row = holding(100, LATE)
    assert (row.due, row.drop) == (0, 190)
    assert holding(100, LATE, watermark=500).drop == 590


def test_an_actual_that_is_parked_for_no_time_is_dropped_at_its_own_instant() -> None:
    spans = replace(SPANS, early_ttl=0)
    assert [with_actual(None, RowPhase.PARKED, spans, 0, at, LATE, 0).drop for at in (0, 100)] == [0, 100]


def test_a_parked_actual_that_another_replaces_waits_for_the_later_of_both_ends() -> None:
    row = holding(100, LATE)
    assert holding(150, ON_TIME, row=row).drop == 240
    assert holding(50, ON_TIME, row=row).drop == 190


@pytest.mark.parametrize("phase", [RowPhase.OPEN, RowPhase.WITHDRAWN])
def test_a_row_that_waits_is_due_first_however_far_time_has_come(phase: RowPhase) -> None:
    row = row_with(opened(at=100), phase=phase)
    assert [time_event(row, watermark) for watermark in (129, 130, 190)] == [None, Event.DUE, Event.DUE]
    assert next_look(row) == 130


@pytest.mark.parametrize("phase", [RowPhase.MATCHED, RowPhase.UNMATCHED, RowPhase.UNMATCHED_WITHDRAWN])
def test_a_row_that_waits_for_nothing_is_dropped_in_the_end(phase: RowPhase) -> None:
    row = row_with(opened(at=100), phase=phase)
    assert [time_event(row, watermark) for watermark in (130, 189, 190)] == [None, None, Event.DROP]
    assert next_look(row) == 190


@pytest.mark.parametrize("phase", [RowPhase.PARKED, RowPhase.PARKED_WITHDRAWN])
def test_a_parked_actual_is_dropped_and_never_due(phase: RowPhase) -> None:
    row = row_with(holding(100, LATE), phase=phase)
    assert [time_event(row, watermark) for watermark in (0, 189, 190)] == [None, None, Event.DROP]
    assert next_look(row) == 190


def test_a_prediction_that_finds_its_actual_has_its_own_instants() -> None:
    row = opened(at=100, row=holding(50, LATE))
    assert (row.due, row.drop, row.actual_at, row.actual, row.revision) == (130, 190, 50, LATE, 2)


# ------------------------------------------------------------------------------------------- what a row keeps


NOTHING = RowState(
    phase=RowPhase.ABSENT,
    revision=0,
    predicted_at=0,
    actual_at=0,
    due=0,
    drop=0,
    content=0,
    label_day=0,
    prediction=b"",
    actual=b"",
    model="",
    batch="",
)


def test_a_row_without_an_actual_holds_nothing_of_one() -> None:
    prediction = {"predicted_at": 100, "content": 7, "prediction": b"0.83", "model": "m1", "batch": "b1"}
    assert opened(at=100) == row_with(NOTHING, phase=RowPhase.OPEN, revision=1, due=130, drop=190, **prediction)


def test_a_parked_row_holds_nothing_of_a_prediction() -> None:
    actual = {"actual_at": 100, "label_day": 20_000, "actual": LATE}
    assert holding(100, LATE) == row_with(NOTHING, phase=RowPhase.PARKED, revision=1, drop=190, **actual)


def test_time_changes_the_phase_of_a_row_and_nothing_that_it_holds() -> None:
    row = opened()
    assert closed(row, RowPhase.UNMATCHED) == row_with(row, phase=RowPhase.UNMATCHED, revision=2)


def test_an_actual_leaves_the_prediction_as_it_is() -> None:
    row = holding(150, LATE, row=opened())
    assert (row.prediction, row.content, row.model, row.batch, row.due) == (b"0.83", 7, "m1", "b1", 130)
    assert (row.actual, row.actual_at, row.label_day, row.revision) == (LATE, 150, 20_000, 2)


def test_a_repeated_actual_only_advances_the_held_instant() -> None:
    row = holding(50, LATE)
    assert with_newer_instant(row, 50, SPANS, 0) is row
    assert with_newer_instant(row, 40, SPANS, 0) is row
    newer = with_newer_instant(row, 60, SPANS, 0)
    assert (newer.actual_at, newer.revision) == (60, row.revision)
    assert with_newer_instant(row, 40, replace(SPANS, by_arrival=True), 0).actual_at == 40


#   event time   100    150              190     240
#   parked        |------------------------|
#   again                |------------------------|


def test_a_repeated_actual_keeps_a_parked_row_for_longer_never_for_shorter() -> None:
    row = holding(100, LATE)
    assert with_newer_instant(row, 150, SPANS, 0).drop == 240
    assert with_newer_instant(row, 150, SPANS, 500).drop == 590
    assert with_newer_instant(row, 40, replace(SPANS, by_arrival=True), 0).drop == 190


def test_a_repeated_actual_does_not_keep_a_predicted_row_for_longer() -> None:
    row = holding(150, LATE, row=opened(at=100))
    assert with_newer_instant(row, 180, SPANS, 500).drop == 190
