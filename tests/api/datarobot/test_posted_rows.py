"""How the operations that take rows are described, and what they answer without a broker."""

import httpx
import pytest

from tests.api.datarobot.conftest import Api

MODELS = {"actuals/fromJSON": "ActualsIn", "predictionInputs/fromJSON": "PredictionsIn"}


@pytest.mark.parametrize("kind", MODELS)
async def test_the_document_shows_body_examples_and_key(client: httpx.AsyncClient, kind: str) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"][f"/deployments/{{deploymentId}}/{kind}/"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": f"#/components/schemas/{MODELS[kind]}"}
    assert "202" in operation["responses"]
    assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}
    row = document["components"]["schemas"][MODELS[kind].replace("sIn", "In")]
    assert row["properties"]["associationId"]["examples"] == ["a1"]
    assert document["components"]["schemas"][MODELS[kind]]["properties"]["data"]["maxItems"] == 10_000


async def test_a_refusal_is_counted_with_its_rows(api: Api, client: httpx.AsyncClient) -> None:
    await client.post("/deployments/", json={"label": "D", "targetName": "y", "targetType": "Regression",
                                             "model": {"name": "m"}, "id": "d"})  # fmt: skip
    rows = [{"associationId": "a", "actualValue": 1.0}] * 3
    answer = await client.post("/deployments/d/actuals/fromJSON", json={"data": rows})
    assert answer.status_code == 422, "no association ID column"
    counted = api.deps.telemetry.intake_rows_total
    assert counted.labels("actuals", "refused")._value.get() == 3
