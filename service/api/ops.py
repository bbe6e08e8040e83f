"""What an operator's machines ask: is it alive, is it ready, has it started, what are its figures.

`/livez`    fails -> restart the process: its event loop no longer answers.
`/readyz`   fails -> wait, or look: no database, a paused task, a migration missing.
`/startupz` fails -> wait: state is being restored.
`/metrics`  all of `service.telemetry`, in the format the scraper asks for.

A probe that gives no answer in time fails, and the JSON of a failed one says what is wrong. Not here: what makes a
worker live or ready; each role brings its own `Probes`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fastapi import APIRouter, FastAPI, Header, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

PROBE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """An answer, and the facts behind it; when not `ok`, they name what is wrong."""

    ok: bool
    detail: Mapping[str, str | int | bool] = field(default_factory=dict)


Probe: TypeAlias = Callable[[], Awaitable[ProbeResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """The three questions to a process. Asked often and at any time: each must be cheap and change nothing."""

    live: Probe
    ready: Probe
    started: Probe


def create_ops_app(registry: CollectorRegistry, probes: Probes) -> FastAPI:
    """The endpoints on an application of their own, as a worker serves them."""
    app = FastAPI(title="Hindsight operations", openapi_url=None)
    app.include_router(ops_router(registry, probes))
    return app


def ops_router(registry: CollectorRegistry, probes: Probes, *, deadline: float = PROBE_SECONDS) -> APIRouter:
    """The endpoints, to be included where other routes are served too."""
    router = APIRouter(include_in_schema=False)

    @router.get("/livez")
    async def livez() -> JSONResponse:
        return await _answer(probes.live, deadline)

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        return await _answer(probes.ready, deadline)

    @router.get("/startupz")
    async def startupz() -> JSONResponse:
        return await _answer(probes.started, deadline)

    @router.get("/metrics")
    async def metrics(accept: str = Header(default="")) -> Response:
        encode, content_type = choose_encoder(accept)
        return Response(encode(registry), headers={"Content-Type": content_type})

    return router


async def _answer(probe: Probe, deadline: float) -> JSONResponse:
    try:
        async with asyncio.timeout(deadline):
            result = await probe()
    except TimeoutError:
        result = ProbeResult(ok=False, detail={"probe": f"no answer within {deadline:g} s"})
    return JSONResponse({"ok": result.ok, "detail": dict(result.detail)}, status_code=200 if result.ok else 503)
