"""`verify` finds what is wrong, says what it can not know, and takes nothing that is right for wrong."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.domain.errors import Invalid
from service.domain.outcomes import Outcome
from service.domain.records import Topic
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.domain.stats.traffic import Traffic
from service.ports import PredictionCellKey
from service.rendering.verification import COLUMNS, difference_rows, summary_lines
from service.usecases.cell_differences import Difference
from service.usecases.verification import Asked, VerifiedTask, verified
from service.wire.instants import rfc3339
from tests.builders import ACTUAL_AT, MODEL_ID, PREDICTED_AT, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.verified import Looked, look
from tests.flow.world import FlowWorld

HOUR_US = 3_600_000_000
LAYOUT = FeatureLayout(
    features=(
        NumericBins(name="distance", first_slot=0, edges=(500.0, 1500.0)),
        CategoricalBins(name="origin", first_slot=4, values=("EWR", "JFK")),
    )
)


@pytest.fixture
def day(opened: Opened) -> FlowWorld:
    """Twelve predictions of three hours, with features; of each hour three have an actual."""
    world = opened(deployment(layouts={MODEL_ID: LAYOUT}), partitions=1, max_records=5)
    for number in range(12):
        at = PREDICTED_AT + timedelta(hours=number % 3)
        world.predict(prediction(f"row-{number}", {"late": number / 12}, at=at))
    for number in range(9):
        world.tell(actual(f"row-{number}", "late" if number % 2 else "on_time", at=ACTUAL_AT))
    world.tell(actual("row-0", "late", at=ACTUAL_AT + timedelta(hours=1)))
    world.tell(actual("nobody", "late"))
    world.settle()
    return world


def only_task(looked: Looked, **asked: Any) -> VerifiedTask:
    (task,) = looked.verify(Asked(**asked))
    return task


def told(task: VerifiedTask) -> list[tuple[str | None, str, Any, Any]]:
    return [(one.hour and one.hour[11:13], one.figure, one.expected, one.found) for one in task.differences]


def first_cell(looked: Looked) -> tuple[PredictionCellKey, Traffic]:
    cells = looked.change(0).prediction_cells
    return min((key, cell) for key, cell in cells.items() if key.model_id)


def test_equal(day: FlowWorld) -> None:
    task = only_task(look(day))
    assert (task.differences, task.faults) == ([], [])
    assert task.cells == 3 + 3 and task.statuses == task.seq == 23
    assert task.unchecked == [
        "deployment flights: the hours of records that no prediction stands for: a status does not tell them, so they "
        "were compared in all"
    ]
    assert list(summary_lines(verified([task])))[-1].endswith("compared: equal as far as could be checked")


def test_a_cell_that_is_too_high(day: FlowWorld) -> None:
    looked = look(day)
    key, cell = first_cell(looked)
    outcomes = cell.outcomes.copy()
    outcomes[Outcome.MATCHED] += 1
    wrong = Traffic(
        predictions=cell.predictions + 2, first_at=cell.first_at, last_at=(cell.last_at or 0) + 1,
        last_due=cell.last_due, outcomes=outcomes, features=cell.features,
    )  # fmt: skip
    looked.change(0, prediction_cells={**looked.change(0).prediction_cells, key: wrong})
    task = only_task(looked)
    assert told(task) == [
        ("10", "predictions", 4, 6),
        ("10", "lastAt", rfc3339(cell.last_at or 0), rfc3339((cell.last_at or 0) + 1)),
        ("10", "MATCHED", 3, 4),
    ]
    assert task.faults == ["the cells count 24 statuses, the ledger has numbered 23"]
    assert only_task(looked, since=key.hour + HOUR_US).differences == []
    (row, *_) = difference_rows(verified([task]))
    assert tuple(row) == COLUMNS and row["hour"] == "2026-01-01T10:00Z" and (row["expected"], row["in Postgres"]) == (
        "4", "6",
    )  # fmt: skip
    assert list(summary_lines(verified([task])))[-1].endswith("3 differences, 1 faults")


def test_a_missing_cell(day: FlowWorld) -> None:
    looked = look(day)
    key, _ = first_cell(looked)
    snapshot = looked.change(0)
    looked.change(
        0,
        prediction_cells={one: cell for one, cell in snapshot.prediction_cells.items() if one != key},
        accuracy_cells={one: cell for one, cell in snapshot.accuracy_cells.items() if one.hour != key.hour},
    )
    found = told(only_task(looked))
    assert ("10", "predictions", 4, 0) in found and ("10", "matched", 3, 0) in found
    assert ("10", "feature distance, bin 2", 4, 0) in found and ("10", "feature origin, EWR", 4, 0) in found
    assert {hour for hour, *_ in found} == {"10"}


def test_accuracy_that_is_off(day: FlowWorld) -> None:
    looked = look(day)
    cells = dict(looked.change(0).accuracy_cells)
    key, cell = min(cells.items(), key=lambda one: one[0])
    cells[key] = cell.merged(Accuracy(matched=1, log_loss=10**15, confusion={1025: 1, 1024: -1}))
    looked.change(0, accuracy_cells=cells)
    figures = [figure for _, figure, _, _ in told(only_task(looked))]
    assert figures == ["matched", "late predicted as on_time", "late predicted as late", "sum of log loss"]
    assert only_task(looked).differences[0].label_day == "2026-01-02"


def test_totals_that_are_off(day: FlowWorld) -> None:
    looked = look(day)
    clocks = {name: replace(row, actuals_received=12) for name, row in looked.change(0).clocks.items()}
    cells = {key: cell for key, cell in looked.change(0).prediction_cells.items() if key.model_id}
    looked.change(0, clocks=clocks, prediction_cells=cells)
    assert told(only_task(looked)) == [
        (None, "actuals received", 11, 12),
        (None, "EARLY without a prediction", 6, 0),
    ]


def test_a_lost_status(day: FlowWorld) -> None:
    looked = look(day)
    looked.statuses.dropped[0] = {7}
    task = only_task(looked)
    assert task.faults == [
        "1 statuses lost from the status topic, between seq 7 and 7: too young to have been compacted"
    ]
    assert task.differences == [], "the others are the least that must be there, and it is"
    assert "1 statuses between seq 7 and 7 are not in the status topic any more" in task.unchecked[0]
    looked.now_ms += 25 * 3_600_000
    assert only_task(looked).faults == [], "by now compaction may have taken it"


def test_lost_at_the_end(day: FlowWorld) -> None:
    looked = look(day)
    looked.now_ms += 30 * 86_400_000
    looked.statuses.dropped[0] = {21, 22}
    assert only_task(looked).faults == ["the status topic ends at seq 20, the ledger has published 22"]


def test_below_the_lower_bound(day: FlowWorld) -> None:
    """What the log's begin has held is not known; what is left counts."""
    looked = look(day)
    looked.statuses.dropped[0] = set(range(5))
    task = only_task(looked)
    assert (task.differences, task.faults) == ([], [])
    assert task.unchecked[0].startswith("the status topic begins after seq 4: retention or a person has taken 5")
    assert "lower bound only" in task.unchecked[1]
    key, cell = first_cell(looked)
    less = Traffic(outcomes=cell.outcomes, features=cell.features, first_at=cell.first_at, last_at=cell.last_at,
                   last_due=cell.last_due)  # fmt: skip
    looked.change(0, prediction_cells={**looked.change(0).prediction_cells, key: less})
    (difference,) = only_task(looked).differences
    assert (difference.figure, difference.at_least, difference.found) == ("predictions", True, 0)


def test_no_actual_is_lost_by_compaction(day: FlowWorld) -> None:
    """The last status of each row is left: accuracy is still the least that must be there."""
    looked = look(day)
    statuses = day.broker.log(Topic.STATUS, 0).records
    last = {one.key: one.offset for one in statuses}
    looked.statuses.dropped[0] = {one.offset for one in statuses} - set(last.values())
    looked.now_ms += 30 * 86_400_000
    assert only_task(looked).differences == []
    looked.change(0, accuracy_cells={})
    found = told(only_task(looked))
    assert sum(expected for _, figure, expected, _ in found if figure == "matched") == 9


def test_an_older_database(day: FlowWorld) -> None:
    looked = look(day)
    before = looked.change(0)
    day.predicted(prediction("later"))
    task = only_task(looked)
    assert task.differences == [] and len(task.faults) == 1
    assert task.faults[0].startswith(
        f"version {before.version + 1} was published, but the ledger in the database stands at version {before.version}"
    )
    looked.statuses.hidden = True
    assert only_task(looked).faults == task.faults, "the topic tells it, too"


def test_older_topics(day: FlowWorld) -> None:
    looked = look(day)
    looked.change(0, version=looked.change(0).version + 2)
    assert "the topics or the group's offsets were restored" in only_task(looked).faults[0]


def test_a_publish_that_is_not_out_yet(day: FlowWorld) -> None:
    """The ledger has committed it: its statuses are in the slot."""
    looked = look(day)
    before = day.checkpoint(0).version
    day.predicted(prediction("later"))
    assert day.checkpoint(0).version == before + 1
    statuses = day.broker.log(Topic.STATUS, 0).records
    looked.statuses.dropped[0] = {statuses[-1].offset}
    committed = day.broker.committed[0]
    day.broker.committed[0] = replace(committed, version=before)
    task = only_task(looked)
    day.broker.committed[0] = committed
    assert (task.differences, task.faults) == ([], [])
    assert task.unchecked[0].endswith("is not published yet: its statuses were taken from the outbox slot")


def test_inputs_that_are_gone(day: FlowWorld) -> None:
    looked = look(day)
    looked.inputs.gone_before = 4
    task = only_task(looked)
    assert task.differences == []
    assert any(note.startswith("the features of 4 predictions: their records are gone") for note in task.unchecked)
    key, cell = first_cell(looked)
    none = Traffic(
        predictions=cell.predictions, first_at=cell.first_at, last_at=cell.last_at, last_due=cell.last_due,
        outcomes=cell.outcomes,
    )  # fmt: skip
    looked.change(0, prediction_cells={**looked.change(0).prediction_cells, key: none})
    assert {(one.figure, one.at_least) for one in only_task(looked).differences} == {
        ("feature distance, bin 2", True), ("feature origin, EWR", True),
    }  # fmt: skip


def test_features_before_their_bins(day: FlowWorld) -> None:
    looked = look(day)
    key, cell = first_cell(looked)
    less = replace(cell, features=cell.features // 2)
    looked.change(0, prediction_cells={**looked.change(0).prediction_cells, key: less})
    assert {one.figure for one in only_task(looked).differences} == {"feature distance, bin 2", "feature origin, EWR"}
    looked.change(0, layouts_since={("flights", MODEL_ID): looked.now_ms * 1000})
    task = only_task(looked)
    assert task.differences == []
    assert "the features of 1 cells: their first predictions came before a baseline fixed the bins" in task.unchecked


def test_what_is_asked_for(day: FlowWorld) -> None:
    looked = look(day)
    with pytest.raises(Invalid, match="partition: the status topic has partitions 0 to 0"):
        looked.verify(Asked(partition=1))
    with pytest.raises(Invalid, match="deployment: there is no deployment 'rain'"):
        looked.verify(Asked(deployment_id="rain"))
    key, _ = first_cell(looked)
    task = only_task(looked, since=key.hour + HOUR_US)
    assert (task.cells, task.differences, task.faults) == (4, [], [])
    assert any(note.startswith("what was received") for note in task.unchecked)


def test_a_table_has_an_end() -> None:
    one = Difference(task=0, deployment_id="a", figure="predictions", expected=1, found=2)
    found = verified([VerifiedTask(task=0, differences=[one] * 300)])
    assert len(difference_rows(found)) == 200
    assert next(summary_lines(found)) == "and 100 more; --json has them all"
