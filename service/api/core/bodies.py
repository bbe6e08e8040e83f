"""Reading a JSON body, the checks in their order: media type, size, syntax, fields."""

import logging
from collections.abc import AsyncIterator
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
    too_large = BadBody(413, f"The body must have at most {MAX_JSON_BYTES >> 20} MiB.")
    raw = b"".join([chunk async for chunk in chunks_of(request, MAX_JSON_BYTES, too_large)])
    if not raw.strip() and optional:
        return b"{}"
    if media_type(request) != "application/json":
        raise BadBody(415, "The body must be sent as application/json.")
    return raw


async def chunks_of(request: Request, most: int, too_large: BadBody) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `too_large` where it says that it has more than `most` bytes, or comes to have."""
    told = request.headers.get("content-length", "")
    if told.isascii() and told.isdecimal() and int(told[:18]) > most:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise too_large
        yield chunk


def media_type(request: Request) -> str:
    """In lower case, without its parameters."""
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
