"""What the tests of monitoring batches share: deployments, cells as the pipeline writes them, and requests."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import yaml

from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import parse_description
from tests.api.datarobot.conftest import Api

HOUR = datetime(2026, 5, 6, 17, tzinfo=UTC)


async def deploy(api: Api, name: str = "flights", *, batches: bool = True, **changes: Any) -> None:
    described = {
        "id": name,
        "label": name,
        "targetName": "arrival",
        "targetType": "Regression",
        "model": {"id": "m1", "name": "First"},
        "batchMonitoring": {"enabled": batches},
    }
    await apply(api.deps.deployments, parse_description(yaml.safe_dump(described | changes)), Path("."))


async def execute(api: Api, query: str, *values: Any) -> Any:
    """Value of the first row, past the application."""
    connection = await asyncpg.connect(api.dsn)
    try:
        return await connection.fetchval(query, *values)
    finally:
        await connection.close()


async def put_rows(
    api: Api,
    batch: str,
    *,
    rows: int = 3,
    start: datetime = HOUR,
    end: datetime | None = None,
    model: str = "m1",
    task: int = 0,
    deployment: str = "flights",
) -> None:
    """A cell as a task of the pipeline writes it."""
    hour = start.replace(minute=0, second=0, microsecond=0)
    await execute(
        api,
        "INSERT INTO prediction_cells VALUES ($1, $2, $3, $4, $5, '', $6::bigint, $7, $8, $8, ARRAY[$6::bigint], '{}')",
        task, deployment, model, batch, hour, rows, start if rows else None, (end or start) if rows else None,
    )  # fmt: skip


async def create(client: httpx.AsyncClient, deployment: str = "flights", **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/deployments/{deployment}/monitoringBatches/", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def later(hours: float) -> datetime:
    return HOUR + timedelta(hours=hours)


def text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def assert_fault(answer: httpx.Response, status: int, *fields: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    told = answer.json()
    assert isinstance(told["message"], str) and told["message"]
    assert sorted(told["errors"]) == sorted(fields)
