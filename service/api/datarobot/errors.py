"""Which HTTP status a fault has in this dialect, and the body that every one of them is told in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.api.core.bodies import BadBody
from service.api.core.validation import fields_of
from service.api.datarobot.fields import Json, Shown
from service.domain.errors import Conflict, DomainError, Exceeded, Forbidden, Invalid, NotFound, Unsuited
from service.ports import Unavailable

_log = structlog.get_logger(__name__)
STATUS: Final[dict[type[DomainError], int]] = {
    Forbidden: 403,
    NotFound: 404,
    Unsuited: 405,
    Conflict: 409,
    Invalid: 422,
    Exceeded: 429,
}
RETRY_AFTER_S: Final = 5


class Fault(Shown):
    """The body of every answer that is neither a success nor a redirection."""

    message: str = Field(examples=["Invalid field data."])
    errors: dict[str, str] = Field(examples=[{"data.3.associationId": "Must be 1 to 128 characters."}])
    """Rule by the dotted path of the field that breaks it; empty when no field is to blame."""


def refuse(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return told(status, message, headers=headers)


def told(
    status: int, message: str, fields: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    return Json(Fault(message=message, errors=dict(fields or {})), status, dict(headers or {}))


def answer_faults(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Let the application, which serves these routes, tell every fault in this dialect's words."""

    async def routing(request: Request, fault: Any) -> Response:
        if fault.status_code == 405:
            allowed = ", ".join(_methods(request, routes))
            return told(405, "This path does not know that method.", headers={"Allow": allowed})
        message = "There is nothing at this path." if fault.status_code == 404 else str(fault.detail)
        return told(fault.status_code, message, headers=fault.headers)

    app.add_exception_handler(DomainError, _domain)
    app.add_exception_handler(BadBody, _body)
    app.add_exception_handler(RequestValidationError, _query)
    app.add_exception_handler(HTTPException, routing)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(Exception, _bug)


async def _domain(_: Request, fault: Any) -> Response:
    status = next(STATUS[kind] for kind in type(fault).__mro__ if kind in STATUS)
    if isinstance(fault, Invalid) and (fields := fault.fields):
        return told(status, "Invalid field data.", {name: _sentence(rule) for name, rule in fields.items()})
    headers = {"Retry-After": str(fault.retry_after)} if isinstance(fault, Exceeded) else {}
    return told(status, _sentence(str(fault)), headers=headers)


async def _body(_: Request, fault: Any) -> Response:
    return told(fault.status, fault.message, fault.fields)


async def _query(_: Request, fault: Any) -> Response:
    return told(422, "Invalid field data.", fields_of(fault.errors(), skip=1))


def _methods(request: Request, routes: Sequence[APIRoute]) -> list[str]:
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return sorted({method for route in routes if route.path_regex.match(path) for method in route.methods or ()})


async def _unavailable(_: Request, fault: Any) -> Response:
    _log.warning("unavailable", detail=str(fault))
    return told(
        503, "The service can not reach its database or its broker.", headers={"Retry-After": f"{RETRY_AFTER_S}"}
    )


async def _bug(_: Request, fault: Any) -> Response:
    _log.error("a request failed", fault=type(fault).__name__)
    return told(500, "The service has failed; its log says why.")


def _sentence(text: str) -> str:
    begun = text[:1].upper() + text[1:]
    return begun if begun.endswith((".", "?")) else begun + "."
