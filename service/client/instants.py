"""Event times as callers have them, turned into RFC 3339 in UTC."""

import re
from datetime import UTC, datetime
from typing import Final

from service.client.values import BadValue, plain

_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_END: Final = 253_402_300_800
"""The year 10000 in seconds since 1970."""


def instant(value: object) -> str:
    """RFC 3339 in UTC with six decimals. A datetime without a zone is refused, since it names no instant."""
    if isinstance(value, datetime):
        at = _plain_datetime(value)
    elif isinstance(value, str):
        at = _of_text(value)
    else:
        at = _of_seconds(value)
    return shown(at)


def shown(at: datetime) -> str:
    """Of an instant in UTC."""
    if at < _EPOCH:
        raise BadValue("timestamp: must lie in the years 1970 to 9999")
    return f"{at.isoformat(timespec='microseconds')[:26]}Z"


def _plain_datetime(value: datetime) -> datetime:
    if value.tzinfo is None or value.utcoffset() is None:
        raise BadValue("timestamp: a datetime must have a time zone")
    if type(value) is not datetime:  # such as those of pandas, which know nanoseconds
        value = datetime.combine(value.date(), value.timetz())
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise BadValue("timestamp: must lie in the years 1970 to 9999") from None


def _of_text(value: str) -> datetime:
    if not _INSTANT.fullmatch(value):
        raise BadValue("timestamp: must be RFC 3339 with its offset, such as 2026-05-06T17:00:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadValue("timestamp: there is no such instant in the years 1970 to 9999") from None


def _of_seconds(value: object) -> datetime:
    seconds = plain(value, "timestamp")
    if seconds is None or isinstance(seconds, bool | str):
        raise BadValue("timestamp: must be an aware datetime, seconds since 1970, or RFC 3339 text")
    if not 0 <= seconds < _SECONDS_END:
        raise BadValue("timestamp: must lie in the years 1970 to 9999, in seconds")
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError):  # rounded up to the year 10000
        raise BadValue("timestamp: must lie in the years 1970 to 9999, in seconds") from None
