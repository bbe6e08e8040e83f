"""A small HTTP server that takes rows as the API's contract says, and misbehaves when it is told to.

It is real HTTP on a real port; what it does not have is anything behind it. Rows are kept by what they were sent to.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from service.api.server import serve
from tests.integration.proxy import Proxy, open_proxy_to

TOKEN: Final = "secret-token"
MOST_ROWS: Final = 10_000
Answer = Callable[[], Response]


def told(status: int, message: str = "no", errors: Mapping[str, str] | None = None, **headers: str) -> Answer:
    """An answer in the API's envelope."""
    content = {"message": message, "errors": dict(errors or {})}
    return lambda: JSONResponse(content, status, {name.replace("_", "-"): value for name, value in headers.items()})


@dataclass
class IntakeApi:
    """What it has taken, and what it is to do next."""

    rows: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)
    commons: list[dict[str, Any]] = field(default_factory=list)
    """Of each accepted submission, what stood beside `data`."""
    requests: list[tuple[str, int]] = field(default_factory=list)
    """Of each request its key and the number of its rows."""
    next: deque[Answer] = field(default_factory=deque)
    after: deque[Callable[[], None]] = field(default_factory=deque)
    """Called when the next request has been taken, before it is answered."""
    _bodies: dict[str, bytes] = field(default_factory=dict)

    async def take(self, kind: str, deployment_id: str, request: Request) -> Response:
        body, key = await request.body(), request.headers["Idempotency-Key"]
        assert request.headers["Content-Type"] == "application/json"
        said = await request.json()
        self.requests.append((key, len(said["data"])))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return told(401, "Unknown token.", WWW_Authenticate="Bearer")()
        if deployment_id == "gone":
            return told(404, "No such deployment.")()
        if self.next:
            return self.next.popleft()()
        known = self._bodies.setdefault(key, body)
        assert known == body, "another body under the same key"
        if errors := self._errors(said):
            return told(422, "Invalid field data.", errors)()
        if key not in self._answered:
            self._answered.add(key)
            self.rows.setdefault((kind, deployment_id), []).extend(said.pop("data"))
            self.commons.append(said)
        if self.after:
            self.after.popleft()()
        return JSONResponse({"statusId": "66a0f1c2d3e4b5a697887766"}, 202)

    _answered: set[str] = field(default_factory=set)

    @staticmethod
    def _errors(said: Mapping[str, Any]) -> dict[str, str]:
        rows = said["data"]
        errors = {} if 1 <= len(rows) <= MOST_ROWS else {"data": f"Must have 1 to {MOST_ROWS} items."}
        if said.get("monitoringBatchId") == "unknown":
            errors["monitoringBatchId"] = "There is no such batch."
        for place, row in enumerate(rows):
            if row.get("actualValue") == "no-class":
                errors[f"data.{place}.actualValue"] = "Must be a class of the deployment."
            if row.get("features", {}).get("bad"):
                errors[f"data.{place}.features.bad"] = "Must be a number."
        return errors


def app_of(api: IntakeApi) -> FastAPI:
    app = FastAPI()

    @app.post("/api/v2/deployments/{deployment_id}/predictionInputs/fromJSON/")
    async def predictions(deployment_id: str, request: Request) -> Response:
        return await api.take("predictions", deployment_id, request)

    @app.post("/api/v2/deployments/{deployment_id}/actuals/fromJSON/")
    async def actuals(deployment_id: str, request: Request) -> Response:
        return await api.take("actuals", deployment_id, request)

    return app


@asynccontextmanager
async def open_intake_api() -> AsyncIterator[tuple[IntakeApi, Proxy, str]]:
    """The server, a proxy that can cut its connections, and the URL through it."""
    api = IntakeApi()
    async with serve(app_of(api), "127.0.0.1", 0) as port, open_proxy_to("127.0.0.1", port) as (proxy, outside):
        yield api, proxy, f"http://127.0.0.1:{outside}"
