"""Settings of a deployment: what a PATCH changes, what it may not, and from when on it holds."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from service.adapters.postgres.catalog import PostgresCatalog
from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.postgres.locks import settings_lock, try_lock_exclusive
from service.api.app import create_app
from service.domain.deployment import ActualOrder, BatchPolicy, JoinSpec, LatePolicy
from service.ports import SettingsMoved
from service.usecases.access import Scope
from tests.api.datarobot.conftest import Api, register
from tests.builders import after
from tests.contract.test_ledger import ONE

DEFAULTS: dict[str, Any] = {
    "associationId": {"columnNames": ["order_id"], "requiredInPredictionRequests": False, "autoGenerateId": False},
    "targetDrift": {"enabled": False},
    "featureDrift": {"enabled": False, "featureSelection": "auto", "trackedFeatures": []},
    "batchMonitoring": {"enabled": False, "policy": "none"},
    "predictionsDataCollection": {"enabled": True},
    "challengerModels": {"enabled": False},
    "segmentAnalysis": {"enabled": False, "attributes": []},
    "predictionIntervals": {"enabled": False, "percentiles": []},
    "join": {
        "window": "P30D", "grace": "P60D", "allowedLateness": "PT10M", "earlyTtl": "P90D", "idleTimeout": "PT1M",
        "maxFutureSkew": "PT5M", "latePolicy": "correct", "actualOrder": "eventTime",
    },
    "humility": {}, "predictionWarning": {}, "biasAndFairness": {}, "automaticActuals": {},
}  # fmt: skip
OTHERS: dict[str, Any] = {
    "associationId": {"columnNames": ["visit"], "requiredInPredictionRequests": True, "autoGenerateId": False},
    "targetDrift": {"enabled": True},
    "featureDrift": {"enabled": True, "featureSelection": "manual", "trackedFeatures": ["age", "glucose"]},
    "batchMonitoring": {"enabled": True, "policy": "hourly"},
    "predictionsDataCollection": {"enabled": False},
    "challengerModels": {"enabled": True, "more": [1, {"a": None}]},
    "segmentAnalysis": {"enabled": True, "attributes": ["region"]},
    "predictionIntervals": {"enabled": True, "percentiles": [1, 100]},
    "join": {
        "window": "PT1M", "grace": "PT0S", "allowedLateness": "PT0S", "earlyTtl": "PT0S", "idleTimeout": "PT0S",
        "maxFutureSkew": "PT0S", "latePolicy": "reject", "actualOrder": "arrival",
    },
    "humility": {"rules": []}, "predictionWarning": {"a": "b"}, "biasAndFairness": {"x": 1},
    "automaticActuals": {"y": 0.5},
}  # fmt: skip


async def settings(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/deployments/d/settings")
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    assert shown == (await client.get("/deployments/d/")).json()["settings"]
    return shown


async def patch(client: httpx.AsyncClient, body: dict[str, Any], status: int = 202) -> httpx.Response:
    answer = await client.patch("/deployments/d/settings", json=body)
    assert answer.status_code == status, answer.text
    return answer


async def test_all_keys_are_there_and_all_can_be_changed(client: httpx.AsyncClient) -> None:
    await register(client, "d")
    assert await settings(client) == DEFAULTS
    await patch(client, OTHERS)
    assert await settings(client) == OTHERS
    await patch(client, dict.fromkeys(OTHERS))
    nothing = DEFAULTS["associationId"] | {"columnNames": []}
    assert await settings(client) == DEFAULTS | {"associationId": nothing}


@pytest.mark.parametrize("group", OTHERS)
async def test_a_group_is_merged_key_by_key(client: httpx.AsyncClient, group: str) -> None:
    await register(client, "d")
    for key, value in OTHERS[group].items():
        if (group, key) not in {("featureDrift", "featureSelection"), ("associationId", "autoGenerateId")}:
            await patch(client, {group: {key: value}, "unknown": {"a": 1}})
    expected = OTHERS[group] | ({"featureSelection": "auto"} if group == "featureDrift" else {})
    assert await settings(client) == DEFAULTS | {group: expected}

    key = next(iter(OTHERS[group]))
    await patch(client, {group: {key: None}})
    without = {name: value for name, value in expected.items() if name != key}
    default = (
        {"columnNames": []} if group == "associationId" else {k: v for k, v in DEFAULTS[group].items() if k == key}
    )
    assert (await settings(client))[group] == without | default


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, set()),
        ({"unknown": {}}, set()),
        ({"associationId": 3, "targetDrift": {"enabled": "yes"}}, {"associationId", "targetDrift.enabled"}),
        ({"associationId": {"columnNames": ["a", "b"]}}, {"associationId.columnNames"}),
        ({"associationId": {"columnNames": [""]}}, {"associationId.columnNames.0"}),
        ({"featureDrift": {"featureSelection": "manual"}}, {"featureDrift.trackedFeatures"}),
        ({"featureDrift": {"featureSelection": "some"}}, {"featureDrift.featureSelection"}),
        ({"featureDrift": {"trackedFeatures": [f"f{i}" for i in range(201)]}}, {"featureDrift.trackedFeatures"}),
        ({"segmentAnalysis": {"attributes": [f"s{i}" for i in range(11)]}}, {"segmentAnalysis.attributes"}),
        ({"predictionIntervals": {"percentiles": [0, 101]}},
         {"predictionIntervals.percentiles.0", "predictionIntervals.percentiles.1"}),
        ({"join": {"window": "P1Y", "earlyTtl": "90"}}, {"join.window", "join.earlyTtl"}),
        ({"join": {"window": "PT59.9S"}, "segmentAnalysis": {"attributes": list("abcdefghijk")}},
         {"join.window", "segmentAnalysis.attributes"}),
        ({"join": {"actualOrder": "event_time"}}, {"join.actualOrder"}),
        ({"batchMonitoring": {"policy": None, "enabled": 1}}, {"batchMonitoring.enabled"}),
        ({"humility": {"a": "\0"}}, {"humility"}),
        ({"humility": {"a": 10**30}}, {"humility"}),
    ],
)  # fmt: skip
async def test_what_is_no_setting(client: httpx.AsyncClient, body: dict[str, Any], fields: set[str]) -> None:
    await register(client, "d")
    answer = await patch(client, body, 422)
    assert answer.json()["errors"].keys() == fields
    assert answer.json()["message"]
    assert await settings(client) == DEFAULTS


async def test_the_limits_themselves_are_allowed(client: httpx.AsyncClient) -> None:
    await register(client, "d")
    names = [f"f{i}" for i in range(200)]
    await patch(client, {"featureDrift": {"trackedFeatures": names}, "segmentAnalysis": {"attributes": names[:10]}})
    assert (await settings(client))["featureDrift"]["trackedFeatures"] == names


async def test_workers_see_it(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d")
    await patch(client, OTHERS)
    seen = (await PostgresCatalog(pool(api)).deployments(["d"]))["d"]
    zero = timedelta()
    assert seen.join == JoinSpec(
        window=timedelta(minutes=1), grace=zero, allowed_lateness=zero, early_ttl=zero, idle_timeout=zero,
        max_future_skew=zero, late_policy=LatePolicy.REJECT, actual_order=ActualOrder.ARRIVAL,
    )  # fmt: skip
    assert (seen.association_required, seen.batch_enabled, seen.batch_policy) == (True, True, BatchPolicy.HOURLY)
    assert seen.version == 2


async def test_no_micro_batch_of_the_older_version_is_committed_after_the_answer(
    api: Api, client: httpx.AsyncClient
) -> None:
    await register(client, "d")
    ledger = PostgresLedger(pool(api))
    task = await ledger.take_over(0, ONE)
    known = (await PostgresCatalog(pool(api)).deployments(["d"]))["d"]
    computed = after(task, deployment_versions={"d": known.version})

    await patch(client, {"associationId": {"requiredInPredictionRequests": True}})

    with pytest.raises(SettingsMoved):
        await ledger.persist(computed)
    now = (await PostgresCatalog(pool(api)).deployments(["d"]))["d"]
    await ledger.persist(after(task, deployment_versions={"d": now.version}))
    await client.delete("/deployments/d/")
    with pytest.raises(SettingsMoved):
        await ledger.persist(after(await ledger.read(0), deployment_versions={"d": now.version + 1}))


# -------------------------------------------------------------------------------------------- conflicts


def pool(api: Api) -> asyncpg.Pool:
    return api.deps.deployments._pool  # type: ignore[attr-defined]


async def receive(api: Api, **dispositions: int) -> None:
    await pool(api).execute(
        "INSERT INTO clocks (task, deployment_id, predictions_received, dispositions) VALUES (0, 'd', 3, $1)"
        " ON CONFLICT (task, deployment_id) DO UPDATE SET dispositions = excluded.dispositions",
        dispositions,
    )


async def test_check_32_the_association_stays_once_a_prediction_came_with_it(
    api: Api, client: httpx.AsyncClient
) -> None:
    await register(client, "d")
    both = {"associationId": {"requiredInPredictionRequests": True, "autoGenerateId": True}}
    assert (await patch(client, both, 422)).json()["errors"].keys() == {"associationId.autoGenerateId"}

    moved = {"associationId": {"columnNames": ["visit"]}}
    await receive(api, PREDICTION_REJECTED=2, PREDICTION_UNIDENTIFIED=1)
    await patch(client, {"associationId": {"columnNames": ["other"]}})
    await receive(api, PREDICTION_REJECTED=2)
    answer = await patch(client, moved, 409)
    assert answer.json()["errors"] == {} and answer.json()["message"]
    await patch(client, {"associationId": None}, 409)
    await patch(client, {"associationId": {"columnNames": ["other"], "requiredInPredictionRequests": True}})
    assert (await settings(client))["associationId"]["columnNames"] == ["other"]


async def test_one_change_of_settings_at_a_time(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d")
    await register(client, "e")
    async with pool(api).acquire() as connection, connection.transaction():
        assert await try_lock_exclusive(connection, settings_lock("d"))
        await patch(client, {"targetDrift": {"enabled": True}}, 409)
        assert (await client.patch("/deployments/e/settings/", json=OTHERS)).status_code == 202
        assert (await client.patch("/deployments/d/", json={"label": "New"})).status_code == 200
    await patch(client, {"targetDrift": {"enabled": True}})


# -------------------------------------------------------------------------------------------- retention


class Kept:
    """A status topic that keeps rows for so long; `asked` how often somebody wanted to know."""

    def __init__(self, days: int | None) -> None:
        self.days = days
        self.asked = 0

    async def kept_for(self) -> timedelta | None:
        self.asked += 1
        return None if self.days is None else timedelta(days=self.days)


async def test_rows_must_not_outlive_the_status_topic(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d")
    kept = Kept(150)
    other = replace(api, deps=replace(api.deps, retention=kept))
    other = replace(other, app=create_app(other.deps, version="0"))
    async with other.client(await api.token(scope=Scope.WRITE)) as knowing:
        longest = {"window": "P60D", "grace": "P60D", "earlyTtl": "P120D"}
        await patch(knowing, {"join": longest})
        errors = (await patch(knowing, {"join": {"grace": "P61D", "earlyTtl": "P120DT1S"}}, 422)).json()["errors"]
        assert errors.keys() == {"join.grace", "join.earlyTtl"} and "P120D" in errors["join.grace"]
        assert kept.asked == 2
        await patch(knowing, {"targetDrift": {"enabled": True}})
        assert kept.asked == 2, "a join that stays is not judged again"
        kept.days = None
        await patch(knowing, {"join": {"grace": "P1000D"}})
    assert (await settings(client))["join"]["grace"] == "P1000D"


async def test_without_the_broker_a_longer_join_waits(client: httpx.AsyncClient) -> None:
    await register(client, "d")
    answer = await patch(client, {"join": {"window": "P31D"}}, 503)
    assert answer.headers["retry-after"] == "5"
    await patch(client, {"join": {"window": "P30D", "grace": "P60D", "latePolicy": "record"}})
