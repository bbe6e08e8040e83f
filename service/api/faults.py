"""Which HTTP status a fault has, and how it is told: `{"detail": …}`."""

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from service.domain.errors import Conflict, Invalid, NotFound
from service.ports import Unavailable

_STATUS: Final[dict[type[Exception], int]] = {NotFound: 404, Conflict: 409, Invalid: 422, Unavailable: 503}


def answer_faults(app: FastAPI) -> None:
    """Let the application answer domain errors and `Unavailable`."""
    for fault, status in _STATUS.items():
        app.add_exception_handler(fault, _renderer(status))


def _renderer(status: int) -> Any:
    async def render(_: Request, fault: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(fault)}, status_code=status)

    return render
