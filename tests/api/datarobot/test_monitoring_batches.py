"""Monitoring batches one by one: made, looked at, changed, deleted."""

import asyncio
import re
from typing import Any

import httpx
import orjson
import pytest

from service.domain.errors import Conflict
from service.usecases import monitoring_batches as cases
from service.usecases.access import Scope
from service.usecases.monitoring_batches import BatchDraft
from tests.api.datarobot.batches import assert_fault, create, deploy, execute, later, put_rows, text
from tests.api.datarobot.conftest import Api

BATCHES = "/deployments/flights/monitoringBatches/"
KEYS = {
    "id", "name", "description", "externalContextUrl", "isLocked", "createdAt", "createdBy", "batchPredictionJobId",
    "batchPredictionJobStatus", "predictionsCount", "earliestPredictionTimestamp", "latestPredictionTimestamp",
    "serviceHealth",
}  # fmt: skip
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z")


@pytest.fixture(autouse=True)
async def deployed(api: Api) -> None:
    await deploy(api)
    await deploy(api, "off", batches=False)


async def events(api: Api) -> list[tuple[str, str]]:
    """(name, event) of what waits for the batches topic."""
    values = await execute(api, "SELECT array_agg(convert_from(value, 'UTF8') ORDER BY id) FROM outbox")
    told = [orjson.loads(value) for value in values or ()]
    return [(one["batchName"], one["event"]) for one in told]


async def version(api: Api, batch: str) -> int:
    found: int = await execute(api, "SELECT version FROM monitoring_batches WHERE id = $1", batch)
    return found


# --------------------------------------------------------------------------------------------- creating


@pytest.mark.parametrize("content", [b"", b"{}", b"  \n", b'{"isLocked": null, "unknown": [1]}'])
async def test_check_11_a_batch_of_an_empty_body_has_all_thirteen_fields(
    api: Api, client: httpx.AsyncClient, content: bytes
) -> None:
    answer = await client.post(BATCHES, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    made = answer.json()
    assert made.keys() == KEYS
    assert re.fullmatch(r"[0-9a-f]{24}", made["id"])
    for name in ("createdAt", "earliestPredictionTimestamp", "latestPredictionTimestamp"):
        assert _INSTANT.fullmatch(made[name]) and made[name] == made["createdAt"]
    assert made["name"] == f"Batch {made['createdAt']}"
    user = (await api.deps.access.user("alice")) or pytest.fail("no user")
    assert made["createdBy"] == {"id": user.id, "name": "alice"}
    assert made["serviceHealth"] == {"message": "The batch has no rows.", "status": "unknown"}
    assert (made["isLocked"], made["predictionsCount"]) == (False, 0)
    rest = ("description", "externalContextUrl", "batchPredictionJobId", "batchPredictionJobStatus")
    assert [made[name] for name in rest] == [None] * 4
    assert await events(api) == [(made["name"], "CREATED")]


async def test_check_11_batches_that_nobody_asked_for_are_listed_but_not_used(
    api: Api, client: httpx.AsyncClient
) -> None:
    await execute(
        api,
        "INSERT INTO monitoring_batches (deployment_id, id, name, origin) VALUES"
        " ('flights', 'p', '2026-05-06', 'policy'), ('flights', 'n', 'by name', 'name')",
    )
    made = await create(client)
    listed = (await client.get(BATCHES)).json()["data"]
    assert {batch["id"] for batch in listed} == {"p", "n", made["id"]}
    service = {"id": "000000000000000000000000", "name": "service"}
    assert [batch["createdBy"] for batch in listed if batch["id"] != made["id"]] == [service] * 2
    limits = (await client.get("/deployments/flights/monitoringBatchLimits/")).json()
    assert limits == {
        "deploymentId": "flights",
        "maxBatches": 1000,
        "usedBatches": 1,
        "remainingBatches": 999,
        "maxModelsPerBatch": 100,
        "maxBatchesPerStatisticsRequest": 100,
    }


async def test_everything_that_is_asked_for_is_kept(api: Api, client: httpx.AsyncClient) -> None:
    body: dict[str, Any] = {
        "batchName": "May scoring \U0001f680",
        "description": "first run",
        "externalContextUrl": "https://ci.example/42",
        "isLocked": True,
    }
    made = await create(client, **body)
    assert (made["name"], made["description"]) == (body["batchName"], body["description"])
    assert (made["externalContextUrl"], made["isLocked"]) == (body["externalContextUrl"], True)
    assert (await client.get(f"{BATCHES}{made['id']}/")).json() == made
    assert await events(api) == [(body["batchName"], "CREATED"), (body["batchName"], "LOCKED")]


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"batchName": None}, ["batchName"]),
    ({"batchName": ""}, ["batchName"]),
    ({"batchName": "x" * 257}, ["batchName"]),
    ({"batchName": "a\0b"}, ["batchName"]),
    ({"batchName": 1}, ["batchName"]),
    ({"description": "x" * 2001}, ["description"]),
    ({"description": 1}, ["description"]),
    ({"externalContextUrl": "ci.example"}, ["externalContextUrl"]),
    ({"externalContextUrl": "ftp://ci.example"}, ["externalContextUrl"]),
    ({"externalContextUrl": "https://a/" + "x" * 2048}, ["externalContextUrl"]),
    ({"isLocked": "true"}, ["isLocked"]),
    ({"isLocked": 1}, ["isLocked"]),
    (
        {"batchName": "", "description": "\0", "externalContextUrl": "", "isLocked": []},
        ["batchName", "description", "externalContextUrl", "isLocked"],
    ),
]


@pytest.mark.parametrize(("body", "fields"), BAD)
async def test_check_03_fields_that_are_refused(
    api: Api, client: httpx.AsyncClient, body: dict[str, Any], fields: list[str]
) -> None:
    kept = await create(client, batchName="kept")
    assert_fault(await client.post(BATCHES, json=body), 422, *fields)
    assert_fault(await client.patch(f"{BATCHES}{kept['id']}/", json=body), 422, *fields)
    assert (await client.get(BATCHES)).json()["data"] == [kept]


async def test_a_deployment_that_monitors_no_batches(api: Api, client: httpx.AsyncClient) -> None:
    batches = "/deployments/off/monitoringBatches/"
    assert_fault(await client.post(batches, json={}), 409)
    assert_fault(await client.post(batches, json={"batchName": ""}), 422, "batchName")
    await deploy(api, "off", batches=True)
    made = await create(client, "off")
    await deploy(api, "off", batches=False)
    assert_fault(await client.patch(f"{batches}{made['id']}/", json={"isLocked": True}), 409)
    assert (await client.get(batches)).json()["data"] == [made]
    assert (await client.get("/deployments/off/monitoringBatchLimits/")).json()["usedBatches"] == 1
    assert (await client.delete(f"{batches}{made['id']}/")).status_code == 200


async def test_the_thousandth_is_the_last(api: Api, client: httpx.AsyncClient) -> None:
    await execute(
        api,
        "INSERT INTO monitoring_batches (deployment_id, id, name, origin)"
        " SELECT 'flights', 'b' || i, 'b', CASE i % 2 WHEN 0 THEN 'api' ELSE 'job' END FROM generate_series(1, 999) i",
    )
    made = await create(client)
    assert_fault(await client.post(BATCHES, json={}), 409)
    limits = (await client.get("/deployments/flights/monitoringBatchLimits")).json()
    assert (limits["usedBatches"], limits["remainingBatches"]) == (1000, 0)
    assert (await client.delete(f"{BATCHES}{made['id']}/")).status_code == 200
    await create(client)


async def test_many_at_once_never_pass_the_limit(api: Api) -> None:
    async def attempt(number: int) -> bool:
        draft = BatchDraft(name=f"b{number % 4}")
        try:
            await api.deps.batches.open("flights", draft, author=cases.SERVICE, limit=7)
        except Conflict:
            return False
        return True

    opened = await asyncio.gather(*(attempt(number) for number in range(30)))
    assert sum(opened) == 7
    assert await execute(api, "SELECT count(*) FROM monitoring_batches") == 7
    assert await execute(api, "SELECT count(*) FROM outbox") == 7


# ---------------------------------------------------------------------------------------------- showing


async def test_the_figures_of_a_batch(api: Api, client: httpx.AsyncClient) -> None:
    made = await create(client)
    await put_rows(api, made["id"], rows=3, start=later(0.5), end=later(0.75))
    await put_rows(api, made["id"], rows=4, start=later(-3), end=later(-2.5), task=1)
    await put_rows(api, made["id"], rows=5, start=later(2), model="m2", task=1)
    await put_rows(api, made["id"], rows=0, start=later(-9), model="m3")
    await put_rows(api, "", rows=9, start=later(-20))
    shown = (await client.get(f"{BATCHES}{made['id']}")).json()
    assert shown["predictionsCount"] == 12
    assert shown["earliestPredictionTimestamp"] == text(later(-3))
    assert shown["latestPredictionTimestamp"] == text(later(2))
    assert shown["serviceHealth"]["status"] == "unavailable" and shown["serviceHealth"]["message"]
    assert (await client.get(BATCHES)).json()["data"] == [shown]


@pytest.mark.parametrize("name", ["nothing", "%2e%2e", "a%20b", "x" * 129, "%00", "%C3%A4", "a%0Ab", "%0A"])
async def test_a_batch_that_is_not_there(api: Api, client: httpx.AsyncClient, name: str) -> None:
    await deploy(api, "other")
    elsewhere = await create(client, "other")
    for path in (f"{BATCHES}{name}/", f"{BATCHES}{elsewhere['id']}/"):
        assert_fault(await client.get(path), 404)
        assert_fault(await client.patch(path, json={"isLocked": "?"}), 404)
        assert_fault(await client.delete(path), 404)
        assert_fault(await client.get(f"{path}models/"), 404)
        assert_fault(await client.get(f"{path}models/m1/"), 404)
        assert_fault(await client.patch(f"{path}models/m1/", json={}), 404)


# --------------------------------------------------------------------------------------------- changing


async def test_a_change_leaves_alone_what_it_does_not_name(api: Api, client: httpx.AsyncClient) -> None:
    made = await create(client, batchName="one", description="words", externalContextUrl="http://a", isLocked=True)
    path = f"{BATCHES}{made['id']}/"
    expected = dict(made)
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"unknown": 1}, {}),
        ({"isLocked": None}, {}),
        ({"description": None}, {"description": None}),
        ({"externalContextUrl": None}, {"externalContextUrl": None}),
        ({"description": ""}, {"description": ""}),
        ({"batchName": "two"}, {"name": "two"}),
        ({"isLocked": False, "externalContextUrl": "http://b"}, {"isLocked": False, "externalContextUrl": "http://b"}),
    ]
    for sent, changed in changes:
        expected |= changed
        answer = await client.patch(path, json=sent)
        assert answer.status_code == 200
        assert answer.json() == expected
    assert (await client.get(path)).json() == expected
    assert (await client.patch(path)).json() == expected
    assert await events(api) == [("one", "CREATED"), ("one", "LOCKED"), ("two", "UNLOCKED")]


async def test_check_14_null_does_not_unlock(client: httpx.AsyncClient) -> None:
    made = await create(client, isLocked=True)
    answer = await client.patch(f"{BATCHES}{made['id']}/", json={"isLocked": None})
    assert (answer.status_code, answer.json()["isLocked"]) == (200, True)


async def test_the_version_rises_with_what_a_worker_must_see(api: Api, client: httpx.AsyncClient) -> None:
    made = await create(client, batchName="one")
    path = f"{BATCHES}{made['id']}/"
    seen = []
    for body in (
        {"description": "words", "externalContextUrl": "http://a"},
        {"batchName": "one"},
        {"isLocked": False},
        {"isLocked": True},
        {"isLocked": True},
        {"batchName": "two"},
        {"batchName": "three", "isLocked": False},
    ):
        assert (await client.patch(path, json=body)).status_code == 200
        seen.append(await version(api, made["id"]))
    assert seen == [1, 1, 1, 2, 2, 3, 4]


async def test_a_name_means_the_oldest_that_bears_it_also_once_it_was_given_later(
    api: Api, client: httpx.AsyncClient
) -> None:
    older, younger, other = [await create(client, batchName=name) for name in ("old", "x", "y")]
    await client.patch(f"{BATCHES}{older['id']}/", json={"batchName": "x"})
    assert [await version(api, one["id"]) for one in (older, younger, other)] == [2, 2, 1]


async def test_changes_at_once_are_all_kept(api: Api, client: httpx.AsyncClient) -> None:
    made = await create(client)
    path = f"{BATCHES}{made['id']}/"
    bodies: list[dict[str, Any]] = [{"isLocked": True}, {"description": "words"}, {"batchName": "n"}]
    bodies += [{"externalContextUrl": "http://a"}]
    answers = await asyncio.gather(*(client.patch(path, json=body) for body in bodies * 5))
    assert {answer.status_code for answer in answers} == {200}
    shown = (await client.get(path)).json()
    assert (shown["isLocked"], shown["description"], shown["name"]) == (True, "words", "n")
    assert shown["externalContextUrl"] == "http://a"
    assert await version(api, made["id"]) == 3


# --------------------------------------------------------------------------------------------- deleting


async def test_a_deleted_batch_is_gone(api: Api, client: httpx.AsyncClient) -> None:
    made = await create(client, batchName="one", isLocked=True)
    await put_rows(api, made["id"])
    path = f"{BATCHES}{made['id']}/"
    answer = await client.delete(path.removesuffix("/"))
    assert (answer.status_code, answer.json()) == (200, {})
    assert (await client.get(BATCHES)).json()["totalCount"] == 0
    assert_fault(await client.get(path), 404)
    assert_fault(await client.patch(path, json={}), 404)
    assert_fault(await client.get(f"{path}models/"), 404)
    assert_fault(await client.get(f"{path}models/m1/"), 404)
    assert_fault(await client.delete(path), 404)
    assert await execute(api, "SELECT count(*) FROM deletions WHERE batch_id = $1", made["id"]) == 1
    assert (await events(api))[-1] == ("one", "DELETED")


# ------------------------------------------------------------------------------------------ permissions


async def test_who_may_do_what(api: Api, client: httpx.AsyncClient) -> None:
    made = await create(client)
    path = f"{BATCHES}{made['id']}/"
    await put_rows(api, made["id"])
    reads = [BATCHES, path, f"{path}models/", f"{path}models/m1/", "/deployments/flights/monitoringBatchLimits/"]
    writes = [("POST", BATCHES), ("PATCH", path), ("PATCH", f"{path}models/m1/"), ("DELETE", path)]
    async with api.client(await api.token(scope=Scope.READ)) as reader:
        assert {(await reader.get(read)).status_code for read in reads} == {200}
        for method, write in writes:
            assert_fault(await reader.request(method, write, json={"isLocked": "?"}), 403)
        assert_fault(await reader.patch(f"{BATCHES}nothing/", json={}), 404)
        assert_fault(await reader.patch(f"{path}models/nothing/", json={}), 404)
    strangers = [
        await api.token(username="bob", organisation="other"),
        await api.token(deployments=["off"]),
    ]
    for token in strangers:
        async with api.client(token) as stranger:
            for read in reads:
                assert_fault(await stranger.get(read), 404)
            for method, write in writes:
                assert_fault(await stranger.request(method, write, json={}), 404)
    async with api.client(await api.token(scope=Scope.WRITE, deployments=["flights"])) as confined:
        for method, write in writes:
            assert (await confined.request(method, write, json={})).status_code == 200


async def test_bodies_that_are_none(client: httpx.AsyncClient) -> None:
    assert_fault(await client.post(BATCHES, content=b"{"), 415)
    headers = {"Content-Type": "application/json"}
    for content in (b"{", b"[]", b"null", b'{"batchName": "\\ud800"}'):
        assert_fault(await client.post(BATCHES, content=content, headers=headers), 400)


async def test_check_36_no_operation_is_unknown(api: Api, client: httpx.AsyncClient) -> None:
    made = await create(client)
    await put_rows(api, made["id"])
    path = f"{BATCHES}{made['id']}"
    asked = [
        ("GET", "/deployments/flights/monitoringBatchLimits"), ("GET", BATCHES), ("POST", BATCHES), ("GET", path),
        ("PATCH", path), ("GET", f"{path}/models"), ("GET", f"{path}/models/m1"), ("PATCH", f"{path}/models/m1"),
        ("DELETE", path),
    ]  # fmt: skip
    for method, target in asked:
        answer = await client.request(method, target)
        assert answer.status_code == 200 and not answer.history, (method, target, answer.text)
    wrong = await client.put(BATCHES)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
