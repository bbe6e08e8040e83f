"""Baselines over HTTP: what is counted, what is kept, and what a bad file is told."""

import asyncio
import io
import json
from typing import Any

import asyncpg
import httpx
import polars as pl
import pytest

from service.domain.stats.accuracy import PAIR_STRIDE
from service.domain.stats.histogram import CategoricalBins, NumericBins
from service.usecases.access import Scope
from service.usecases.baselines import Baseline
from service.usecases.deployments import VersionMoved, show
from service.usecases.holdout import Holdout
from tests.api.datarobot.conftest import BASE, Api

FEATURES = [{"name": "origin", "type": "categorical"}, {"name": "distance", "type": "numeric"}]
TRAINING = b"origin,distance,other\nEWR,100,x\nEWR,200,y\nJFK,300,\n,,z\n"
CLASSES = json.dumps([{"className": "yes", "columnName": "p_yes"}, {"className": "no", "columnName": "p_no"}])


@pytest.fixture
async def d(api: Api) -> str:
    return await a_deployment(api, "d", "Binary", ["no", "yes"], "yes")


async def a_deployment(api: Api, name: str, target: str, classes: list[str], positive: str | None = None) -> str:
    await execute(
        api,
        "INSERT INTO deployments (id, label, origin, target_name, target_type, class_names, positive_class, threshold,"
        " current_model_id, features) VALUES ($1, $1, 'registered', 'y', $2, $3, $4, 0.5, 'm1', $5::text::jsonb)",
        name, target, classes, positive, json.dumps(FEATURES),
    )  # fmt: skip
    await execute(api, "INSERT INTO models (deployment_id, id, name) VALUES ($1, 'm1', 'm1'), ($1, 'm2', 'm2')", name)
    return name


async def execute(api: Api, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(api.dsn)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def post(client: httpx.AsyncClient, d: str, content: bytes, **fields: str) -> httpx.Response:
    return await client.post(f"/deployments/{d}/baselines/", files={"file": ("f", content)}, data=fields)


async def created(api: Api, client: httpx.AsyncClient, d: str, content: bytes, **fields: str) -> dict[str, Any]:
    """The status, once it has ended."""
    answer = await post(client, d, content, **fields)
    assert answer.status_code == 202, answer.text
    return await ended(api, client, answer)


async def ended(api: Api, client: httpx.AsyncClient, answer: httpx.Response) -> dict[str, Any]:
    task_id = answer.json()["statusId"]
    assert answer.headers["location"] == f"{BASE}/api/v2/status/{task_id}/"
    await api.deps.work.idle()
    status: dict[str, Any] = (await client.get(f"/status/{task_id}/")).json()
    return status


async def errors_of(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    errors: dict[str, str] = answer.json()["errors"]
    return errors


async def baseline_of(api: Api, d: str, kind: str, model: str = "m1") -> Baseline:
    stored = await show(api.deps.deployments, d)
    (found,) = [one for one in stored.baselines if (one.kind, one.model_id) == (kind, model)]
    return found


async def holdout_of(api: Api, d: str, model: str = "m1") -> Holdout:
    found = (await api.deps.baselines.holdout(d, model)).fixed
    assert found is not None
    return found


async def test_training_fixes_the_bins_and_moves_the_version(api: Api, client: httpx.AsyncClient, d: str) -> None:
    before = await show(api.deps.deployments, d)
    status = await created(api, client, d, TRAINING, kind="training")
    assert (status["status"], status["code"], status["statusType"]) == ("COMPLETED", 0, "Baseline")
    after = await show(api.deps.deployments, d)
    assert after.version == before.version + 1
    baseline = await baseline_of(api, d, "training")
    origin, distance = baseline.counted.layout.features
    assert origin == CategoricalBins(name="origin", first_slot=0, values=("EWR", "JFK"))
    assert isinstance(distance, NumericBins)
    assert baseline.counted.rows == 4
    assert baseline.counted.counts[:4] == (2, 1, 0, 1)
    assert (baseline.version, baseline.method, baseline.start) == (1, "deciles-top", None)


async def test_a_later_file_is_counted_into_the_same_bins(api: Api, client: httpx.AsyncClient, d: str) -> None:
    await created(api, client, d, TRAINING, kind="training")
    first = (await baseline_of(api, d, "training")).counted.layout
    made = io.BytesIO()
    pl.DataFrame({"origin": ["LGA", "EWR"], "distance": [1.5, None]}).write_parquet(made)
    await created(api, client, d, made.getvalue(), kind="training")
    baseline = await baseline_of(api, d, "training")
    assert baseline.counted.layout == first
    assert (baseline.counted.rows, baseline.version) == (2, 2)
    assert baseline.counted.counts[:4] == (1, 0, 1, 0)


async def test_another_model_has_bins_of_its_own(api: Api, client: httpx.AsyncClient, d: str) -> None:
    await created(api, client, d, TRAINING, kind="training")
    await created(api, client, d, b"origin,distance\nLGA,1\n", kind="training", modelId="m2")
    layout = (await baseline_of(api, d, "training", "m2")).counted.layout
    assert layout.features[0] == CategoricalBins(name="origin", first_slot=0, values=("LGA",))


async def test_a_holdout_of_classes(api: Api, client: httpx.AsyncClient, d: str) -> None:
    await created(api, client, d, TRAINING, kind="training")
    layout = (await baseline_of(api, d, "training")).counted.layout
    rows = b"p_yes,p_no,y,origin\n0.9,0.1,yes,EWR\n0.6,0.4,no,JFK\n0.4,0.6,yes,LGA\n0.2,0.8,no,\n0.5,0.5,,EWR\n"
    status = await created(api, client, d, rows, kind="holdout", predictionsColumns=CLASSES)
    assert status["status"] == "COMPLETED", status
    holdout = await holdout_of(api, d)
    assert (holdout.rows, holdout.predicted) == (5, {"no": 2, "yes": 3})
    assert [one.label for one in holdout.scores] == ["no", "yes"]
    assert all(sum(one.counts) == 5 and one.counts[-1] == 0 and len(one.deciles) == 9 for one in holdout.scores)
    assert holdout.scores[1].total == 2_600_000_000_000_000_000
    assert holdout.scores[1].deciles[4] == 0.5
    assert holdout.accuracy is not None
    assert (holdout.accuracy.matched, holdout.accuracy.log_loss_rows) == (4, 4)
    assert holdout.accuracy.log_loss / 4e18 == pytest.approx(0.540271, abs=1e-6)
    no, yes = 0, 1
    assert holdout.accuracy.confusion == {
        yes * PAIR_STRIDE + yes: 1, no * PAIR_STRIDE + yes: 1, yes * PAIR_STRIDE + no: 1, no * PAIR_STRIDE + no: 1,
    }  # fmt: skip
    baseline = await baseline_of(api, d, "holdout")
    assert baseline.counted.layout == layout
    assert baseline.counted.counts[:4] == (2, 1, 1, 1)
    assert sum(baseline.counted.counts[4:]) == 0
    assert (await show(api.deps.deployments, d)).layout_of("m1") == layout


async def test_a_holdout_of_a_regression(api: Api, client: httpx.AsyncClient) -> None:
    d = await a_deployment(api, "r", "Regression", [])
    rows = b"f,truth\n1.5,1\n2,2\n3,4\n6,5\n7,\n"
    await created(api, client, d, rows, kind="holdout", predictionsColumns="f", actualsValueColumn="truth")
    holdout = await holdout_of(api, d)
    (scores,) = holdout.scores
    assert (holdout.rows, scores.label, holdout.predicted) == (5, "", {})
    assert scores.total == 19_500_000_000_000_000_000
    assert holdout.accuracy is not None
    assert holdout.accuracy.matched == 4
    assert holdout.accuracy.absolute_error / 4e18 == 0.625
    assert (holdout.accuracy.squared_error / 4e18) ** 0.5 == 0.75
    assert (await show(api.deps.deployments, d)).layout_of("r").features == ()


async def test_a_holdout_without_actuals_and_a_second_one(api: Api, client: httpx.AsyncClient, d: str) -> None:
    await created(api, client, d, b"p_yes,p_no\n0.25,0.75\n1,0\n", kind="holdout", predictionsColumns=CLASSES)
    first = await holdout_of(api, d)
    assert first.accuracy is None
    await created(api, client, d, b"p_yes,p_no\n0.5,0.5\n", kind="holdout", predictionsColumns=CLASSES)
    second = await holdout_of(api, d)
    assert [one.bins for one in second.scores] == [one.bins for one in first.scores]
    assert (second.rows, (await baseline_of(api, d, "holdout")).version) == (1, 2)


async def test_a_threshold_of_the_model_judges(api: Api, client: httpx.AsyncClient, d: str) -> None:
    await execute(api, "UPDATE models SET threshold = 0.95 WHERE id = 'm1'")
    await created(api, client, d, b"p_yes,p_no\n0.9,0.1\n", kind="holdout", predictionsColumns=CLASSES)
    assert (await holdout_of(api, d)).predicted == {"no": 1, "yes": 0}


async def test_classes_that_are_numbers_are_compared_as_text(api: Api, client: httpx.AsyncClient) -> None:
    d = await a_deployment(api, "n", "Multiclass", ["1", "2", "3"])
    columns = json.dumps([{"className": name, "columnName": f"p{name}"} for name in "312"])
    rows = b"p1,p2,p3,y\n0.5,0.25,0.25,1\n0.2,0.3,0.5,2\n"
    await created(api, client, d, rows, kind="holdout", predictionsColumns=columns)
    holdout = await holdout_of(api, d)
    assert holdout.predicted == {"1": 1, "2": 0, "3": 1}
    assert holdout.accuracy is not None
    assert holdout.accuracy.confusion == {0: 1, PAIR_STRIDE + 2: 1}


@pytest.mark.parametrize(
    ("fields", "content", "errors"),
    [
        ({}, TRAINING, {"kind": "Is required."}),
        ({"kind": "period", "modelId": "m9"}, TRAINING, {
            "kind": "Must be training or holdout.", "modelId": "The deployment has no such model."}),
        ({"kind": "training"}, b"origin\nEWR\n", {"file": "The file has no column 'distance'."}),
        ({"kind": "training"}, b"origin,distance\n", {"file": "The file has no rows."}),
        ({"kind": "training", "modelId": "m9"}, b"", {
            "modelId": "The deployment has no such model.",
            "file": "The file must begin with a line that names the columns."}),
        ({"kind": "training", "period": "{}"}, TRAINING, {
            "period": "Must not be given with a file; send it as JSON."}),
        ({"kind": "holdout"}, TRAINING, {"predictionsColumns": "Is required."}),
        ({"kind": "holdout", "predictionsColumns": "p_yes"}, TRAINING, {
            "predictionsColumns": "Must name a column for each class."}),
        ({"kind": "holdout", "predictionsColumns": CLASSES, "actualsValueColumn": "z"}, TRAINING, {
            "predictionsColumns": "The file has no column 'p_yes', 'p_no'.",
            "actualsValueColumn": "The file has no column 'z'."}),
        ({"kind": "holdout", "predictionsColumns": CLASSES.replace('"no"', '"maybe"')}, TRAINING, {
            "predictionsColumns": "Must name the classes of the deployment: no, yes."}),
        ({"kind": "holdout", "predictionsColumns": "[{"}, TRAINING, {
            "predictionsColumns": "Must be the name of a column, or a JSON list of {className, columnName}."}),
        ({"kind": "holdout", "predictionsColumns": CLASSES.replace("p_no", "p_yes")}, TRAINING, {
            "predictionsColumns": "Must name each columnName once."}),
        ({"kind": "holdout", "predictionsColumns": "[]"}, TRAINING, {
            "predictionsColumns": "Must have 1 to 1,000 items."}),
    ],
)  # fmt: skip
async def test_what_is_seen_at_once(
    client: httpx.AsyncClient, d: str, fields: dict[str, str], content: bytes, errors: dict[str, str]
) -> None:
    assert await errors_of(await post(client, d, content, **fields)) == errors


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({"kind": "training"}, b"origin,distance\nEWR,far\n", "must hold finite numbers, but has 'far'"),
        ({"kind": "training"}, b"origin,distance\nEWR,1,2\n", "file: found more fields"),
        ({"kind": "training"}, b"origin,distance\nE\xffR,1\n", "file: invalid utf-8"),
        ({"kind": "holdout", "predictionsColumns": CLASSES}, b"p_yes,p_no\n0.5,0.5\n,1\n", "row 1: 'p_yes' must be"),
        ({"kind": "holdout", "predictionsColumns": CLASSES}, b"p_yes,p_no\n1.5,-0.5\n", "row 0: a probability"),
        ({"kind": "holdout", "predictionsColumns": CLASSES}, b"p_yes,p_no\n0.5,0.52\n", "row 0: the probabilities"),
        ({"kind": "holdout", "predictionsColumns": CLASSES}, b"p_yes,p_no,y\n1,0,maybe\n", "'maybe' is no class"),
    ],
)
async def test_a_file_that_turns_out_unreadable_ends_the_task_and_changes_nothing(
    api: Api, client: httpx.AsyncClient, d: str, fields: dict[str, str], content: bytes, message: str
) -> None:
    status = await created(api, client, d, content, **fields)
    assert (status["status"], status["code"]) == ("ERROR", 422)
    assert message in status["message"]
    stored = await show(api.deps.deployments, d)
    assert (stored.version, list(stored.baselines)) == (1, [])


async def a_cell(api: Api, d: str, hour: str, counts: list[int]) -> None:
    await execute(
        api,
        "INSERT INTO prediction_cells VALUES (0, $1, 'm1', '', $2::text::timestamptz, '', 1, $2::text::timestamptz,"
        " $2::text::timestamptz, NULL, '{}', $3)",
        d, hour, counts,
    )  # fmt: skip


async def test_a_period_of_live_rows_is_counted_into_the_bins_that_are_there(
    api: Api, client: httpx.AsyncClient, d: str
) -> None:
    await created(api, client, d, TRAINING, kind="training")
    layout = (await baseline_of(api, d, "training")).counted.layout
    counts = [3, 4, 0, 0, *[0] * (layout.slots - 5), 7]
    await a_cell(api, d, "2026-04-10T00:00Z", counts)
    await a_cell(api, d, "2026-05-01T00:00Z", counts)
    period = {"start": "2026-04-01T00:00:00Z", "end": "2026-05-01T02:00:00+02:00"}
    answer = await client.post(
        f"/deployments/{d}/baselines", json={"kind": "training", "modelId": None, "period": period}
    )
    assert (await ended(api, client, answer))["status"] == "COMPLETED"
    baseline = await baseline_of(api, d, "training")
    assert baseline.counted.counts == tuple(counts)
    assert (baseline.counted.rows, baseline.counted.layout, baseline.version) == (7, layout, 2)
    assert baseline.start is not None
    assert (baseline.start.month, baseline.end) != (5, None)
    assert (await show(api.deps.deployments, d)).version == 3


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"kind": "training"}, {"period": "Is required."}),
        ({"period": {"start": "2026-04-01T00:30:00Z", "end": None}, "kind": "training"}, None),
        ({"kind": "training", "period": {"start": "2026-04-01T00:30:00Z", "end": "2026-05-01T00:00:00Z"}},
         {"period.start": "Must be a whole hour in UTC."}),
        ({"kind": "training", "period": {"start": "2026-05-01T00:00:00Z", "end": "2026-05-01T00:00:00Z"}},
         {"period.end": "Must be after start."}),
        ({"kind": "training", "period": {"start": "2026-04-01T00:00:00Z", "end": "2026-05-01T00:00:00Z"}},
         {"period": "No features of model 'm1' were counted in these hours."}),
        ({"kind": "holdout", "period": {"start": "2026-04-01T00:00:00Z", "end": "2026-05-01T00:00:00Z"}},
         {"period": "Predictions of live rows are not kept one by one; send a file for a holdout."}),
        ({"kind": "training", "modelId": "m2",
          "period": {"start": "2026-04-01T00:00:00Z", "end": "2026-05-01T00:00:00Z"}},
         {"period": "The model has no bins yet; its first baseline must be a file."}),
    ],
)  # fmt: skip
async def test_a_period_that_can_not_be_one(
    api: Api, client: httpx.AsyncClient, d: str, body: dict[str, Any], errors: dict[str, str] | None
) -> None:
    await created(api, client, d, TRAINING, kind="training")
    found = await errors_of(await client.post(f"/deployments/{d}/baselines/", json=body))
    assert found == errors if errors is not None else "period.end" in found


async def test_a_deployment_without_features(api: Api, client: httpx.AsyncClient, d: str) -> None:
    await execute(api, "UPDATE deployments SET features = '[]'")
    errors = await errors_of(await post(client, d, TRAINING, kind="training"))
    assert errors == {"kind": "The deployment has no numeric or categorical features that could be counted."}


async def test_two_baselines_at_once_both_count(api: Api, client: httpx.AsyncClient, d: str) -> None:
    answers = await asyncio.gather(
        post(client, d, TRAINING, kind="training"),
        post(client, d, TRAINING, kind="training"),
        post(client, d, b"p_yes,p_no\n1,0\n", kind="holdout", predictionsColumns=CLASSES),
    )
    assert [(await ended(api, client, answer))["status"] for answer in answers] == ["COMPLETED"] * 3
    assert (await baseline_of(api, d, "training")).version == 2
    assert (await show(api.deps.deployments, d)).version == 4


async def test_nothing_is_kept_on_an_older_version(api: Api, client: httpx.AsyncClient, d: str) -> None:
    await created(api, client, d, TRAINING, kind="training")
    baseline = await baseline_of(api, d, "training")
    with pytest.raises(VersionMoved):
        await api.deps.baselines.keep(d, baseline, None, 1)
    assert (await baseline_of(api, d, "training")).version == 1


async def test_work_that_is_stopped_ends_as_an_error(api: Api, client: httpx.AsyncClient, d: str) -> None:
    answer = await post(client, d, TRAINING, kind="training")
    await api.deps.work.stop()
    status = (await client.get(f"/status/{answer.json()['statusId']}/")).json()
    assert (status["status"], status["code"]) == ("ERROR", 503)


async def test_who_may(api: Api, client: httpx.AsyncClient, d: str) -> None:
    path = f"/deployments/{d}/baselines/"
    for token, status in (
        (await api.token(scope=Scope.READ), 403),
        (await api.token(username="bob", organisation="elsewhere"), 404),
        (await api.token(deployments=["other"]), 404),
        (await api.token(deployments=[d], scope=Scope.WRITE), 422),
    ):
        async with api.client(token) as other:
            assert (await other.post(path, content=b"x", headers={"Content-Type": "application/json"})).status_code in (
                status, 400,
            )  # fmt: skip
            assert (await other.post(path, files={"file": ("f", b"")})).status_code == status
    assert (await client.post(path, content=b"x", headers={"Content-Type": "text/csv"})).status_code == 415
    assert (await client.post(path, content=b"x", headers={"Content-Type": "application/json"})).status_code == 400
    assert (await client.post(path, files={"other": ("f", b"")})).json()["errors"].keys() == {"file"}
