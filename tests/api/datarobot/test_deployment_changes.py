"""Changing a deployment: label and features, what events do not tell, another model."""

from typing import Any

import httpx
import pytest

from service.adapters.postgres.catalog import PostgresCatalog
from service.domain.deployment import Deployment, TargetType
from tests.api.datarobot.conftest import Api, register


def catalog(api: Api) -> PostgresCatalog:
    """What workers see."""
    return PostgresCatalog(api.deps.deployments._pool)  # type: ignore[attr-defined]


async def seen(api: Api) -> Deployment:
    return (await catalog(api).deployments(["d"]))["d"]


async def patched(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.patch("/deployments/d", json=body)
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def refused(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, str]:
    before = (await client.get("/deployments/d/")).json()
    answer = await client.patch("/deployments/d/", json=body)
    assert answer.status_code == 422, answer.text
    assert (await client.get("/deployments/d/")).json() == before
    errors: dict[str, str] = answer.json()["errors"]
    return errors


# ------------------------------------------------------------------------------------------------- update


async def test_only_what_is_sent_changes(client: httpx.AsyncClient) -> None:
    before = await register(client, "d", description="x", features=[{"name": "a", "type": "numeric"}])
    after = await patched(client, {"label": "New", "unknown": 1})
    assert after == before | {"label": "New"}
    features = [{"name": "b", "type": "text", "impact": 0.25}]
    assert (await patched(client, {"features": features}))["features"] == features


async def test_null_clears_what_has_a_default(client: httpx.AsyncClient) -> None:
    await register(client, "d", description="x", features=[{"name": "a", "type": "numeric"}], accuracyAggregation=True)
    shown = await patched(client, {"description": None, "features": None, "accuracyAggregation": None})
    assert (shown["description"], shown["features"]) == (None, [])
    assert (await refused(client, {"label": None})).keys() == {"label"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "e"}, "id"),
        ({"targetName": "other"}, "targetName"),
        ({"targetType": "Multiclass"}, "targetType"),
        ({"classNames": ["True", "False", "Maybe"]}, "classNames"),
        ({"positiveClass": "False"}, "positiveClass"),
        ({"threshold": 0.4}, "threshold"),
        ({"model": {"id": "gbm-1", "name": "other"}}, "model"),
        ({"model": None}, "model"),
        ({"associationIdColumns": ["other"]}, "associationIdColumns"),
        ({"join": {"window": "P1D"}}, "join"),
        ({"batchMonitoring": {"enabled": True}}, "batchMonitoring"),
        ({"settings": {"targetDrift": {"enabled": True}}}, "settings"),
        ({"label": "x" * 257}, "label"),
        ({"features": [{"name": "a", "type": "numeric"}] * 2}, "features"),
        ({"description": "x" * 2_001}, "description"),
    ],
)
async def test_what_can_not_be_changed_here(client: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    await register(client, "d")
    errors = await refused(client, body | ({} if field == "label" else {"label": "New"}))
    assert field in errors


async def test_everything_wrong_is_told_at_once(client: httpx.AsyncClient) -> None:
    await register(client, "d")
    errors = await refused(client, {"id": "e", "targetName": "x", "threshold": 0.1, "join": {"window": "P1D"}})
    assert errors.keys() == {"id", "targetName", "threshold", "join"}


async def test_values_that_are_what_they_were_are_fine(client: httpx.AsyncClient) -> None:
    before = await register(client, "d")
    same = {
        "id": "d", "targetName": "readmitted", "targetType": "Binary", "classNames": ["False", "True"],
        "positiveClass": "True", "threshold": 0.5, "model": {"id": "gbm-1", "name": "gbm 1"},
        "associationIdColumns": ["order_id"], "join": {"window": "PT720H"}, "batchMonitoring": {"enabled": False},
        "settings": before["settings"],
    }  # fmt: skip
    assert await patched(client, same) == before


# -------------------------------------------------------------------------------- what events do not tell


async def test_what_events_made_is_told_once(api: Api, client: httpx.AsyncClient) -> None:
    await catalog(api).create_deployment("d", TargetType.BINARY, ["no", "yes"], "m")
    before = (await client.get("/deployments/d/")).json()
    assert before["settings"]["associationId"]["columnNames"] == ["associationId"]
    assert before["model"]["targetName"] is None and before["model"]["positiveClass"] == "yes"

    await patched(client, {"label": "Named"})
    told = {"targetName": "answer", "classNames": ["yes", "no"], "positiveClass": "no", "threshold": 0.3}
    shown = (await patched(client, told))["model"]
    assert (shown["targetName"], shown["positiveClass"], shown["threshold"]) == ("answer", "no", 0.3)
    assert shown["classNames"] == ["no", "yes"], "classes keep their places"
    now = await seen(api)
    assert (now.positive_class, now.threshold, now.threshold_of("m")) == ("no", 0.3, 0.3)

    assert (await patched(client, told))["model"] == shown
    again = {"targetName": "x", "positiveClass": "yes", "threshold": 0.5}
    assert (await refused(client, again)).keys() == again.keys()


async def test_each_fact_may_be_told_by_itself(api: Api, client: httpx.AsyncClient) -> None:
    await catalog(api).create_deployment("d", TargetType.BINARY, ["no", "yes"], "m")
    for fact in ({"targetName": "answer"}, {"threshold": 0.3}, {"positiveClass": "no"}):
        await patched(client, fact)
    wrong = {"classNames": ["yes", "perhaps"], "positiveClass": "x"}
    assert (await refused(client, wrong)).keys() == {"classNames", "positiveClass"}


async def test_told_classes_are_no_longer_learned(api: Api, client: httpx.AsyncClient) -> None:
    await catalog(api).create_deployment("d", TargetType.MULTICLASS, ["b"], "m")
    assert (await seen(api)).classes_learned
    await patched(client, {"label": "x"})
    assert (await seen(api)).classes_learned
    await patched(client, {"classNames": ["a", "b"]})
    now = await seen(api)
    assert (now.classes_learned, dict(now.class_index)) == (False, {"b": 0, "a": 1})


# ------------------------------------------------------------------------------------------- replaceModel


async def replaced(client: httpx.AsyncClient, status: int = 201, **body: Any) -> dict[str, Any]:
    answer = await client.post("/deployments/d/models", json=body)
    assert answer.status_code == status, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_rows_without_a_model_go_to_the_new_one(api: Api, client: httpx.AsyncClient) -> None:
    before = await register(client, "d", threshold=0.3)
    known = await seen(api)
    shown = await replaced(client, id="gbm-2", name="gbm 2", reason="retrained")
    assert shown == before | {"model": before["model"] | {"id": "gbm-2", "name": "gbm 2"}}
    now = await seen(api)
    assert now.current_model == "gbm-2" and now.models.keys() == {"gbm-1", "gbm-2"}
    assert now.version > known.version, "workers read it anew"


async def test_each_model_keeps_its_threshold(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d", threshold=0.3)
    assert (await replaced(client, id="two", name="2", threshold=0.4))["model"]["threshold"] == 0.4
    assert (await replaced(client, id="three", name="3"))["model"]["threshold"] == 0.4
    assert (await replaced(client, id="gbm-1", name="one", threshold=None))["model"]["threshold"] == 0.3
    assert (await replaced(client, id="two", name="2", threshold=0.4))["model"]["threshold"] == 0.4
    refusal = await replaced(client, 422, id="gbm-1", name="1", threshold=0.4)
    assert refusal["errors"].keys() == {"threshold"}
    now = await seen(api)
    assert [now.threshold_of(model) for model in ("gbm-1", "two", "three")] == [0.3, 0.4, 0.4]
    assert now.current_model == "two"
    assert (await refused(client, {"threshold": 0.3})).keys() == {"threshold"}


async def test_a_model_of_events_can_be_the_current_one(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d")
    await catalog(api).learn("d", models=["shadow"])
    assert (await replaced(client, id="shadow", name="Shadow"))["model"]["name"] == "Shadow"
    assert (await replaced(client, 422, id="shadow", name="S", threshold=0.1))["errors"].keys() == {"threshold"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"id": "m"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "id": "a b"}, "id"),
        ({"name": "x", "threshold": -1}, "threshold"),
        ({"name": "x", "reason": "x" * 2_001}, "reason"),
    ],
)
async def test_a_bad_field_of_a_model(client: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    await register(client, "d")
    assert (await replaced(client, 422, **body))["errors"].keys() == {field}


async def test_a_threshold_is_for_binary_targets(client: httpx.AsyncClient) -> None:
    await register(client, "d", targetType="Regression", classNames=None)
    assert (await replaced(client, 422, name="x", threshold=0.5))["errors"].keys() == {"threshold"}
    assert (await replaced(client, name="x"))["model"]["threshold"] is None


async def test_there_are_a_hundred_models_at_most(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d")
    await catalog(api).learn("d", models=[f"m{i}" for i in range(98)])
    await replaced(client, id="last", name="x")
    assert (await replaced(client, 422, id="more", name="x"))["errors"].keys() == {"id"}
    await replaced(client, id="m5", name="x")
