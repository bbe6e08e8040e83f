"""The application of the API process: what is served where. Everything that it needs is handed in, open already."""

import re
from time import perf_counter

from fastapi import FastAPI
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.core.deps import ApiDeps
from service.api.core.slashes import FinalSlash
from service.api.datarobot import app as datarobot
from service.api.faults import answer_faults
from service.api.internal import internal_router
from service.api.ops import ops_router
from service.telemetry import Telemetry


def create_app(deps: ApiDeps, *, version: str) -> FastAPI:
    """Probes and metrics at the root, the internal endpoints and each dialect under their prefixes."""
    app = FastAPI(title="Hindsight", openapi_url=None, redirect_slashes=False)
    app.include_router(ops_router(deps.telemetry.registry, deps.probes))
    app.include_router(internal_router(deps.deployments, deps.batches, deps.statistics, deps.features))
    answer_faults(app)
    app.router.routes.append(_mounted(datarobot.PREFIX, datarobot.create_datarobot_app(deps, version=version)))
    app.add_middleware(FinalSlash, prefixes=(datarobot.PREFIX,), verbatim=(datarobot.PREFIX + datarobot.OPENAPI,))
    app.add_middleware(RequestTimes, telemetry=deps.telemetry)
    return app


def _mounted(prefix: str, dialect: ASGIApp) -> Mount:
    """Everything below the prefix is the dialect's to answer: paths with line breaks, too."""
    mount = Mount(prefix, dialect)
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return mount


class RequestTimes:
    """Measures each request, by the template of its route."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._seconds = telemetry.http_request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began = perf_counter()
        try:
            await self._app(scope, receive, watched)
        finally:
            labels = (_route(scope), _method(scope), str(status))
            self._seconds.labels(*labels).observe(perf_counter() - began)


def _route(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return "unknown" if path is None else scope.get("root_path", "") + path


def _method(scope: Scope) -> str:
    """One of few, whatever is sent."""
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
