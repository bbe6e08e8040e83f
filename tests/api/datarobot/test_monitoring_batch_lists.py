"""Lists of monitoring batches: filters, orders, pages."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.api.datarobot.batches import assert_fault, create, deploy, execute, later, put_rows, text
from tests.api.datarobot.conftest import Api

BATCHES = "/deployments/flights/monitoringBatches/"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def deployed(api: Api) -> None:
    await deploy(api)


async def put(api: Api, batch: str, name: str, created: datetime = CREATED) -> None:
    await execute(
        api,
        "INSERT INTO monitoring_batches (deployment_id, id, name, origin, created_at)"
        " VALUES ('flights', $1, $2, 'api', $3)",
        batch, name, created,
    )  # fmt: skip


async def names(client: httpx.AsyncClient, **query: Any) -> list[str]:
    answer = await client.get(BATCHES, params=query)
    assert answer.status_code == 200, answer.text
    page = answer.json()
    assert page["totalCount"] == page["count"] == len(page["data"])
    return [batch["name"] for batch in page["data"]]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("may", {"May scoring", "maybe"}),
        ("SCORING", {"May scoring"}),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", {"plain"}),
        ("aaaaaaaaaaaaaaaaaaaaaaa", set()),
        ("AAAAAAAAAAAAAAAAAAAAAAAA", set()),
        ("%", {"100%"}),
        ("_", {"a_b"}),
        ("\\", {"back\\slash"}),
        ("\\d", set()),
        (".", {"a.b*[c]"}),
        ("b*[", {"a.b*[c]"}),
        ("^plain$", set()),
        ("(?i)", set()),
        ("***:", set()),
        ("ÄRGER", {"ärger straße"}),
        ("STRAßE", {"ärger straße"}),
        ("two words", {"two words"}),
        ("ab", set()),
        ("nothing", set()),
    ],
)
async def test_check_12_search_finds_names_in_any_case_and_whole_ids(
    api: Api, client: httpx.AsyncClient, search: str, found: set[str]
) -> None:
    for number, name in enumerate(
        ["May scoring", "maybe", "100%", "a_b", "back\\slash", "a.b*[c]", "ärger straße", "two words"]
    ):
        await put(api, f"{number}" * 24, name)
    await put(api, "a" * 24, "plain")
    assert set(await names(client, search=search)) == found


KEYS = ["name", "createdAt", "earliestPredictionTimestamp", "latestPredictionTimestamp"]


async def test_check_13_all_eight_orders(api: Api, client: httpx.AsyncClient) -> None:
    await put(api, "b3", "B", CREATED + timedelta(seconds=2))
    await put(api, "b1", "a", CREATED)
    await put(api, "b2", "a", CREATED)
    await put(api, "b0", "empty", CREATED + timedelta(seconds=1))
    await put_rows(api, "b1", start=later(2), end=later(2.5))
    await put_rows(api, "b2", start=later(1), end=later(9))
    await put_rows(api, "b3", start=later(1), end=later(1.5))
    shown = (await client.get(BATCHES)).json()["data"]
    assert [batch["id"] for batch in shown] == ["b3", "b0", "b1", "b2"]
    for key in KEYS:
        for descending in (False, True):
            answer = await client.get(BATCHES, params={"orderBy": f"-{key}" if descending else key})
            expected = sorted(sorted(shown, key=lambda batch: batch["id"]), key=lambda b: b[key], reverse=descending)
            assert answer.json()["data"] == expected, (key, descending)
    for wrong in ("id", "-", "", "NAME", "+name", "name,-name", "created_at"):
        assert_fault(await client.get(BATCHES, params={"orderBy": wrong}), 422, "orderBy")


async def test_bounds_are_strict(api: Api, client: httpx.AsyncClient) -> None:
    for number in range(3):
        await put(api, f"b{number}", f"n{number}", CREATED + timedelta(microseconds=number))
        await put_rows(api, f"b{number}", start=later(number), end=later(number + 0.5))
    await put(api, "e", "empty", CREATED + timedelta(microseconds=1))
    middle = text(CREATED + timedelta(microseconds=1))
    assert await names(client, createdAfter=middle) == ["n2"]
    assert await names(client, createdBefore=middle) == ["n0"]
    assert await names(client, startAfter=text(later(1))) == ["n2"]
    assert await names(client, endBefore=text(later(1.5))) == ["n0"]
    assert await names(client, startAfter="0001-01-01T00:00:00Z", orderBy="name") == ["n0", "n1", "n2"]
    assert await names(client, endBefore="9999-01-01T00:00:00Z", orderBy="name") == ["n0", "n1", "n2"]
    assert await names(client, startAfter=text(later(0)), endBefore=text(later(2.5)), search="N") == ["n1"]
    berlin = (later(1) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00")
    assert await names(client, startAfter=berlin) == ["n2"]
    answer = await client.get(f"{BATCHES}?startAfter={berlin}")
    assert [batch["name"] for batch in answer.json()["data"]] == ["n2"]
    assert await names(client, startAfter=later(1).strftime("%Y-%m-%dT%H:%M")) == ["n2"]
    for name in ("createdAfter", "createdBefore", "startAfter", "endBefore"):
        assert_fault(await client.get(BATCHES, params={name: "yesterday"}), 422, name)


async def test_filters_by_who_made_it(api: Api, client: httpx.AsyncClient) -> None:
    mine = await create(client, batchName="mine")
    async with api.client(await api.token(username="bob")) as bob:
        await create(bob, batchName="bobs")
    await execute(
        api, "INSERT INTO monitoring_batches (deployment_id, id, name, origin) VALUES ('flights', 'p', 'p', 'policy')"
    )
    assert await names(client, createdBy=mine["createdBy"]["id"]) == ["mine"]
    assert await names(client, createdBy="0" * 24) == ["p"]
    assert await names(client, createdBy="alice") == []
    assert await names(client, createdBy=mine["createdBy"]["id"], search="bob") == []
    assert await names(client, unknown="1", orderBy="name") == ["bobs", "mine", "p"]


async def test_what_is_set_of_models_counts_for_the_batch(api: Api, client: httpx.AsyncClient) -> None:
    await put(api, "b0", "n0")
    for model, start in (("m1", 0.0), ("m2", 1.0)):
        await put_rows(api, "b0", start=later(start), end=later(start + 0.5), model=model)
    await put_rows(api, "b0", start=later(-3), model="m1", task=1)
    await client.patch(f"{BATCHES}b0/models/m1/", json={"startTime": text(later(0.25))})
    await client.patch(f"{BATCHES}b0/models/m2/", json={"endTime": text(later(50))})
    for shown in ((await client.get(f"{BATCHES}b0/")).json(), (await client.get(BATCHES)).json()["data"][0]):
        assert shown["earliestPredictionTimestamp"] == text(later(0.25))
        assert shown["latestPredictionTimestamp"] == text(later(50))
        assert shown["predictionsCount"] == 9
    assert await names(client, startAfter=text(later(0.2))) == ["n0"]
    assert await names(client, endBefore=text(later(50))) == []


@pytest.mark.parametrize("order", ["name", "-createdAt", "latestPredictionTimestamp"])
async def test_pages_are_read_by_following_the_query_of_next(api: Api, client: httpx.AsyncClient, order: str) -> None:
    for number in range(25):
        await put(api, f"b{number:02}", "same", CREATED)
    seen: list[str] = []
    answer = (await client.get(BATCHES, params={"limit": 10, "orderBy": order, "search": "SAM"})).json()
    while True:
        assert (answer["totalCount"], answer["count"]) == (25, len(answer["data"]))
        seen += [batch["id"] for batch in answer["data"]]
        if answer["next"] is None:
            break
        url = urlsplit(answer["next"])
        assert (url.scheme, url.netloc, url.path) == ("http", "hindsight.example", "/api/v2" + BATCHES)
        assert parse_qs(url.query)["search"] == ["SAM"]
        answer = (await client.get(f"{BATCHES}?{url.query}")).json()
    assert seen == [f"b{number:02}" for number in range(25)]
    assert "offset=10" in answer["previous"]
    beyond = (await client.get(BATCHES, params={"offset": 25, "orderBy": order})).json()
    assert (beyond["data"], beyond["totalCount"], beyond["next"]) == ([], 25, None)


async def test_a_first_page_is_large_enough_for_every_client(api: Api, client: httpx.AsyncClient) -> None:
    for number in range(101):
        await put(api, f"b{number}", "n")
    assert (await client.get(BATCHES)).json()["count"] == 100
    assert (await client.get(BATCHES, params={"limit": 100_000})).json()["count"] == 101


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": -1}, {"offset": -1}, {"limit": "x"}, {"search": "a\0"}, {"createdBy": "\0"},
     {"search": "x" * 257}],
)  # fmt: skip
async def test_queries_that_are_refused(client: httpx.AsyncClient, query: dict[str, Any]) -> None:
    assert_fault(await client.get(BATCHES, params=query), 422, *query)


async def test_every_wrong_part_of_a_query_is_told_at_once(client: httpx.AsyncClient) -> None:
    wrong: dict[str, Any] = {"limit": 0, "orderBy": "x", "startAfter": "x", "search": "\0"}
    assert_fault(await client.get(BATCHES, params=wrong), 422, *wrong)
    assert_fault(await client.get("/deployments/nothing/monitoringBatches/", params=wrong), 404)


async def test_an_empty_list(client: httpx.AsyncClient) -> None:
    empty: dict[str, Any] = {"count": 0, "next": None, "previous": None, "data": [], "totalCount": 0}
    assert (await client.get(BATCHES)).json() == empty
    assert (await client.get(BATCHES, params={"orderBy": "-latestPredictionTimestamp"})).json() == empty
