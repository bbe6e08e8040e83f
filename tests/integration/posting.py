"""The API in this process, over the broker and the database of a site, and what came of what was posted to it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from service.api.app import create_app
from service.bootstrap_api import open_api_deps
from service.config import settings_from_environment
from service.ports import Unavailable
from service.usecases.access import Principal, hash_of
from service.usecases.intake import IntakeKind
from tests.api.datarobot.conftest import Api
from tests.integration.worker import Site, until

PREDICTIONS = "predictionInputs/fromJSON"
ACTUALS = "actuals/fromJSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """Speaks as an admin; rows go to the deployment `flights` unless another is named."""

    site: Site
    api: Api
    client: httpx.AsyncClient
    principal: Principal

    async def connected(self) -> None:
        async def is_connected() -> bool:
            try:
                self.api.deps.intake.log.partitions(IntakeKind.ACTUALS)
            except Unavailable:
                return False
            return True

        await until(is_connected, what="connected to the broker")

    async def post(
        self, kind: str, data: list[dict[str, Any]], *, to: str = "flights", key: str | None = None, **more: Any
    ) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(f"/deployments/{to}/{kind}/", json={"data": data} | more, headers=headers)

    async def taken(self, kind: str, data: list[dict[str, Any]], **more: Any) -> str:
        """Status ID of rows that must be taken."""
        answer = await self.post(kind, data, **more)
        assert answer.status_code == 202, answer.text
        status_id: str = answer.json()["statusId"]
        assert answer.headers["location"].split("/")[6] == status_id
        return status_id

    async def counted(self, status_id: str) -> str:
        """The message of a status once it is done."""
        answers: list[httpx.Response] = []

        async def done() -> bool:
            answers.append(await self.client.get(f"/status/{status_id}/"))
            assert answers[-1].status_code in (200, 303), answers[-1].text
            return answers[-1].status_code == 303 or answers[-1].json()["status"] == "ERROR"

        await until(done, what=f"status {status_id} is done")
        assert answers[-1].json()["status"] == "COMPLETED", answers[-1].text
        message: str = answers[-1].json()["message"]
        return message

    async def post_and_count(self, kind: str, data: list[dict[str, Any]], **more: Any) -> str:
        return await self.counted(await self.taken(kind, data, **more))

    async def records(self) -> int:
        """On the input topics."""
        return sum(sum(task.values()) for task in (await self.site.ends()).values())


@asynccontextmanager
async def open_posting(site: Site, **changed: str) -> AsyncIterator[Posting]:
    settings = settings_from_environment(site.settings("api", **changed))
    async with AsyncExitStack() as stack:
        deps = await open_api_deps(settings, stack)
        api = Api(create_app(deps, version="0"), deps, site.dsn)
        token = await api.token()
        client = await stack.enter_async_context(api.client(token))
        principal = await deps.access.principal(hash_of(token))
        assert principal is not None
        await site.pool.execute("UPDATE deployments SET association_columns = '{id}'")
        yield Posting(site=site, api=api, client=client, principal=principal)
