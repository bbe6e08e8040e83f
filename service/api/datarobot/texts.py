"""Values of bodies that need more than a type: texts that can be stored, IDs, durations, objects kept as sent."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Final, TypeVar

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.domain.ids import is_object_id
from service.usecases.durations import parse_duration

E = TypeVar("E")
_NUL: Final = "must not hold the character NUL"


def storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("storable", _NUL)
    return text


def _object_id(text: str) -> str:
    if not is_object_id(text):
        raise PydanticCustomError("object_id", "must be 1 to 128 of A-Z a-z 0-9 . _ -")
    return text


def _span(value: object) -> object:
    """None stays None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise PydanticCustomError("duration", "must be an ISO 8601 duration such as P30D")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{rule}", {"rule": str(error)}) from None


def _keepable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = orjson.dumps(value)
    except TypeError:
        raise PydanticCustomError("keepable", "must hold no integer beyond 64 bits, nor be nested too deep") from None
    if b"\\u0000" in text:
        raise PydanticCustomError("storable", _NUL)
    kept: dict[str, Any] = orjson.loads(text)
    return kept


def one_of(kinds: Callable[[str], E], *words: str) -> BeforeValidator:
    """Turns one of these words into what it means; None stays None."""

    def check(value: object) -> object:
        if value is None:
            return None
        if not isinstance(value, str) or value not in words:
            raise PydanticCustomError("one_of", "must be one of {words}", {"words": ", ".join(words)})
        return kinds(value)

    return BeforeValidator(check)


Text = Annotated[str, AfterValidator(storable)]
Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(storable)]
Remark = Annotated[str, Field(max_length=2_000), AfterValidator(storable)]
ObjectId = Annotated[str, AfterValidator(_object_id)]
Span = Annotated[
    timedelta, BeforeValidator(_span), WithJsonSchema({"type": "string", "format": "duration", "examples": ["P30D"]})
]
Kept = Annotated[dict[str, Any], AfterValidator(_keepable)]
