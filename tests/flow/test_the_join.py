"""The join as stories: what each record is answered, what the row is after it, what was counted.

Deployment `flights` is binary: class 0 is `on_time`, class 1 is `late`. By default `prediction()` says late (0.83), so
`confusion() == {(1, 1): 1}` is one flight that was late as predicted.
"""

from datetime import timedelta

import pytest

from service.domain.deployment import ActualOrder, JoinSpec
from service.domain.row import RowPhase
from tests.builders import ACTUAL_AT, ASSOCIATION_ID, PREDICTED_AT, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.published import words
from tests.flow.world import FlowWorld

ROW = f"flights/{ASSOCIATION_ID}"
HOUR = timedelta(hours=1)


# ------------------------------------------------------------------------------------------- predictions


def test_a_prediction_opens_a_row(world: FlowWorld) -> None:
    status = world.predicted(prediction())
    assert status.fields == {
        "deploymentId": "flights",
        "rowId": ASSOCIATION_ID,
        "associationId": ASSOCIATION_ID,
        "status": "ACCEPTED",
        "seq": 0,
        "revision": 1,
        "modelId": "model-1",
        "predictedAt": "2026-01-01T10:17:00.000000Z",
        "prediction": {"late": 0.83, "on_time": 0.17},
        "source": {"topic": "monitoring.predictions.v1", "partition": status.task, "offset": 0},
    }
    assert world.rows()[ROW].phase == RowPhase.OPEN
    assert ROW.encode() in world.timed()
    assert sum(traffic.predictions for traffic in world.numbers().traffic.values()) == 1


def test_the_same_prediction_again_changes_nothing(world: FlowWorld) -> None:
    first = world.predicted(prediction())
    again = world.predicted(prediction())
    assert (again.word, again.fields["revision"], again.state) == ("DUPLICATE", 1, first.state)
    assert sum(traffic.predictions for traffic in world.numbers().traffic.values()) == 1


def test_of_two_predictions_of_one_row_the_first_wins(world: FlowWorld) -> None:
    first = world.predicted(prediction(prediction={"late": 0.83}))
    other = world.predicted(prediction(prediction={"late": 0.1}))
    assert (other.word, other.fields["prediction"], other.state) == ("CONFLICT", {"late": 0.83}, first.state)


def test_one_row_meets_itself_within_one_micro_batch(world: FlowWorld) -> None:
    world.predict(prediction())
    world.predict(prediction())
    world.predict(prediction(prediction=0.5))
    world.predict(prediction(prediction={"late": 0.5}))
    world.tell(actual())
    world.tell(actual())
    answers = world.settle()
    assert len({status.headers["hindsight-version"] for status in answers}) == 1, "not one micro-batch"
    assert words(answers) == ["ACCEPTED", "DUPLICATE", "CONFLICT", "MATCHED", "DUPLICATE", "INVALID"]
    assert world.confusion() == {(1, 1): 1}


# ------------------------------------------------------------------------------------------- the actual comes second
#
#   predictions   P ----------------.
#   actuals                         A          P = 10:17, A = 13:30
#   status        ACCEPTED          MATCHED


def test_an_actual_matches_the_row(world: FlowWorld) -> None:
    world.predicted(prediction())
    status = world.told(actual())
    assert status.word == "MATCHED"
    assert status.fields["revision"] == 2
    assert status.fields["actual"] == "late"
    assert status.fields["actualAt"] == "2026-01-01T13:30:00.000000Z"
    assert status.fields["prediction"] == {"late": 0.83, "on_time": 0.17}
    assert "previousActual" not in status.fields
    assert world.confusion() == {(1, 1): 1}


def test_accuracy_counts_in_the_hour_of_the_prediction(world: FlowWorld) -> None:
    world.predicted(prediction(at=PREDICTED_AT))
    world.told(actual(at=PREDICTED_AT + 30 * HOUR), timestamp=world.now_ms + 86_400_000)
    (key,) = world.numbers().accuracy
    assert key.hour == PREDICTED_AT.replace(minute=0).timestamp() * 1_000_000
    assert key.label_day * 86_400_000 <= world.now_ms + 86_400_000 < (key.label_day + 1) * 86_400_000
    assert (key.deployment_id, key.model_id, key.batch_id) == ("flights", "model-1", "")


# ------------------------------------------------------------------------------------------- the actual comes first
#
#   predictions                P
#   actuals       A -----------'
#   status        EARLY        MATCHED


def test_an_early_actual_waits_for_its_prediction(world: FlowWorld) -> None:
    early = world.told(actual())
    assert (early.word, early.fields["revision"], early.fields["actual"]) == ("EARLY", 1, "late")
    assert "prediction" not in early.fields
    assert "predictedAt" not in early.fields
    assert ROW.encode() in world.timed()
    assert world.accuracy().matched == 0
    matched = world.predicted(prediction())
    assert (matched.word, matched.fields["revision"]) == ("MATCHED", 2)
    assert world.confusion() == {(1, 1): 1}
    assert ROW.encode() in world.timed()


@pytest.mark.parametrize(
    ("further", "answer", "held"),
    [
        (actual(), "DUPLICATE", "late"),
        (actual(at=ACTUAL_AT + HOUR), "DUPLICATE", "late"),
        (actual(actual="on_time", at=ACTUAL_AT + HOUR), "CORRECTED", "on_time"),
        (actual(actual="on_time", at=ACTUAL_AT - HOUR), "DUPLICATE", "late"),
        (actual(actual=None, at=ACTUAL_AT - HOUR), "DUPLICATE", "late"),
    ],
    ids=["same", "same but newer", "greater", "lesser", "older withdrawal"],
)
def test_a_further_early_actual_goes_by_the_rule_of_the_held_one(
    world: FlowWorld, further: bytes, answer: str, held: str
) -> None:
    world.told(actual())
    status = world.told(further)
    assert (status.word, status.fields["actual"]) == (answer, held)
    assert world.predicted(prediction()).fields["actual"] == held
    assert world.confusion() == {(("on_time", "late").index(held), 1): 1}


def test_an_early_actual_that_replaces_another_says_which(world: FlowWorld) -> None:
    world.told(actual(actual="late"))
    status = world.told(actual(actual="on_time", at=ACTUAL_AT + HOUR))
    assert (status.word, status.fields["previousActual"], status.fields["revision"]) == ("CORRECTED", "late", 2)


def test_an_actual_that_nobody_wants_to_keep_is_an_orphan(world: FlowWorld) -> None:
    status = world.told(actual(keepWithoutPrediction=False))
    assert (status.word, status.reason, status.state) == ("ORPHAN", "not_kept", b"")
    assert "revision" not in status.fields
    assert world.rows() == {}
    assert world.predicted(prediction()).word == "ACCEPTED"
    assert world.told(actual(keepWithoutPrediction=False)).word == "MATCHED"


# ------------------------------------------------------------------------------------------- actuals that compete
#
#   event time of the actuals    12:30   13:30   14:30
#   arrival                        3.      1.      2.
#   status                     DUPLICATE MATCHED CORRECTED
#                           (older_actual)


def test_the_newest_actual_is_held_whatever_comes_after_it(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(actual="late"))
    corrected = world.told(actual(actual="on_time", at=ACTUAL_AT + HOUR))
    assert (corrected.word, corrected.fields["previousActual"], corrected.fields["actual"]) == (
        "CORRECTED",
        "late",
        "on_time",
    )
    assert corrected.fields["revision"] == 3
    assert world.confusion() == {(0, 1): 1}
    older = world.told(actual(actual="late", at=ACTUAL_AT - HOUR))
    assert (older.word, older.reason, older.state) == ("DUPLICATE", "older_actual", corrected.state)
    assert "previousActual" not in older.fields
    assert world.confusion() == {(0, 1): 1}


def test_of_two_actuals_of_one_instant_the_greater_text_is_held(world: FlowWorld) -> None:
    world.predicted(prediction())
    assert world.told(actual(actual="on_time")).word == "MATCHED"
    assert world.told(actual(actual="late")).reason == "older_actual"
    assert world.confusion() == {(0, 1): 1}


#   event time of the actuals    13:30 late   14:30 on_time   15:30 late
#   arrival                        1.           3.              2.
#   status                       MATCHED      DUPLICATE       DUPLICATE, but the held instant is 15:30 from now on


def test_a_repeated_actual_advances_the_held_instant_and_no_number(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual(actual="late"))
    again = world.told(actual(actual="late", at=ACTUAL_AT + 2 * HOUR))
    assert (again.word, again.reason, again.fields["revision"]) == ("DUPLICATE", None, 2)
    assert again.fields["actualAt"] == "2026-01-01T15:30:00.000000Z"
    assert world.confusion() == {(1, 1): 1}
    assert world.told(actual(actual="on_time", at=ACTUAL_AT + HOUR)).reason == "older_actual"


def test_where_arrival_decides_the_last_received_is_held(opened: Opened) -> None:
    world = opened(deployment(join=JoinSpec(actual_order=ActualOrder.ARRIVAL)))
    world.predicted(prediction())
    world.told(actual(actual="late"))
    older = world.told(actual(actual="on_time", at=ACTUAL_AT - HOUR))
    assert (older.word, older.fields["actual"], older.fields["previousActual"]) == ("CORRECTED", "on_time", "late")
    assert older.fields["actualAt"] == "2026-01-01T12:30:00.000000Z"
    assert world.confusion() == {(0, 1): 1}
    withdrawn = world.told(actual(actual=None, at=ACTUAL_AT - 2 * HOUR))
    assert withdrawn.word == "WITHDRAWN"
    assert world.confusion() == {}


# ------------------------------------------------------------------------------------------- withdrawals
#
#   actuals     13:30 late    14:30 null    14:00 on_time   15:30 on_time
#   status      MATCHED       WITHDRAWN     DUPLICATE       MATCHED
#                                           (older_actual)


def test_a_withdrawn_actual_leaves_the_row_open_for_a_newer_one(world: FlowWorld) -> None:
    world.predicted(prediction())
    world.told(actual())
    withdrawn = world.told(actual(actual=None, at=ACTUAL_AT + HOUR))
    assert (withdrawn.word, withdrawn.fields["previousActual"]) == ("WITHDRAWN", "late")
    assert withdrawn.fields["revision"] == 3
    assert world.rows()[ROW].phase == RowPhase.WITHDRAWN
    assert world.confusion() == {}
    assert world.told(actual(actual=None, at=ACTUAL_AT + HOUR)).word == "DUPLICATE"
    older = world.told(actual(actual="on_time", at=ACTUAL_AT + HOUR / 2))
    assert (older.word, older.reason) == ("DUPLICATE", "older_actual")
    again = world.told(actual(actual="on_time", at=ACTUAL_AT + 2 * HOUR))
    assert (again.word, again.fields["revision"]) == ("MATCHED", 4)
    assert "previousActual" not in again.fields
    assert world.confusion() == {(0, 1): 1}


def test_a_withdrawal_of_nothing_is_kept_as_one(world: FlowWorld) -> None:
    world.predicted(prediction())
    assert world.told(actual(actual=None)).word == "WITHDRAWN"
    assert world.told(actual(at=ACTUAL_AT - HOUR)).reason == "older_actual"
    assert world.confusion() == {}


def test_an_early_actual_can_be_withdrawn_before_its_prediction(world: FlowWorld) -> None:
    world.told(actual())
    withdrawn = world.told(actual(actual=None, at=ACTUAL_AT + HOUR))
    assert (withdrawn.word, withdrawn.fields["previousActual"]) == ("WITHDRAWN", "late")
    assert world.rows()[ROW].phase == RowPhase.PARKED_WITHDRAWN
    assert world.told(actual(actual=None, at=ACTUAL_AT + HOUR)).word == "DUPLICATE"
    assert world.predicted(prediction()).word == "ACCEPTED"
    assert world.rows()[ROW].phase == RowPhase.WITHDRAWN
    assert world.accuracy().matched == 0
    assert world.told(actual(at=ACTUAL_AT)).reason == "older_actual"
    assert world.told(actual(at=ACTUAL_AT + 2 * HOUR)).word == "MATCHED"


def test_a_withdrawal_that_comes_first_waits_as_an_actual_does(world: FlowWorld) -> None:
    early = world.told(actual(actual=None, at=ACTUAL_AT + HOUR))
    assert (early.word, early.fields.get("actual")) == ("EARLY", None)
    assert world.told(actual()).reason == "older_actual"
    newer = world.told(actual(at=ACTUAL_AT + 2 * HOUR))
    assert (newer.word, newer.fields["actual"]) == ("EARLY", "late")
    assert world.predicted(prediction()).word == "MATCHED"


# ------------------------------------------------------------------------------------------- no association ID


def test_a_prediction_without_association_id_counts_and_is_never_matched(world: FlowWorld) -> None:
    offset = world.predict(prediction(None), partition=2)
    (status,) = world.settle()
    assert (status.word, status.reason) == ("ACCEPTED", "no_association_id")
    assert status.fields["rowId"] == f"record:monitoring.predictions.v1:2:{offset}"
    assert "associationId" not in status.fields
    assert status.state == b"", "it can never be named again, so it is not kept"
    assert world.rows() == {}
    again = world.predicted(prediction(None), partition=2)
    assert again.word == "ACCEPTED", "it can not be recognised"
    assert sum(traffic.predictions for traffic in world.numbers().traffic.values()) == 2


def test_a_deployment_may_require_association_ids(opened: Opened) -> None:
    world = opened(deployment(association_required=True))
    status = world.predicted(prediction(None))
    assert (status.word, status.reason) == ("MISSING_ASSOCIATION_ID", "missing_association_id")
    (letter,) = world.dead_letters()
    assert (letter.reason, letter.value) == ("missing_association_id", prediction(None))
    assert sum(traffic.predictions for traffic in world.numbers().traffic.values()) == 0


def test_the_row_of_a_submission_is_known_by_its_number(world: FlowWorld) -> None:
    headers = [("hindsight-submission-id", b"s1"), ("hindsight-row-number", b"7")]
    home = world.home("submission:s1:7")
    first = world.predicted(prediction(None), partition=home, headers=headers)
    assert (first.word, first.reason, first.fields["rowId"]) == ("ACCEPTED", "no_association_id", "submission:s1:7")
    assert first.fields["rowNumber"] == 7
    assert world.predicted(prediction(None), partition=home, headers=headers).word == "DUPLICATE"
    assert world.submissions() == {("s1", "ACCEPTED"): 1, ("s1", "DUPLICATE"): 1}


def test_the_row_of_a_job_is_known_by_its_number(world: FlowWorld) -> None:
    headers = [("hindsight-job-id", b"j1"), ("hindsight-row-number", b"0"), ("hindsight-submission-id", b"s1")]
    first = world.predicted(prediction(None), partition=world.home("job:j1:0"), headers=headers)
    assert (first.fields["rowId"], first.fields["jobId"], first.fields["rowNumber"]) == ("job:j1:0", "j1", 0)


def test_a_composite_id_joins_by_its_parts(world: FlowWorld) -> None:
    first = world.predicted(prediction(["UA", "1545", "Zürich"]))
    assert (first.word, first.fields["rowId"]) == ("ACCEPTED", '["UA","1545","Zürich"]')
    assert world.told(actual(["UA", "1545", "Zürich"])).word == "MATCHED"
    assert world.told(actual(["UA", "1545"])).word == "EARLY"


def test_deployments_do_not_share_rows(opened: Opened) -> None:
    world = opened(deployment("one"), deployment("other"))
    assert world.predicted(prediction(deployment_id="one")).word == "ACCEPTED"
    assert world.told(actual(deployment_id="other")).word == "EARLY"
    assert world.told(actual(deployment_id="one")).word == "MATCHED"
