"""Every operation that is said to be served is there: on a fresh deployment, with the objects that its path names."""

from typing import Any

import httpx
import pytest

from service.api.datarobot.app import PREFIX
from service.usecases.access import hash_of
from service.usecases.status_tasks import TaskKind, begin
from tests.api.datarobot.conftest import Api, register
from tests.api.datarobot.test_surface import SERVED

NO_SUCH_PATH = "There is nothing at this path."


@pytest.fixture
async def objects(api: Api, client: httpx.AsyncClient) -> dict[str, str]:
    """By the names that paths use for them."""
    await register(client, "fresh", batchMonitoring={"enabled": True})
    batch = (await client.post("/deployments/fresh/monitoringBatches/")).json()
    data_set = await client.post("/datasets/", files={"file": ("rows.csv", b"id,y\na,1\n", "text/csv")})
    principal = await api.deps.access.principal(hash_of(str(client.headers["authorization"]).partition(" ")[2]))
    assert principal is not None
    return {
        "deploymentId": "fresh",
        "monitoringBatchId": batch["id"],
        "modelId": "none",
        "datasetId": data_set.json()["id"],
        "statusId": await begin(api.deps.tasks, principal, TaskKind.BASELINE, "fresh", "Work", with_records=False),
    }


@pytest.mark.parametrize("entry", SERVED, ids=lambda entry: entry["operation"])
async def test_check_36_each_operation_is_there(
    entry: dict[str, Any], objects: dict[str, str], client: httpx.AsyncClient
) -> None:
    path = entry["path"].removeprefix(PREFIX).format(**objects)
    for form in (path, path.removesuffix("/")):
        answer = await client.request(entry["method"], form, json=None if entry["method"] in ("GET", "DELETE") else {})
        assert answer.status_code != 405, answer.text
        assert not answer.is_redirect or answer.status_code == 303
        if answer.is_error:
            assert answer.json()["message"] != NO_SUCH_PATH
            assert answer.status_code in {*entry["errors"], 400, 413, 415, 503}
            assert isinstance(answer.json()["errors"], dict)
        else:
            assert answer.status_code in entry["ok"]
