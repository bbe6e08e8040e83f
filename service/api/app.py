"""The application of the API process: what is served where. Everything that it needs is handed in, open already."""

from dataclasses import dataclass
from time import perf_counter

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.faults import answer_faults
from service.api.internal import internal_router
from service.api.ops import Probes, ops_router
from service.telemetry import Telemetry
from service.usecases.deployments import Deployments
from service.usecases.drift import FeatureCounts
from service.usecases.monitoring_batches import MonitoringBatches
from service.usecases.statistics import Statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDeps:
    """What the endpoints stand on."""

    telemetry: Telemetry
    probes: Probes
    deployments: Deployments
    batches: MonitoringBatches
    statistics: Statistics
    features: FeatureCounts


def create_app(deps: ApiDeps) -> FastAPI:
    """Probes and metrics at the root, the internal endpoints under their prefix."""
    app = FastAPI(title="Hindsight", openapi_url=None)
    app.include_router(ops_router(deps.telemetry.registry, deps.probes))
    app.include_router(internal_router(deps.deployments, deps.batches, deps.statistics, deps.features))
    answer_faults(app)
    app.add_middleware(RequestTimes, telemetry=deps.telemetry)
    return app


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
    return getattr(scope.get("route"), "path", "unknown")


def _method(scope: Scope) -> str:
    """One of few, whatever is sent."""
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
