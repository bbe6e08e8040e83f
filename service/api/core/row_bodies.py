"""Reading a JSON body with many rows.

A decoder of exactly typed structures reads a good body ten times as fast as a model does. A body that it does not take
is read by the model, which knows every spelling that is allowed, and tells all that is wrong with the others. Rows that
are well-formed are handed on even then, so that the rules which depend on more than types are told with the rest.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.api.core.bodies import BadBody, bad_body, read_json
from service.api.core.deps import Deps
from service.api.core.validation import fields_of

M = TypeVar("M", bound=BaseModel)
C = TypeVar("C")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ROWS = "data"
HIDDEN = "="
"""Begins a step of a path that is the model's own, such as which of several forms a value has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsRead(Generic[C]):
    """A body: what it says, as far as it is well-formed, and what is wrong with the rest."""

    content: C
    problems: Mapping[str, str]
    rows: int
    content_hash: bytes
    received: float
    """When the body began to be read, on the monotonic clock."""
    read_s: float
    """How long decoding took."""


class RowsBody(Generic[M, C]):
    """A dependency that gives a body whose list `data` holds rows."""

    optional = False

    def __init__(
        self,
        model: type[M],
        *,
        quickly: Callable[[bytes], tuple[C, int]],
        carefully: Callable[[M, Sequence[int]], C],
    ) -> None:
        """`quickly` decodes a body of plain form, and tells how many rows it has; it raises what msgspec raises.
        `carefully` takes the model instead, and the number of each of its rows."""
        self.model = model
        self._quickly = quickly
        self._carefully = carefully

    async def __call__(self, request: Request, api: Deps) -> RowsRead[C]:
        received = api.clock.monotonic()
        raw = await read_json(request)
        began = api.clock.monotonic()
        problems: dict[str, str] = {}
        try:
            content, rows = self._quickly(raw)
        except _UNREADABLE:
            content, rows, problems = self._read(raw)
        return RowsRead(
            content=content,
            problems=problems,
            rows=rows,
            content_hash=hashlib.sha256(raw).digest(),
            received=received,
            read_s=api.clock.monotonic() - began,
        )

    def _read(self, raw: bytes) -> tuple[C, int, dict[str, str]]:
        """Raises `BadBody` where nothing of it can be used."""
        try:
            body = self.model.model_validate_json(raw)
        except ValidationError as error:
            return self._salvage(raw, error)
        rows = len(getattr(body, ROWS))
        return self._carefully(body, range(rows)), rows, {}

    def _salvage(self, raw: bytes, error: ValidationError) -> tuple[C, int, dict[str, str]]:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        told = bad_body(error)
        if not told.fields:
            raise told
        for one in errors:
            one["loc"] = tuple(step for step in one["loc"] if not str(step).startswith(HIDDEN))
        problems = fields_of(errors)
        unusable = BadBody(told.status, told.message, problems)
        broken = {one["loc"][1] for one in errors if one["loc"][0] == ROWS and len(one["loc"]) > 1}
        if any(one["loc"] == (ROWS,) for one in errors):
            raise unusable
        try:
            given: dict[str, Any] = orjson.loads(raw)
            numbers = [number for number in range(len(given[ROWS])) if number not in broken]
            kept = {name: value for name, value in given.items() if name not in problems}
            good = kept | {ROWS: [given[ROWS][number] for number in numbers]}
            # a model would not take a list without rows; what is left of the others was found to be right
            body = self.model.model_validate(good) if numbers else self.model.model_construct(**good)
        except ValueError:
            raise unusable from None
        return self._carefully(body, numbers), len(given[ROWS]), problems
