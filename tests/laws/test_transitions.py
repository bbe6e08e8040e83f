"""The join as a machine: every reachable pair is in the table, and no order of delivery changes where a row ends."""

from collections import Counter
from itertools import permutations
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.deployment import Spans
from service.domain.join_window import (
    ACTUAL_DISPOSITIONS,
    HOLDING_PHASES,
    LATE_EVENTS,
    PREDICTED_PHASES,
    PREDICTION_DISPOSITIONS,
    TRANSITIONS,
    WITHDRAWAL,
    Disposition,
    Event,
    actual_event,
    prediction_event,
    with_actual,
    with_newer_instant,
    with_prediction,
)
from service.domain.row import RowPhase, RowState, decode_row, encode_row

DAY = 86_400_000_000
BY_TIME = Spans(window=30 * DAY, grace=60 * DAY, early_ttl=90 * DAY, by_arrival=False)
BY_ARRIVAL = Spans(window=30 * DAY, grace=60 * DAY, early_ttl=90 * DAY, by_arrival=True)
TIMED_OUT = {RowPhase.UNMATCHED, RowPhase.UNMATCHED_WITHDRAWN}
"""Phases that no record leads to, only time."""


TIMED = {*LATE_EVENTS, Event.DUE, Event.DROP}


class Prediction(NamedTuple):
    at: int = 1
    content: int = 1


class Actual(NamedTuple):
    at: int
    value: bytes


Record = Prediction | Actual
Pair = tuple[RowPhase, Event]


def pair_of(row: RowState | None, record: Record, spans: Spans) -> Pair:
    phase = RowPhase.ABSENT if row is None else RowPhase(row.phase)
    if isinstance(record, Prediction):
        return phase, prediction_event(row, record.content)
    return phase, actual_event(row, record.at, record.value, spans.by_arrival)


def step(row: RowState | None, record: Record, spans: Spans) -> tuple[RowState | None, tuple[Disposition, ...]]:
    """The row after the record, by the table alone, and what became of records that the row does not stand for."""
    phase, event = pair_of(row, record, spans)
    transition = TRANSITIONS[phase, event]
    after = row
    if isinstance(record, Prediction):
        if event is Event.PREDICTION:
            after = with_prediction(row, transition.phase, spans, 0, record.at, record.content, b"1", "model", "batch")
    elif event in (Event.ACTUAL, Event.WITHDRAWAL):
        after = with_actual(row, transition.phase, spans, 0, record.at, record.value, 0)
    elif event in (Event.ACTUAL_SAME, Event.WITHDRAWAL_SAME) and row is not None:
        after = with_newer_instant(row, record.at, spans, 0)
    assert after is not None
    assert after.phase == transition.phase
    return after, transition.disposed


def end_of(records: list[Record], spans: Spans = BY_TIME) -> tuple[RowState | None, Counter[Disposition]]:
    row: RowState | None = None
    disposed: Counter[Disposition] = Counter()
    for record in records:
        row, gone = step(row, record, spans)
        disposed.update(gone)
    return row, disposed


VALUES = [b'"late"', b'"on_time"', WITHDRAWAL]
ACTUALS = st.builds(Actual, st.integers(1, 4), st.sampled_from(VALUES))
PREDICTIONS = st.builds(Prediction, st.just(1), st.integers(1, 2))
RECORDS = st.lists(ACTUALS | PREDICTIONS, max_size=8)
SPANS = pytest.mark.parametrize("spans", [BY_TIME, BY_ARRIVAL], ids=["by_time", "by_arrival"])


def reachable(spans: Spans) -> set[Pair]:
    """Every pair that some sequence of records leads to, found by trying all of them on every row they make."""
    records: list[Record] = [Prediction(content=content) for content in (1, 2)]
    records += [Actual(at, value) for at in (1, 2, 3) for value in VALUES]
    pairs: set[Pair] = set()
    seen: set[tuple[object, ...]] = set()
    ahead: list[RowState | None] = [None]
    while ahead:
        row = ahead.pop()
        for record in records:
            pairs.add(pair_of(row, record, spans))
            after, _ = step(row, record, spans)
            assert after is not None
            mark = (after.phase, after.actual_at, after.actual, after.content)
            if mark not in seen:
                seen.add(mark)
                ahead.append(after)
    return pairs


def test_the_table_holds_what_can_be_reached_and_nothing_else() -> None:
    untimed = {pair for pair in TRANSITIONS if pair[0] not in TIMED_OUT and pair[1] not in TIMED}
    assert reachable(BY_TIME) | reachable(BY_ARRIVAL) == untimed


@given(st.lists(ACTUALS, max_size=6), st.data())
def test_any_order_of_delivery_ends_the_same(actuals: list[Actual], data: st.DataObject) -> None:
    records: list[Record] = [Prediction(), *actuals]
    one, other = (end_of(data.draw(st.permutations(records)))[0] for _ in range(2))
    assert one is not None
    assert other is not None
    assert (one.phase, one.actual_at, one.actual) == (other.phase, other.actual_at, other.actual)
    assert (one.predicted_at, one.due, one.drop) == (other.predicted_at, other.due, other.drop)


def test_every_order_of_a_few_records_ends_the_same() -> None:
    records: list[Record] = [
        Prediction(),
        Actual(1, b'"late"'),
        Actual(2, b'"on_time"'),
        Actual(2, WITHDRAWAL),
        Actual(3, b'"late"'),
    ]
    ends = {(row.phase, row.actual_at, row.actual) for order in permutations(records) if (row := end_of([*order])[0])}
    assert ends == {(RowPhase.MATCHED, 3, b'"late"')}


@given(st.lists(ACTUALS, min_size=1, max_size=6))
def test_the_greatest_actual_is_held(actuals: list[Actual]) -> None:
    row, _ = end_of([Prediction(), *actuals])
    assert row is not None
    assert (row.actual_at, row.actual) == max(actuals)
    assert row.phase == (RowPhase.WITHDRAWN if row.actual == WITHDRAWAL else RowPhase.MATCHED)


@given(st.lists(ACTUALS, min_size=1, max_size=6))
def test_by_arrival_the_last_received_is_held(actuals: list[Actual]) -> None:
    row, _ = end_of([Prediction(), *actuals], BY_ARRIVAL)
    assert row is not None
    assert (row.actual_at, row.actual) == actuals[-1]


@SPANS
@given(records=RECORDS)
def test_every_record_is_in_the_row_or_disposed_of_once(spans: Spans, records: list[Record]) -> None:
    row, disposed = end_of(records, spans)
    phase = row.phase if row else RowPhase.ABSENT
    predictions = sum(isinstance(record, Prediction) for record in records)
    assert predictions == (phase in PREDICTED_PHASES) + sum(disposed[d] for d in PREDICTION_DISPOSITIONS)
    assert len(records) - predictions == (phase in HOLDING_PHASES) + sum(disposed[d] for d in ACTUAL_DISPOSITIONS)


@given(records=RECORDS)
def test_delivering_everything_again_changes_no_row(records: list[Record]) -> None:
    assert end_of(records + records)[0] == end_of(records)[0]


@SPANS
@given(records=RECORDS)
def test_revisions_never_go_back_and_rise_with_every_change_of_phase(spans: Spans, records: list[Record]) -> None:
    row: RowState | None = None
    for record in records:
        after, _ = step(row, record, spans)
        assert after is not None
        if row is not None:
            changed = (after.phase, after.actual, after.prediction) != (row.phase, row.actual, row.prediction)
            assert after.revision == row.revision + changed
        row = after


@SPANS
@given(records=RECORDS)
def test_a_row_survives_its_bytes(spans: Spans, records: list[Record]) -> None:
    row, _ = end_of(records, spans)
    if row is not None:
        assert decode_row(encode_row(row)) == row
