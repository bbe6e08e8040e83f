"""The models of a monitoring batch, and the bounds that are set of them."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.datarobot.batches import assert_fault, create, deploy, execute, later, put_rows, text
from tests.api.datarobot.conftest import Api

BATCHES = "/deployments/flights/monitoringBatches/"


@pytest.fixture
async def path(api: Api, client: httpx.AsyncClient) -> str:
    """Of the models of a batch: m2 with 7 rows of two tasks, then m1 with 3; m0 has none."""
    await deploy(api)
    batch: str = (await create(client))["id"]
    await put_rows(api, batch, model="m0", rows=0)
    await put_rows(api, batch, model="m1", rows=3, start=later(1), end=later(1.5))
    await put_rows(api, batch, model="m2", rows=3, start=later(0), end=later(0.5))
    await put_rows(api, batch, model="m2", rows=4, start=later(0.25), end=later(0.75), task=1)
    return f"{BATCHES}{batch}/models/"


def model(path: str, name: str, rows: int, start: float, end: float) -> dict[str, Any]:
    return {
        "batchId": path.split("/")[4],
        "modelId": name,
        "predictionsCount": rows,
        "startTime": text(later(start)),
        "endTime": text(later(end)),
    }


async def test_models_are_listed_by_their_start(path: str, client: httpx.AsyncClient) -> None:
    both = [model(path, "m2", 7, 0, 0.75), model(path, "m1", 3, 1, 1.5)]
    listed = (await client.get(path)).json()
    assert listed == {"count": 2, "next": None, "previous": None, "data": both, "totalCount": 2}
    assert (await client.get(path, params={"modelId": "m1"})).json()["data"] == both[1:]
    for nothing in ("m0", "m", "M1", "../x"):
        empty = (await client.get(path, params={"modelId": nothing})).json()
        assert (empty["data"], empty["totalCount"]) == ([], 0)
    assert (await client.get(f"{path}m1")).json() == both[1]


async def test_pages_of_models(path: str, client: httpx.AsyncClient) -> None:
    first = (await client.get(path, params={"limit": 1})).json()
    second = (await client.get(f"{path}?{first['next'].split('?')[1]}")).json()
    assert [page["data"][0]["modelId"] for page in (first, second)] == ["m2", "m1"]
    assert (first["totalCount"], second["next"], second["count"]) == (2, None, 1)
    beyond = (await client.get(path, params={"offset": 2})).json()
    assert (beyond["data"], beyond["totalCount"]) == ([], 2)
    assert_fault(await client.get(path, params={"limit": 0, "modelId": "\0"}), 422, "limit", "modelId")


async def test_a_batch_without_rows_has_no_models(api: Api, client: httpx.AsyncClient) -> None:
    await deploy(api)
    batch = (await create(client))["id"]
    assert (await client.get(f"{BATCHES}{batch}/models/")).json()["data"] == []


@pytest.mark.parametrize("name", ["m0", "nothing", "x" * 129, "%00", "a%20b"])
async def test_a_model_without_rows_is_not_there(path: str, client: httpx.AsyncClient, name: str) -> None:
    assert_fault(await client.get(f"{path}{name}/"), 404)
    assert_fault(await client.patch(f"{path}{name}/", json={"startTime": "?"}), 404)


async def test_check_16_bounds_are_set_and_rows_stay(api: Api, path: str, client: httpx.AsyncClient) -> None:
    answer = await client.patch(f"{path}m2/", json={"startTime": "2026-05-06T17:00:00.5Z"})
    assert answer.status_code == 200
    expected = model(path, "m2", 7, 0, 0.75) | {"startTime": "2026-05-06T17:00:00.500000Z"}
    assert answer.json() == expected
    both = {"startTime": "2026-05-06T00:00:00", "endTime": "2026-05-07T02:00:00+02:00"}
    expected |= {"startTime": "2026-05-06T00:00:00.000000Z", "endTime": "2026-05-07T00:00:00.000000Z"}
    assert (await client.patch(f"{path}m2", json=both)).json() == expected
    assert (await client.patch(f"{path}m2/", json={})).json() == expected
    assert (await client.patch(f"{path}m2/", json={"unknown": None})).json() == expected
    assert (await client.get(f"{path}m2/")).json() == expected
    await put_rows(api, expected["batchId"], model="m2", rows=1, start=later(100), task=2)
    assert (await client.get(f"{path}m2/")).json() == expected | {"predictionsCount": 8}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"startTime": "2026-05-07T00:00:00Z", "endTime": "2026-05-06T00:00:00Z"}, ["startTime"]),
        ({"startTime": text(later(0.75 + 1e-6))}, ["startTime"]),
        ({"endTime": text(later(-0.1))}, ["endTime"]),
        ({"startTime": None}, ["startTime"]),
        ({"startTime": None, "endTime": None}, ["startTime", "endTime"]),
        ({"startTime": 1, "endTime": "soon"}, ["startTime", "endTime"]),
    ],
)
async def test_check_16_bounds_that_are_refused(
    api: Api, path: str, client: httpx.AsyncClient, body: dict[str, Any], fields: list[str]
) -> None:
    before = (await client.get(path)).json()
    assert_fault(await client.patch(f"{path}m2/", json=body), 422, *fields)
    assert (await client.get(path)).json() == before
    assert await execute(api, "SELECT count(*) FROM monitoring_batch_models") == 0


async def test_a_start_may_be_the_end(path: str, client: httpx.AsyncClient) -> None:
    shown = await client.patch(f"{path}m2/", json={"startTime": text(later(0.75))})
    assert shown.json() == model(path, "m2", 7, 0.75, 0.75)


async def test_bounds_that_are_set_at_once_are_never_out_of_order(path: str, client: httpx.AsyncClient) -> None:
    """Each alone is fine."""
    wide = {"startTime": text(later(0)), "endTime": text(later(10))}
    for _ in range(5):
        assert (await client.patch(f"{path}m2/", json=wide)).status_code == 200
        bodies = [{"startTime": text(later(6))}, {"endTime": text(later(4))}]
        answers = await asyncio.gather(*(client.patch(f"{path}m2/", json=body) for body in bodies))
        assert sorted(answer.status_code for answer in answers) == [200, 422]
