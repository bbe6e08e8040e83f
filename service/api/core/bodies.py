"""Reading a JSON body, the checks in their order: media type, size, syntax, fields."""

import logging
from typing import Any, Final, Generic, TypeVar

import orjson
import structlog
from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.api.core.validation import fields_of

MAX_JSON_BYTES: Final = 32 << 20
_log = structlog.get_logger(__name__)
M = TypeVar("M", bound=BaseModel)


class BadBody(Exception):
    """A body that can not be used: the HTTP status, and the rule that each field breaks."""

    def __init__(self, status: int, message: str, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = fields or {}


class JsonBody(Generic[M]):
    """A dependency that gives the body of a request as `model`. With `optional`, no body means an empty object.

    Declared after the dependencies that look at who asks and for what: those answer first.
    """

    def __init__(self, model: type[M], *, optional: bool = False) -> None:
        self.model = model
        self.optional = optional

    async def __call__(self, request: Request) -> M:
        raw = await read_json(request, optional=self.optional)
        try:
            parsed = self.model.model_validate_json(raw)
        except ValidationError as error:
            raise bad_body(error) from None
        if logging.getLogger(__name__).isEnabledFor(logging.DEBUG):
            _tell_unknown(raw, self.model)
        return parsed


async def read_json(request: Request, *, optional: bool = False) -> bytes:
    """The body, as far as it was not looked into. Raises `BadBody`."""
    raw = await _read(request, MAX_JSON_BYTES)
    if not raw.strip() and optional:
        return b"{}"
    if _media_type(request) != "application/json":
        raise BadBody(415, "The body must be sent as application/json.")
    return raw


async def _read(request: Request, most: int) -> bytes:
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdecimal() and int(told[:18]) > most:
        raise _too_large(most)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(most: int) -> BadBody:
    return BadBody(413, f"The body must have at most {most >> 20} MiB.")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def bad_body(error: ValidationError) -> BadBody:
    """What is wrong with the syntax or the fields."""
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    kinds = {one["type"] for one in errors if not one["loc"]}
    if "json_invalid" in kinds:
        return BadBody(400, f"The body is no JSON: {errors[0]['msg'].partition(': ')[2]}.")
    if kinds & {"model_type", "model_attributes_type", "dict_type"}:
        return BadBody(400, "The body must be a JSON object.")
    return BadBody(422, "Invalid field data.", fields_of(errors))


def _tell_unknown(raw: bytes, model: type[BaseModel]) -> None:
    given: dict[str, Any] = orjson.loads(raw)
    known = {field.alias or name for name, field in model.model_fields.items()}
    if unknown := sorted(given.keys() - known):
        _log.debug("unknown keys are ignored", model=model.__name__, keys=unknown[:20])
