"""Health settings: defaults, merging, and the rules between values."""

from typing import Any

import httpx
import pytest

from tests.api.datarobot.conftest import register

DRIFT: dict[str, Any] = {
    "timeInterval": "P7D", "batchCount": 1, "driftThreshold": 0.2, "importanceThreshold": 0.5,
    "lowImportanceWarningCount": 3, "lowImportanceFailingCount": 6, "highImportanceWarningCount": 1,
    "highImportanceFailingCount": 3, "excludedFeatures": [], "starredFeatures": [],
}  # fmt: skip
ACCURACY: dict[str, Any] = {
    "batchCount": 1, "metric": "LogLoss", "measurement": "percent", "warningThreshold": 5.0, "failingThreshold": 15.0,
}  # fmt: skip
OFF: dict[str, Any] = {"enabled": False, "expectedFrequency": None}
DEFAULTS: dict[str, Any] = {
    "service": {"batchCount": 1}, "dataDrift": DRIFT, "accuracy": ACCURACY, "predictionsTimeliness": OFF,
    "actualsTimeliness": OFF,
}  # fmt: skip
OTHERS: dict[str, Any] = {
    "service": {"batchCount": 100},
    "dataDrift": {
        "timeInterval": "PT2H", "batchCount": 2, "driftThreshold": 0.0, "importanceThreshold": 1.0,
        "lowImportanceWarningCount": None, "lowImportanceFailingCount": 1, "highImportanceWarningCount": 7,
        "highImportanceFailingCount": None, "excludedFeatures": ["a"], "starredFeatures": ["b"],
    },
    "accuracy": {
        "batchCount": 3, "metric": "AUC", "measurement": "value", "warningThreshold": 0.8, "failingThreshold": 0.7,
    },
    "predictionsTimeliness": {"enabled": True, "expectedFrequency": "PT1H"},
    "actualsTimeliness": {"enabled": True, "expectedFrequency": "P1Y"},
}  # fmt: skip


async def patch(client: httpx.AsyncClient, body: dict[str, Any], status: int = 200) -> Any:
    answer = await client.patch("/deployments/d/healthSettings", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def read(client: httpx.AsyncClient) -> Any:
    answer = await client.get("/deployments/d/healthSettings")
    assert answer.status_code == 200
    return answer.json()


async def test_everything_can_be_changed_and_reset(client: httpx.AsyncClient) -> None:
    await register(client, "d")
    assert await read(client) == DEFAULTS
    assert await patch(client, OTHERS) == OTHERS == await read(client)
    assert await patch(client, {"dataDrift": {"driftThreshold": None, "batchCount": 5}, "unknown": 1}) == OTHERS | {
        "dataDrift": OTHERS["dataDrift"] | {"driftThreshold": 0.2, "batchCount": 5}
    }
    assert await patch(client, dict.fromkeys(OTHERS)) == DEFAULTS


async def test_a_count_of_null_never_triggers(client: httpx.AsyncClient) -> None:
    await register(client, "d")
    none = {"lowImportanceFailingCount": None, "highImportanceWarningCount": None}
    assert (await patch(client, {"dataDrift": none}))["dataDrift"] == DRIFT | none
    assert (await patch(client, {"accuracy": {"failingThreshold": None}}))["accuracy"]["failingThreshold"] is None


async def test_a_regression_is_judged_by_its_error(client: httpx.AsyncClient) -> None:
    await register(client, "d", targetType="Regression", classNames=None)
    assert (await read(client))["accuracy"]["metric"] == "RMSE"
    assert (await patch(client, {"accuracy": {"metric": "AUC"}}, 422))["errors"].keys() == {"accuracy.metric"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, set()),
        ({"other": 1}, set()),
        ({"service": {"batchCount": 0}}, {"service.batchCount"}),
        ({"accuracy": {"batchCount": 101}, "dataDrift": 1}, {"accuracy.batchCount", "dataDrift"}),
        ({"dataDrift": {"timeInterval": "P8D", "driftThreshold": -1, "importanceThreshold": 1.1}},
         {"dataDrift.timeInterval", "dataDrift.driftThreshold", "dataDrift.importanceThreshold"}),
        ({"dataDrift": {"lowImportanceWarningCount": 7}}, {"dataDrift.lowImportanceWarningCount"}),
        ({"dataDrift": {"highImportanceFailingCount": 0}}, {"dataDrift.highImportanceFailingCount"}),
        ({"dataDrift": {"excludedFeatures": ["a", "b"], "starredFeatures": ["b"]}}, {"dataDrift.starredFeatures"}),
        ({"accuracy": {"metric": "RMSE"}}, {"accuracy.metric"}),
        ({"accuracy": {"measurement": "share"}}, {"accuracy.measurement"}),
        ({"accuracy": {"warningThreshold": 16}}, {"accuracy.warningThreshold"}),
        ({"accuracy": {"metric": "AUC", "measurement": "value"}}, {"accuracy.warningThreshold"}),
        ({"predictionsTimeliness": {"enabled": True}}, {"predictionsTimeliness.expectedFrequency"}),
        ({"actualsTimeliness": {"expectedFrequency": "PT59M"}}, {"actualsTimeliness.expectedFrequency"}),
        ({"actualsTimeliness": {"expectedFrequency": "P1Y1D"}}, {"actualsTimeliness.expectedFrequency"}),
        ({"actualsTimeliness": {"expectedFrequency": "daily"}}, {"actualsTimeliness.expectedFrequency"}),
    ],
)  # fmt: skip
async def test_what_is_no_health_setting(client: httpx.AsyncClient, body: dict[str, Any], fields: set[str]) -> None:
    await register(client, "d")
    answer = await patch(client, body, 422)
    assert answer["errors"].keys() == fields and answer["message"]
    assert await read(client) == DEFAULTS
