"""Five lives of a row, composed from statuses as the service publishes them."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.deployment import Deployment, JoinSpec, LatePolicy
from service.domain.monitoring_batch import MonitoringBatch
from service.domain.row import RowPhase, RowState, encode_row
from service.usecases.row_life import Arrived, History, Known, Place, RowLife, Step, compose, encode_life
from service.usecases.row_shares import AccuracyShare, Cell
from service.usecases.status_stream import TOMBSTONE, Published
from service.wire.held_row import HeldRow, shown_row
from service.wire.instants import rfc3339
from tests.builders import ACTUAL_AT, MODEL_ID, PREDICTED_AT, actual, deployment, prediction, regression

ROW = "UA1545"
BATCH = "0000000000000000000000b1"
SHARES = b'{"late":0.83,"on_time":0.17}'
START = datetime(1970, 1, 1, tzinfo=UTC)
PROCESSED = datetime(2026, 1, 3, 9, tzinfo=UTC)
HOUR = "2026-01-01T10:00:00.000000Z"


def us(at: datetime) -> int:
    return (at - START) // timedelta(microseconds=1)


DUE, DROP = us(PREDICTED_AT) + 30 * 86_400_000_000, us(PREDICTED_AT) + 90 * 86_400_000_000
OPEN = RowState(
    RowPhase.OPEN, 1, us(PREDICTED_AT), 0, DUE, DROP, 1, 0, SHARES, b"", MODEL_ID, BATCH
)  # fmt: skip


def held(row: RowState, phase: RowPhase, value: bytes, *, day: int = 20_455, hours: int = 0) -> RowState:
    """The row that holds this actual; label day 20455 is 2026-01-02."""
    changed = {"actual": value, "actual_at": us(ACTUAL_AT) + hours * 3_600_000_000, "label_day": day}
    fields = {name: getattr(row, name) for name in row.__struct_fields__}
    return RowState(**(fields | changed | {"phase": phase, "revision": row.revision + 1}))


def moved(row: RowState, phase: RowPhase) -> RowState:
    fields = {name: getattr(row, name) for name in row.__struct_fields__}
    return RowState(**(fields | {"phase": phase, "revision": row.revision + 1}))


class Life:
    """Statuses of one row, published one after the other."""

    def __init__(self) -> None:
        self.history = History()
        self.arrived: dict[Place, Arrived] = {}
        self._offset = 100

    def add(self, word: str, row: RowState | None, came: bytes | None = None, **fields: Any) -> "Life":
        """`came` is the record, None for a status that time alone brought about."""
        topic = "m.predictions.v1" if came and b'"prediction"' in came else "m.actuals.v1"
        status: dict[str, Any] = {"deploymentId": "flights", "rowId": ROW, "status": word, "seq": self._offset - 100}
        if came is not None:
            status["source"] = {"topic": topic, "partition": 3, "offset": self._offset}
            arrived = Arrived(us(ACTUAL_AT) // 1000 + self._offset, came)
            self.arrived[Place(topic, 3, self._offset)] = arrived
        if row is not None:
            status |= {"revision": row.revision, "associationId": ROW}
        if row is not None and row.prediction:
            status |= {"predictedAt": rfc3339(row.predicted_at), "prediction": json.loads(row.prediction)}
            status |= {"modelId": row.model, "batchId": row.batch}
        if row is not None and row.actual:
            status |= {"actualAt": rfc3339(row.actual_at), "actual": json.loads(row.actual)}
        state = encode_row(row) if row is not None else b""
        headers = (("hindsight-state", state), ("hindsight-version", b"%d" % (self._offset - 90)))
        return self._publish(json.dumps(status | fields).encode(), headers)

    def end(self) -> "Life":
        return self._publish(None, ())

    def _publish(self, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> "Life":
        at = us(PROCESSED) // 1000 + self._offset
        self.history.add(Published(3, self._offset, at, f"flights/{ROW}".encode(), value, headers))
        self._offset += 1
        return self

    def told(self, of: Deployment | None = None, **known: Any) -> RowLife:
        life = compose(
            "flights", ROW, 3, self.history,
            Known(prefix="m", deployment=of or deployment(), arrived=self.arrived, **known),
        )  # fmt: skip
        assert json.loads(encode_life(life))["rowId"] == ROW
        return life


def share(sign: int, actual_class: str, day: str = "2026-01-02") -> AccuracyShare:
    loss = -math.log(0.83 if actual_class == "late" else 1 - 0.83)
    return AccuracyShare(
        sign=sign, cell=Cell(hour=HOUR, model_id=MODEL_ID, batch_id=BATCH, label_day=day),
        actual_class=actual_class, predicted_class="late", log_loss=round(loss, 18),
    )  # fmt: skip


def counted(step: Step) -> tuple[int, str, str | None, str | None, str | None]:
    assert step.traffic is not None
    cell = step.traffic.cell
    return step.traffic.predictions, step.traffic.outcome, cell.hour, cell.model_id, cell.batch_id


MATCHED = held(OPEN, RowPhase.MATCHED, b'"late"')
EARLY = RowState(
    RowPhase.PARKED, 1, 0, us(ACTUAL_AT), 0, us(ACTUAL_AT) + 90 * 86_400_000_000, 0, 20_455, b"", b'"late"', "", ""
)


# ------------------------------------------------------------------------------------------------ five lives


def test_matched() -> None:
    """prediction ── actual"""
    life = Life().add("ACCEPTED", OPEN, prediction(ROW)).add("MATCHED", MATCHED, actual(ROW)).told(
        batches={"b": MonitoringBatch(deployment_id="flights", id=BATCH, version=1, name="2026-01-01")},
        watermark="2026-01-02T00:00:00.000000Z",
    )  # fmt: skip
    accepted, matched = life.steps
    assert accepted.came is not None and matched.came is not None
    assert (accepted.came.kind, accepted.came.event_at) == ("prediction", "2026-01-01T10:17:00.000000Z")
    assert (accepted.came.source.topic, accepted.came.source.offset) == ("m.predictions.v1", 100)
    assert (matched.came.kind, matched.came.event_at) == ("actual", "2026-01-01T13:30:00.000000Z")
    assert matched.came.arrived_at == "2026-01-01T13:30:00.101000Z"
    assert matched.published_at == "2026-01-03T09:00:00.101000Z"
    assert (matched.partition, matched.offset, matched.seq, matched.version, matched.revision) == (3, 101, 1, 11, 2)
    assert counted(accepted) == (1, "ACCEPTED", HOUR, MODEL_ID, BATCH)
    assert counted(matched) == (0, "MATCHED", HOUR, MODEL_ID, BATCH)
    assert (accepted.accuracy, matched.accuracy) == ([], [share(1, "late")])
    assert life.row == shown_row(MATCHED) and life.row_version == 11
    assert [(one.at, one.reached) for one in life.prospects] == [(rfc3339(DUE), False), (rfc3339(DROP), False)]
    assert (life.watermark, life.watermark_from) == ("2026-01-02T00:00:00.000000Z", "the ledger")
    assert life.batches == {BATCH: "2026-01-01"}
    assert life.notes == []


def test_unmatched() -> None:
    """prediction ── due ── drop"""
    story = Life().add("ACCEPTED", OPEN, prediction(ROW))
    waiting = story.told(watermark=rfc3339(DUE - 1))
    assert [(one.at, one.what.split(";")[0].split(",")[0], one.reached) for one in waiting.prospects] == [
        (rfc3339(DUE), "counts as unmatched if no actual comes by then", False),
        (rfc3339(DROP), "is forgotten", False),
    ]
    assert story.told(watermark=rfc3339(DUE)).prospects[0].reached
    assert not story.told().prospects[0].reached

    closed = story.add("UNMATCHED", moved(OPEN, RowPhase.UNMATCHED)).told()
    step = closed.steps[-1]
    assert (step.came, step.accuracy) == (None, [])
    assert counted(step) == (0, "UNMATCHED", HOUR, MODEL_ID, BATCH)
    assert closed.row is not None and closed.row.phase == "UNMATCHED"
    assert [one.at for one in closed.prospects] == [rfc3339(DROP)]

    late = moved(OPEN, RowPhase.UNMATCHED)
    corrected = Life().add("ACCEPTED", OPEN, prediction(ROW)).add("UNMATCHED", late)
    corrected.add("LATE_CORRECTED", held(late, RowPhase.MATCHED, b'"on_time"'), actual(ROW, "on_time"))
    assert corrected.told().steps[-1].accuracy == [share(1, "on_time")]

    over = story.end().told()
    assert (over.steps[-1].status, over.row, over.prospects) == (TOMBSTONE, None, [])
    assert counted(over.steps[-1]) == (0, "EXPIRED", HOUR, MODEL_ID, BATCH)
    again = story.add("ACCEPTED", OPEN, prediction(ROW)).told()
    assert again.steps[-1].accuracy == [] and again.row == shown_row(OPEN)


def test_corrected() -> None:
    """prediction ── actual ── another ── withdrawn"""
    other = held(MATCHED, RowPhase.MATCHED, b'"on_time"', day=20_457, hours=2)
    none = held(other, RowPhase.WITHDRAWN, b"null", day=20_458, hours=3)
    life = (
        Life()
        .add("ACCEPTED", OPEN, prediction(ROW))
        .add("MATCHED", MATCHED, actual(ROW))
        .add("CORRECTED", other, actual(ROW, "on_time"), previousActual="late")
        .add("WITHDRAWN", none, actual(ROW, None), previousActual="on_time")
        .told()
    )
    corrected, withdrawn = life.steps[2:]
    assert corrected.accuracy == [share(-1, "late"), share(1, "on_time", "2026-01-04")]
    assert bytes(corrected.previous_actual or b"") == b'"late"'
    assert withdrawn.accuracy == [share(-1, "on_time", "2026-01-04")]
    assert counted(corrected)[:2] == (0, "CORRECTED")
    assert [one.at for one in life.prospects] == [rfc3339(DUE), rfc3339(DROP)]


def test_early() -> None:
    """actual ── prediction"""
    story = Life().add("EARLY", EARLY, actual(ROW))
    parked = story.told()
    assert counted(parked.steps[0]) == (0, "EARLY", "2026-01-01T13:00:00.000000Z", None, None)
    assert [one.what for one in parked.prospects] == [
        "becomes an orphan and is forgotten if no prediction comes by then"
    ]
    assert parked.row is not None and parked.row.due is None
    life = story.add("MATCHED", MATCHED, prediction(ROW)).told()
    matched = life.steps[1]
    assert matched.came is not None and matched.came.kind == "prediction"
    assert counted(matched) == (1, "MATCHED", HOUR, MODEL_ID, BATCH)
    assert matched.accuracy == [share(1, "late")]

    orphan = Life().add("EARLY", EARLY, actual(ROW)).add("ORPHAN", EARLY).end().told()
    assert [(step.status, step.came, step.accuracy) for step in orphan.steps[1:]] == [
        ("ORPHAN", None, []), (TOMBSTONE, None, []),
    ]  # fmt: skip
    assert [counted(step)[1:3] for step in orphan.steps[1:]] == [
        ("ORPHAN", "2026-01-01T13:00:00.000000Z"), ("FORGOTTEN", "2026-01-01T13:00:00.000000Z"),
    ]  # fmt: skip


def test_duplicate() -> None:
    """prediction ── the same ── another ── actual ── an older one"""
    life = (
        Life()
        .add("ACCEPTED", OPEN, prediction(ROW))
        .add("DUPLICATE", OPEN, prediction(ROW))
        .add("CONFLICT", OPEN, prediction(ROW, {"late": 0.1}))
        .add("MATCHED", MATCHED, actual(ROW))
        .add("DUPLICATE", MATCHED, actual(ROW, "on_time", at=PREDICTED_AT), reason="older_actual")
        .add("INVALID", MATCHED, b"not \xff json", reason="malformed")
        .told()
    )
    assert [len(step.accuracy) for step in life.steps] == [0, 0, 0, 1, 0, 0]
    assert [step.traffic.predictions for step in life.steps if step.traffic] == [1, 0, 0, 0, 0, 0]
    dropped, older, invalid = life.steps[2], life.steps[4], life.steps[5]
    assert dropped.came is not None and bytes(dropped.came.said or b"") == b'{"late":0.1}'
    assert older.came is not None and bytes(older.came.said or b"") == b'"on_time"'
    assert (older.reason, older.came.event_at) == ("older_actual", "2026-01-01T10:17:00.000000Z")
    assert invalid.came is not None and (invalid.came.said, invalid.came.event_at) == (None, None)
    assert life.row == shown_row(MATCHED)


# ----------------------------------------------------------------------------------------- what is not known


def test_a_repeat_of_a_status_is_told_once() -> None:
    story = Life().add("ACCEPTED", OPEN, prediction(ROW)).add("ACCEPTED", OPEN, prediction(ROW), seq=0)
    assert [step.offset for step in story.told().steps] == [100]


@pytest.mark.parametrize(
    ("word", "row", "shares", "note"),
    [
        ("MATCHED", MATCHED, [share(1, "late")], None),
        ("CORRECTED", MATCHED, [], "the row before it is not known any more, nor what changed in accuracy"),
        ("DUPLICATE", MATCHED, [], None),
    ],
)
def test_after_compaction_only_what_is_sure_is_told(
    word: str, row: RowState, shares: list[AccuracyShare], note: str | None
) -> None:
    life = Life().add(word, row, actual(ROW)).told()
    assert (life.steps[0].accuracy, life.steps[0].note) == (shares, note)
    assert life.notes == ["earlier statuses of the row are not in the topic any more"]


def test_of_very_many_statuses_the_last_are_told_and_still_add_up() -> None:
    story = Life()
    story.history = History(most=2)
    other = held(MATCHED, RowPhase.MATCHED, b'"on_time"')
    story.add("ACCEPTED", OPEN, prediction(ROW)).add("MATCHED", MATCHED, actual(ROW))
    story.add("CORRECTED", other, actual(ROW, "on_time")).add("DUPLICATE", other, actual(ROW, "on_time"))
    life = story.told()
    assert [step.status for step in life.steps] == ["CORRECTED", "DUPLICATE"]
    assert life.steps[0].accuracy == [share(-1, "late"), share(1, "on_time")]
    assert life.notes == ["2 earlier statuses are left out"]


def test_without_its_records_and_without_a_database() -> None:
    story = Life().add("ACCEPTED", OPEN, prediction(ROW)).add("DUPLICATE", OPEN, prediction(ROW))
    story.arrived.clear()
    life = compose("flights", ROW, 3, story.history, Known(prefix="m", notes=("no database",)))
    accepted, duplicate = (step.came for step in life.steps)
    assert accepted is not None and duplicate is not None
    assert (accepted.event_at, accepted.arrived_at, accepted.said) == ("2026-01-01T10:17:00.000000Z", None, None)
    assert duplicate.event_at is None
    assert (life.watermark, life.notes) == (None, ["no database"])


def test_a_deleted_batch() -> None:
    batch = MonitoringBatch(deployment_id="flights", id=BATCH, version=2, name="x", is_deleted=True)
    story = Life().add("ACCEPTED", OPEN, prediction(ROW)).add("MATCHED", MATCHED, actual(ROW), reason="deleted")
    life = story.told(batches={"b": batch})
    assert life.steps[1].accuracy == []
    assert counted(life.steps[1]) == (0, "MATCHED", "2026-01-01T13:00:00.000000Z", None, None)
    assert life.notes == [f"monitoring batch {BATCH} was deleted, and with it what the row had counted there"]


def test_a_row_without_any_id_is_counted_and_not_kept() -> None:
    shown = {"prediction": {"late": 0.83}, "predictedAt": rfc3339(us(PREDICTED_AT)), "modelId": MODEL_ID}
    life = Life().add("ACCEPTED", None, prediction(None), revision=1, reason="no_association_id", **shown).told()
    assert counted(life.steps[0]) == (1, "ACCEPTED", HOUR, MODEL_ID, None)
    assert life.steps[0].note is not None and "can never be joined" in life.steps[0].note
    assert (life.row, life.prospects) == (None, [])


def test_the_worker_knows_better_how_a_row_stands() -> None:
    answer = HeldRow(
        deployment_id="flights", row_id=ROW, task=3, version=77, watermark="2026-01-05T00:00:00.000000Z",
        row=shown_row(MATCHED), state=encode_row(MATCHED),
    )  # fmt: skip
    story = Life().add("ACCEPTED", OPEN, prediction(ROW))
    life = story.told(held=answer, watermark="2026-01-02T00:00:00.000000Z")
    assert (life.row, life.row_version, life.row_from) == (shown_row(MATCHED), 77, "the store of task 3")
    assert (life.watermark, life.watermark_from) == ("2026-01-05T00:00:00.000000Z", "the worker")
    only_held = compose("flights", ROW, 3, History(), Known(prefix="m", held=answer))
    assert (only_held.steps, only_held.row) == ([], shown_row(MATCHED))


def test_a_regression_is_told_by_its_errors() -> None:
    fields = {name: getattr(MATCHED, name) for name in MATCHED.__struct_fields__}
    row = RowState(**(fields | {"prediction": b"2.5", "actual": b"4.0"}))
    life = Life().add("MATCHED", row, actual(ROW, 4.0)).told(regression())
    (added,) = life.steps[0].accuracy
    assert (added.error, added.absolute_error, added.squared_error) == (-1.5, 1.5, 2.25)
    assert (added.actual_class, added.log_loss) == (None, None)


def test_what_a_late_actual_does_is_the_deployments_decision() -> None:
    waiting = Life().add("ACCEPTED", OPEN, prediction(ROW))
    said = {
        policy: waiting.told(replace(deployment(), join=JoinSpec(late_policy=policy))).prospects[0].what
        for policy in LatePolicy
    }
    assert said[LatePolicy.CORRECT].endswith("; after that an actual is late: it counts, and changes past numbers")
    assert said[LatePolicy.RECORD].endswith("it is recorded as such, and changes no number")
    assert said[LatePolicy.REJECT].endswith("it is refused")
