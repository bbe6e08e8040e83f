"""What holds for every operation on deployments alike."""

from typing import Any

import httpx
import pytest

from tests.api.datarobot.conftest import Api, register

OPERATIONS: dict[str, tuple[str, str, dict[str, Any] | None, int]] = {
    "listDeployments": ("GET", "/deployments/", None, 200),
    "getDeployment": ("GET", "/deployments/d/", None, 200),
    "registerDeployment": (
        "POST", "/deployments/",
        {"label": "x", "targetName": "y", "targetType": "Regression", "model": {"name": "m"}}, 201,
    ),
    "updateDeployment": ("PATCH", "/deployments/d/", {}, 200),
    "getDeploymentSettings": ("GET", "/deployments/d/settings/", None, 200),
    "updateDeploymentSettings": ("PATCH", "/deployments/d/settings/", {"targetDrift": {"enabled": True}}, 202),
    "getHealthSettings": ("GET", "/deployments/d/healthSettings/", None, 200),
    "updateHealthSettings": ("PATCH", "/deployments/d/healthSettings/", {"service": {"batchCount": 2}}, 200),
    "replaceModel": ("POST", "/deployments/d/models/", {"name": "gbm 2"}, 201),
    "deleteDeployment": ("DELETE", "/deployments/d/", None, 204),
}  # fmt: skip


async def test_check_36_each_operation_answers_on_a_fresh_deployment(client: httpx.AsyncClient) -> None:
    await register(client, "d")
    for name, (method, path, body, status) in OPERATIONS.items():
        for form in (path, path.removesuffix("/")) if method == "GET" else (path,):
            answer = await client.request(method, form, json=body)
            assert (answer.status_code, answer.history) == (status, []), (name, answer.text)


async def test_check_02_and_03_strangers_and_faults_are_told_in_json(api: Api, client: httpx.AsyncClient) -> None:
    async with api.client(None) as stranger:
        for method, path, _, _ in OPERATIONS.values():
            answer = await stranger.request(method, path, content=b"no JSON")
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert answer.json()["message"] and answer.json()["errors"] == {}
    for method, path, body, _ in OPERATIONS.values():
        answer = await client.request(method, path.replace("/d/", "/nothing/"), json=body)
        if "/d/" in path:
            assert answer.status_code == 404 and answer.json().keys() == {"message", "errors"}
        wrong = await client.request("PUT", path)
        assert wrong.status_code == 405 and method in wrong.headers["allow"] and wrong.json()["message"]


@pytest.mark.parametrize(
    "name", ["updateDeployment", "updateDeploymentSettings", "updateHealthSettings", "replaceModel"]
)
async def test_bodies_are_json_objects(client: httpx.AsyncClient, name: str) -> None:
    await register(client, "d")
    method, path, _, _ = OPERATIONS[name]
    json = {"Content-Type": "application/json"}
    for content, headers, status in (
        (b"{}", {"Content-Type": "text/plain"}, 415), (b"", {}, 415), (b"{", json, 400), (b"[]", json, 400),
        (b"\xff", json, 400), (b'{"label": 1, "name": 1, "service": 1, "join": 1}', json, 422),
    ):  # fmt: skip
        answer = await client.request(method, path, content=content, headers=headers)
        assert answer.status_code == status, (content, answer.text)
        assert answer.json().keys() == {"message", "errors"}
