"""How this dialect writes things: camelCase keys, instants with six decimals and `Z`, JSON in UTF-8."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError
from starlette.responses import Response

PREFIX: Final = "/api/v2"
"""Where this dialect begins, directly below the host."""
_RFC_3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:?\d{2})?", re.ASCII
)
_RULE: Final = "must be a date and time as in 2026-05-06T17:00:00Z"
_DATE_TIME: Final = WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-05-06T17:00:00Z"]})


class Body(BaseModel):
    """What comes in: JSON's own types exactly, unknown keys ignored."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


class Shown(BaseModel):
    """What goes out."""

    model_config = ConfigDict(
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )


def parse_instant(value: object) -> object:
    """An instant as RFC 3339 writes it, in UTC where it names no offset; None stays None."""
    if value is None or isinstance(value, datetime):
        return value
    if not isinstance(value, str) or _RFC_3339.fullmatch(value) is None:
        raise PydanticCustomError("instant", _RULE)
    try:
        at = datetime.fromisoformat(value.upper())
        return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("instant", _RULE) from None


def _parse_query_instant(value: object) -> object:
    """In a query a `+` that was not encoded comes as a space."""
    return parse_instant(re.sub(r" (?=\d{2}:?\d{2}$)", "+", value) if isinstance(value, str) else value)


def format_instant(at: datetime) -> str:
    """Such as `2026-05-06T17:00:00.000000Z`."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


InstantIn = Annotated[datetime, BeforeValidator(parse_instant), _DATE_TIME]
QueryInstant = Annotated[datetime, BeforeValidator(_parse_query_instant), _DATE_TIME]
Instant = Annotated[datetime, PlainSerializer(format_instant, return_type=str, when_used="json"), _DATE_TIME]


class Json(Response):
    """A body that is built already; FastAPI sends it as it is."""

    media_type = "application/json; charset=utf-8"

    def __init__(
        self, shown: BaseModel, status_code: int = 200, headers: dict[str, str] | None = None, **_: Any
    ) -> None:
        super().__init__(shown.model_dump_json(by_alias=True).encode(), status_code, headers)
