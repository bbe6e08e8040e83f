"""What the demo asks of the API before it sends anything: deployments, a baseline, a monitoring batch.

On a later run over the same data what is there already stays as it is.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import httpx

from service.devstack.errors import DevStackError

BASE: Final = "/api/v2"
_FOLLOW_EVERY_S: Final = 0.1
_DONE_WITHIN_S: Final = 60.0


class DemoApi:
    """The API, as the demo uses it. Every method raises `DevStackError` with what the API says."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def register(self, description: Mapping[str, Any]) -> None:
        """Register a deployment, unless there is one of its ID."""
        answer = await self._client.post(f"{BASE}/deployments/", json=dict(description))
        if answer.status_code != HTTPStatus.CONFLICT:
            _check(answer, "the deployment was not registered")

    async def train(self, deployment_id: str, file: Path) -> None:
        """Make the rows of a file the training baseline, unless the deployment has one; returns once it counts."""
        shown = await self._client.get(f"{BASE}/deployments/{deployment_id}/")
        _check(shown, "the deployment can not be read")
        if any(baseline["kind"] == "training" for baseline in shown.json()["baselines"]):
            return
        content = await asyncio.to_thread(file.read_bytes)
        answer = await self._client.post(
            f"{BASE}/deployments/{deployment_id}/baselines/",
            data={"kind": "training"},
            files={"file": (file.name, content, "text/csv")},
        )
        _check(answer, "the baseline was not taken")
        await self._follow(answer.headers["location"])

    async def open_batch(self, deployment_id: str, name: str, description: str) -> str:
        """ID of a new monitoring batch."""
        body = {"batchName": name, "description": description}
        answer = await self._client.post(f"{BASE}/deployments/{deployment_id}/monitoringBatches/", json=body)
        _check(answer, "the monitoring batch was not opened")
        batch_id: str = answer.json()["id"]
        return batch_id

    async def rows_of_batch(self, deployment_id: str, batch_id: str) -> int:
        """How many predictions are counted in it."""
        answer = await self._client.get(f"{BASE}/deployments/{deployment_id}/monitoringBatches/{batch_id}/")
        _check(answer, "the monitoring batch can not be read")
        rows: int = answer.json()["predictionsCount"]
        return rows

    async def lock_batch(self, deployment_id: str, batch_id: str) -> None:
        path = f"{BASE}/deployments/{deployment_id}/monitoringBatches/{batch_id}/"
        _check(await self._client.patch(path, json={"isLocked": True}), "the monitoring batch was not locked")

    async def _follow(self, location: str) -> None:
        """Ask until the work behind a 202 is done, as any client would."""
        async with asyncio.timeout(_DONE_WITHIN_S):
            while True:
                answer = await self._client.get(location, follow_redirects=False)
                if answer.status_code == HTTPStatus.SEE_OTHER:
                    return
                _check(answer, "a status can not be read")
                if answer.json()["status"] == "ERROR":
                    raise DevStackError(f"the API has failed: {answer.json()['message']}")
                await asyncio.sleep(_FOLLOW_EVERY_S)


def _check(answer: httpx.Response, what: str) -> None:
    if answer.is_error:
        raise DevStackError(f"{what}: {answer.status_code} {answer.text}")
