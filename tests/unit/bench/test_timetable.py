"""The timetable of an open load: every row is due once as a prediction, and a second later as an actual."""

import numpy as np
import pytest

from bench.latency import quantiles_ms
from bench.timetable import Timetable

TABLE = Timetable(rate=100.0, seconds=4.0)


def test_an_event_is_found_again_from_its_row() -> None:
    due = TABLE.due_s()
    sent = [event for event in range(TABLE.events) if TABLE.row_of(event) >= 0]
    assert [TABLE.event_of(TABLE.row_of(event), bool(event % 2)) for event in sent] == sent
    assert np.flatnonzero(~np.isnan(due)).tolist() == sent
    assert len(sent) == TABLE.events - TABLE.lag


def test_an_actual_is_due_a_second_after_its_prediction() -> None:
    due = TABLE.due_s()
    waited = [due[TABLE.event_of(row, True)] - due[TABLE.event_of(row, False)] for row in range(100)]
    assert waited == pytest.approx([1.0 + 1 / TABLE.rate] * 100)


@pytest.mark.parametrize(("passed_s", "due"), [(0.0, 1), (0.005, 1), (0.01, 2), (1.0, 101), (9.0, 400)])
def test_what_is_due_after_some_time(passed_s: float, due: int) -> None:
    assert TABLE.due_before(passed_s) == due


def test_latency_counts_from_the_instant_that_was_meant() -> None:
    """A sender that stood still for a second makes every event of that second late, though none was slow."""
    due = TABLE.due_s()
    arrived = np.where((due >= 2.0) & (due < 3.0), 3.0, due) + 0.005
    found = quantiles_ms(arrived, TABLE, warm_s=1.0)
    assert found["counted"] == 300
    assert found["p50_ms"] == 5.0
    assert found["p99_ms"] > 900
    assert found["most_ms"] == 1005.0
