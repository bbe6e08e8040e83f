"""One row as a worker's store holds it: `/rows/{deployment}/{row}` beside its probes; no password, so loopback only.

Tells rows of the tasks that this worker runs, and no others; its shape may change with any version.
"""

from collections.abc import Callable
from typing import TypeAlias

from fastapi import APIRouter, Depends, FastAPI, Response
from prometheus_client import CollectorRegistry

from service.api.faults import answer_faults
from service.api.internal import require_loopback
from service.api.ops import Probes, create_ops_app
from service.domain.errors import NotFound
from service.wire.held_row import HeldRow, encode_held

FindRow: TypeAlias = Callable[[str, str], HeldRow]
"""By deployment and row ID. Raises `NotFound`, `Conflict` where another worker has it, or `Unavailable`."""


def create_worker_app(registry: CollectorRegistry, probes: Probes, find: FindRow) -> FastAPI:
    """Probes, metrics and rows."""
    app = create_ops_app(registry, probes)
    app.include_router(rows_router(find))
    answer_faults(app)
    return app


def rows_router(find: FindRow) -> APIRouter:
    """Domain errors and `Unavailable` are left to the application."""
    router = APIRouter(prefix="/rows", dependencies=[Depends(require_loopback)], include_in_schema=False)

    @router.get("/{deployment_id}/{row_id:path}")
    async def show_row(deployment_id: str, row_id: str) -> Response:
        held = find(deployment_id, row_id)
        if held.row is None:
            raise NotFound(
                f"task {held.task} holds no row {row_id!r} of deployment {deployment_id!r} at version {held.version}"
            )
        return Response(encode_held(held), media_type="application/json")

    return router
