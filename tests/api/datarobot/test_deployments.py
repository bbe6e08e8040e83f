"""Deployments: registered, looked at, listed, deleted."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from service.usecases.access import Scope
from tests.api.datarobot.conftest import Api, register

LEAST: dict[str, Any] = {
    "label": "Sales",
    "targetName": "sales",
    "targetType": "Regression",
    "model": {"name": "first"},
}
BINARY = LEAST | {"targetType": "Binary", "classNames": ["yes", "no"]}


async def errors_of(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, str]:
    answer = await client.post("/deployments/", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["message"] == "Invalid field data."
    errors: dict[str, str] = answer.json()["errors"]
    return errors


# ------------------------------------------------------------------------------------------- registering


async def test_what_is_left_out_has_its_default(client: httpx.AsyncClient) -> None:
    answer = await client.post("/deployments", json=LEAST | {"unknown": 1, "threshold": None, "join": None})
    assert answer.status_code == 201
    shown = answer.json()
    assert len(shown["id"]) == len(shown["model"]["id"]) == 24
    assert answer.headers["location"].endswith(f"/api/v2/deployments/{shown['id']}/")
    assert shown["model"].items() >= {"classNames": [], "positiveClass": None, "threshold": None}.items()
    assert (shown["description"], shown["features"], shown["baselines"]) == (None, [], [])
    settings = shown["settings"]
    assert settings["associationId"]["columnNames"] == []
    assert settings["batchMonitoring"] == {"enabled": False, "policy": "none"}
    assert settings["join"]["earlyTtl"] == "P90D"
    assert shown["modelHealth"]["status"] == shown["accuracyHealth"]["status"] == "unavailable"
    assert (await client.get(urlsplit(answer.headers["location"]).path.removeprefix("/api/v2"))).json() == shown


async def test_a_binary_deployment_judges_by_the_first_class_and_a_half(client: httpx.AsyncClient) -> None:
    model = (await register(client, "d"))["model"]
    assert (model["positiveClass"], model["threshold"]) == ("True", 0.5)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"id": "a b"}, {"id"}),
        ({"id": ".."}, {"id"}),
        ({"label": ""}, {"label"}),
        ({"label": "x" * 257}, {"label"}),
        ({"label": "a\0b"}, {"label"}),
        ({"description": "x" * 2_001}, {"description"}),
        ({"targetName": None}, {"targetName"}),
        ({"targetType": "Clustering"}, {"targetType"}),
        ({"classNames": ["a"]}, {"classNames"}),
        ({"classNames": ["a", "a"]}, {"classNames"}),
        ({"positiveClass": "maybe"}, {"positiveClass"}),
        ({"threshold": 1.5}, {"threshold"}),
        ({"threshold": True}, {"threshold"}),
        ({"model": {"id": "m"}}, {"model.name"}),
        ({"model": {"id": "a/b", "name": "x"}}, {"model.id"}),
        ({"features": [{"name": "a", "type": "image"}]}, {"features.0.type"}),
        ({"features": [{"name": "a", "type": "numeric"}, {"name": "a", "type": "text"}]}, {"features"}),
        ({"features": [{"name": "a", "type": "numeric", "impact": 2}]}, {"features.0.impact"}),
        ({"associationIdColumns": ["a", "b"]}, {"associationId.columnNames"}),
        ({"join": {"window": "PT59S"}}, {"join.window"}),
        ({"join": {"window": "P1M", "grace": 3, "latePolicy": "x"}}, {"join.window", "join.grace", "join.latePolicy"}),
        ({"batchMonitoring": {"policy": "weekly"}}, {"batchMonitoring.policy"}),
        (
            {"settings": {"associationId": {"requiredInPredictionRequests": True, "autoGenerateId": True}}},
            {"associationId.autoGenerateId"},
        ),
        (
            {"join": {"window": "P1D"}, "settings": {"join": {"window": "P2D"}}},
            {"settings.join.window"},
        ),
        (
            {"associationIdColumns": ["a"], "settings": {"associationId": {"columnNames": ["b"]}}},
            {"settings.associationId.columnNames"},
        ),
        ({"label": 3, "model": 4, "accuracyAggregation": "no"}, {"label", "model", "accuracyAggregation"}),
    ],
)
async def test_fields_that_break_a_rule(client: httpx.AsyncClient, change: dict[str, Any], fields: set[str]) -> None:
    assert (await errors_of(client, BINARY | change)).keys() == fields
    assert (await client.get("/deployments/")).json()["totalCount"] == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classNames": ["a", "b"]}, "classNames"),
        ({"threshold": 0.5}, "threshold"),
        ({"positiveClass": "a"}, "positiveClass"),
    ],
)
async def test_what_a_regression_does_not_have(client: httpx.AsyncClient, change: dict[str, Any], field: str) -> None:
    assert (await errors_of(client, LEAST | change)).keys() == {field}


async def test_a_value_that_is_given_twice_alike(client: httpx.AsyncClient) -> None:
    twice = {"join": {"window": "P1D"}, "settings": {"join": {"window": "PT24H", "grace": "P1D"}}}
    join = (await register(client, "d", **twice))["settings"]["join"]
    assert (join["window"], join["grace"], join["earlyTtl"]) == ("P1D", "P1D", "P90D")


async def test_a_thousand_classes(client: httpx.AsyncClient) -> None:
    names = [f"c{i}" for i in range(1_000)]
    shown = await register(client, "d", targetType="Multiclass", classNames=names)
    assert shown["model"]["classNames"] == names
    assert (await errors_of(client, BINARY | {"targetType": "Multiclass", "classNames": [*names, "x"]})).keys() == {
        "classNames"
    }


async def test_who_may_register(api: Api) -> None:
    for options in ({"scope": Scope.READ}, {"scope": Scope.WRITE, "deployments": ["d"]}):
        async with api.client(await api.token(**options)) as client:
            assert (await client.post("/deployments/", content=b"{")).status_code == 403
    async with api.client(await api.token(scope=Scope.WRITE)) as client:
        assert (await client.post("/deployments/", content=b"{")).status_code == 415
        broken = await client.post("/deployments/", content=b"{", headers={"Content-Type": "application/json"})
        assert broken.status_code == 400
        assert (await client.post("/deployments/", json=LEAST)).status_code == 201


async def test_a_join_longer_than_the_broker_tells_needs_the_broker(client: httpx.AsyncClient) -> None:
    answer = await client.post("/deployments/", json=LEAST | {"join": {"earlyTtl": "P91D"}})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_check_09_ids_of_the_clients_choice(api: Api, client: httpx.AsyncClient) -> None:
    for i in range(120):
        await register(client, f"mine-{i}", **({} if i % 2 else {"id": None}))
    seen, query = [], ""
    while True:
        page = (await client.get(f"/deployments/?{query}")).json()
        seen += [one["id"] for one in page["data"]]
        assert page["count"] == len(page["data"]) and page["totalCount"] == 120
        if page["next"] is None:
            break
        query = urlsplit(page["next"]).query
    assert len(seen) == len(set(seen)) == 120 and {f"mine-{i}" for i in range(1, 120, 2)} < set(seen)

    await client.delete("/deployments/mine-3/")
    async with api.client(await api.token(username="bob", organisation="elsewhere")) as other:
        for taken in ("mine-1", "mine-3"):
            answer = await other.post("/deployments/", json=LEAST | {"id": taken})
            assert (answer.status_code, "elsewhere" in answer.text) == (409, False)
    assert (await errors_of(client, LEAST | {"id": "a:b"})).keys() == {"id"}
    assert (await client.get("/deployments/a:b/")).status_code == 404


# --------------------------------------------------------------------------------------------- looking at


async def test_nobody_sees_what_is_not_theirs(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d")
    await register(client, "e")
    other, confined = await api.token(username="bob", organisation="other"), await api.token(deployments=["e"])
    for token, there in ((other, []), (confined, ["e"])):
        async with api.client(token) as stranger:
            for method, path in (
                ("GET", "/deployments/d/"), ("PATCH", "/deployments/d/"), ("DELETE", "/deployments/d/"),
                ("POST", "/deployments/d/models/"), ("GET", "/deployments/d/settings/"),
                ("PATCH", "/deployments/d/settings/"), ("GET", "/deployments/d/healthSettings/"),
                ("PATCH", "/deployments/d/healthSettings/"),
            ):  # fmt: skip
                answer = await stranger.request(method, path)
                assert (answer.status_code, answer.json()["errors"]) == (404, {}), (method, path)
            page = (await stranger.get("/deployments/")).json()
            assert ([one["id"] for one in page["data"]], page["totalCount"]) == (there, len(there))


async def test_who_may_only_read(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d")
    async with api.client(await api.token(scope=Scope.READ)) as reader:
        shown = (await reader.get("/deployments/d")).json()
        assert shown["permissions"] == ["CAN_VIEW"]
        for method, path in (
            ("PATCH", "/deployments/d/"), ("DELETE", "/deployments/d/"), ("POST", "/deployments/d/models/"),
            ("PATCH", "/deployments/d/settings/"), ("PATCH", "/deployments/d/healthSettings/"),
        ):  # fmt: skip
            answer = await reader.request(method, path, content=b"no JSON")
            assert (answer.status_code, answer.json()["errors"]) == (403, {}), (method, path)
    async with api.client(await api.token(scope=Scope.WRITE)) as writer:
        assert (await writer.delete("/deployments/d/")).status_code == 403
    async with api.client(None) as nobody:
        assert (await nobody.get("/deployments/d/")).status_code == 401


async def test_how_much_it_is_used(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d", batchMonitoring={"enabled": True})
    today = api.deps.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    newest = today + timedelta(hours=2, minutes=30, microseconds=5)
    gone: str = (await client.post("/deployments/d/monitoringBatches/", json={"batchName": "gone"})).json()["id"]
    await client.delete(f"/deployments/d/monitoringBatches/{gone}/")
    cells = [  # batch, hour, predictions, newest
        ("", today - timedelta(days=7), 100, today - timedelta(days=7)),
        ("", today - timedelta(days=6), 1, today - timedelta(days=6)),
        ("b", today - timedelta(days=6), 2, today - timedelta(days=6)),
        ("", today - timedelta(hours=1), 3, today - timedelta(minutes=1)),
        ("", today, 4, newest),  # a day that is one cell
        ("", today + timedelta(hours=1), 5, newest - timedelta(hours=1)),
        (gone, today + timedelta(hours=9), 50, today + timedelta(hours=9)),
    ]
    await put_cells(api.dsn, "d", cells)
    usage = (await client.get("/deployments/d/")).json()["predictionUsage"]
    assert usage == {
        "dailyRates": [3, 0, 0, 0, 0, 3, 9],
        "lastTimestamp": newest.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


async def put_cells(dsn: str, deployment_id: str, cells: list[tuple[Any, ...]]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for batch, hour, predictions, newest in cells:
            await connection.execute(
                "INSERT INTO prediction_cells VALUES (0, $1, 'm', $2, $3, '', $4, $3, $5, NULL, '{}', '{}')",
                deployment_id, batch, hour, predictions, newest,
            )  # fmt: skip
    finally:
        await connection.close()


async def test_health_before_the_first_evaluation(api: Api, client: httpx.AsyncClient) -> None:
    shown = await register(client, "d", associationIdColumns=None, settings={"targetDrift": {"enabled": True}})
    assert {name: shown[name]["status"] for name in shown if name.endswith("Health")} == {
        "serviceHealth": "unavailable",
        "modelHealth": "unknown",
        "accuracyHealth": "unavailable",
        "predictionsTimelinessHealth": "unavailable",
        "actualsTimelinessHealth": "unavailable",
    }
    connection = await asyncpg.connect(api.dsn)
    await connection.execute("INSERT INTO clocks (task, deployment_id, actuals_received) VALUES (0, 'd', 1)")
    await connection.close()
    enabled = {"predictionsTimeliness": {"enabled": True, "expectedFrequency": "P1D"}}
    await client.patch("/deployments/d/healthSettings/", json=enabled)
    shown = (await client.get("/deployments/d/")).json()
    assert shown["accuracyHealth"]["status"] == shown["predictionsTimelinessHealth"]["status"] == "unknown"
    assert {shown[name]["evaluatedAt"] for name in shown if name.endswith("Health")} == {None}


# ------------------------------------------------------------------------------------------------ listing


async def ids(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/deployments/?{query}")
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


async def test_every_order_sorts_and_ties_break_by_id(client: httpx.AsyncClient) -> None:
    await register(client, "c", label="B", settings={"targetDrift": {"enabled": True}}, associationIdColumns=None)
    await register(client, "b", label="A")
    await register(client, "a", label="B", settings={"featureDrift": {"enabled": True}})
    orders = {
        "": "abc", "orderBy=-createdAt": "abc", "orderBy=createdAt": "cba", "orderBy=label": "bac",
        "orderBy=-label": "acb", "orderBy=serviceHealth": "abc", "orderBy=-serviceHealth": "abc",
        "orderBy=modelHealth": "bac", "orderBy=-modelHealth": "acb", "orderBy=accuracyHealth": "cab",
        "orderBy=-accuracyHealth": "abc",
    }  # fmt: skip
    assert {query: "".join(await ids(client, query)) for query in orders} == orders
    assert (await client.get("/deployments/?orderBy=id")).json()["errors"].keys() == {"orderBy"}
    for query in ("limit=0", "offset=-1", "limit=x", "search=%00"):
        assert (await client.get(f"/deployments/?{query}")).status_code == 422, query


async def test_search_is_for_parts_of_texts_and_whole_ids(client: httpx.AsyncClient) -> None:
    await register(client, "one-two", label="Sales 100%", description=None)
    await register(client, "three", label="other", description="all SALES_figures")
    found = {
        "sales": ["three", "one-two"], "SALES 1": ["one-two"], "100%25": ["one-two"], "s_f": ["three"],
        "one-two": ["one-two"], "one": [], "%25": ["one-two"], "": ["three", "one-two"],
    }  # fmt: skip
    assert {text: await ids(client, f"search={text}") for text in found} == found


async def test_pages(client: httpx.AsyncClient) -> None:
    for name in "abcde":
        await register(client, name)
    page = (await client.get("/deployments/?orderBy=label&limit=2&offset=2")).json()
    assert ([one["id"] for one in page["data"]], page["totalCount"]) == (["c", "d"], 5)
    assert "orderBy=label" in page["next"] and "offset=4" in page["next"] and "offset=0" in page["previous"]
    past = (await client.get("/deployments/?offset=9")).json()
    assert (past["data"], past["next"], past["count"], past["totalCount"]) == ([], None, 0, 5)


# ----------------------------------------------------------------------------------------------- deleting


async def test_a_deleted_deployment_is_gone_at_once_and_for_good(api: Api, client: httpx.AsyncClient) -> None:
    await register(client, "d", batchMonitoring={"enabled": True})
    await client.post("/deployments/d/monitoringBatches/", json={"batchName": "one"})
    assert (await client.delete("/deployments/d")).status_code == 204
    for path in ("/deployments/d/", "/deployments/d/settings/", "/deployments/d/healthSettings/"):
        assert (await client.get(path)).status_code == 404
    assert (await client.delete("/deployments/d/")).status_code == 404
    assert await ids(client) == []
    assert (await client.get("/deployments/d/monitoringBatches/")).status_code == 404
    assert (await client.post("/deployments/", json=LEAST | {"id": "d"})).status_code == 409
    connection = await asyncpg.connect(api.dsn)
    rows = await connection.fetch("SELECT deployment_id, number, kind, batch_id FROM deletions")
    version, last = await connection.fetchrow("SELECT version, last_deletion FROM deployments WHERE id = 'd'")
    await connection.close()
    assert [tuple(row) for row in rows] == [("d", 1, "deployment", None)]
    assert (version, last) == (2, 1)
