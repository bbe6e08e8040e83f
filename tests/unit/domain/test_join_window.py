"""The join by examples: what an event is to a row, and what the row is after it."""

from dataclasses import replace

import pytest

from service.domain.deployment import Spans
from service.domain.join_window import (
    WITHDRAWAL,
    Event,
    actual_event,
    prediction_event,
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


def test_a_prediction_that_finds_its_actual_has_its_own_instants() -> None:
    row = opened(at=100, row=holding(50, LATE))
    assert (row.due, row.drop, row.actual_at, row.actual, row.revision) == (130, 190, 50, LATE, 2)


# ------------------------------------------------------------------------------------------- what a row keeps


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
