"""The whole application over a real Postgres, asked in-process; every test has a database of its own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from service.adapters.postgres.migrate import migrate
from service.api.app import create_app
from service.api.core.deps import ApiDeps
from service.bootstrap_api import open_api_deps
from service.config import settings_from_environment
from service.devstack.postgres import Postgres
from service.domain.errors import Conflict
from service.usecases.access import Scope, create_token, create_user
from tests.conftest import open_database

BASE = "http://hindsight.example"


@dataclass(frozen=True, slots=True)
class Api:
    """The application; `client` speaks as somebody."""

    app: FastAPI
    deps: ApiDeps
    dsn: str

    async def token(
        self,
        *,
        username: str = "alice",
        scope: Scope = Scope.ADMIN,
        organisation: str = "default",
        deployments: list[str] | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """A token of that user, who is made where there is none."""
        now = self.deps.clock.now()
        try:
            await create_user(self.deps.access, username, full_name=None, organisation=organisation, now=now)
        except Conflict:
            pass
        made = await create_token(
            self.deps.access, username, scope=scope, deployments=deployments, expires_at=expires_at, now=now
        )
        return made.token

    def client(self, token: str | None, *, address: str = "192.0.2.1") -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(self.app, client=(address, 40_000), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=f"{BASE}/api/v2", headers=headers)


@pytest.fixture(scope="session")
async def migrated(postgres: Postgres) -> AsyncIterator[str]:
    """Name of a database with the schema and nothing else, to be copied."""
    async with open_database(postgres) as dsn:
        await migrate(dsn)
        yield urlsplit(dsn).path[1:]


@pytest.fixture
async def migrated_database(postgres: Postgres, migrated: str) -> AsyncIterator[str]:
    """DSN of a fresh copy."""
    async with open_database(postgres, template=migrated) as dsn:
        yield dsn


@pytest.fixture
async def api(migrated_database: str, tmp_path: Path) -> AsyncIterator[Api]:
    settings = settings_from_environment(
        {
            "HINDSIGHT_POSTGRES__DSN": migrated_database,
            "HINDSIGHT_FILES__URL": str(tmp_path / "files"),
            "HINDSIGHT_FILES__SPOOL_DIR": str(tmp_path / "spool"),
        }
    )
    async with AsyncExitStack() as stack:
        deps = await open_api_deps(settings, stack)
        yield Api(create_app(deps, version="0"), deps, migrated_database)


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks as an admin of the default organisation."""
    async with api.client(await api.token()) as opened:
        yield opened


async def register(client: httpx.AsyncClient, deployment_id: str, **changes: Any) -> dict[str, Any]:
    """The deployment object of a new binary deployment; a change to None leaves the field out."""
    body = {
        "id": deployment_id,
        "label": deployment_id,
        "targetName": "readmitted",
        "targetType": "Binary",
        "classNames": ["True", "False"],
        "model": {"id": "gbm-1", "name": "gbm 1"},
        "associationIdColumns": ["order_id"],
    } | changes
    answer = await client.post("/deployments/", json={name: one for name, one in body.items() if one is not None})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown
