"""Instants as events and statuses write them, and as numbers: microseconds since 1970."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import Reason, Rejection
from service.domain.instants import DAY_US, LATEST_US

END_S: Final = (LATEST_US + 1) // 1_000_000
"""The first second of the year 10000."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_DIGITS: Final = (4, 7, 10, 13, 16, 19)
_SIGNS: Final = np.frombuffer(b"--T::.", dtype=np.uint8)
_DAYS_OF_MONTH: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def instant_us(given: datetime | float) -> int:
    """Microseconds since 1970. Raises `Rejection` outside the years 1970 to 9999."""
    if isinstance(given, datetime):
        at = (given - _EPOCH) // _MICROSECOND
    else:
        at = round(given * 1_000_000) if 0 <= given < END_S else -1
    if not 0 <= at <= LATEST_US:
        raise Rejection(Reason.BAD_TIMESTAMP, "timestamp: must lie in the years 1970 to 9999")
    return at


def instants_of(given: Sequence[str | float | None]) -> NDArray[np.int64] | None:
    """Microseconds since 1970 (n,) of instants that are all texts, or all seconds since 1970; by columns.

    None only says: look at them one by one.
    """
    kinds = set(map(type, given))
    if kinds == {float}:
        seconds = np.array(given, dtype=np.float64)
        if not ((seconds >= 0) & (seconds < END_S)).all():
            return None
        times = np.rint(seconds * 1e6).astype(np.int64)
        return None if times.max() > LATEST_US else times
    if kinds != {str}:
        return None
    texts: Sequence[str] = given  # type: ignore[assignment]
    lengths = list(map(len, texts))
    if lengths.count(lengths[0]) == len(lengths):
        return _instants_of_one_length("".join(texts), len(texts), lengths[0])
    return _instants_of_some_lengths(texts, np.array(lengths))


def _instants_of_some_lengths(texts: Sequence[str], lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
    times = np.empty(len(texts), dtype=np.int64)
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        some = [texts[i] for i in places.tolist()]
        found = _instants_of_one_length("".join(some), len(some), length)
        if found is None:
            return None
        times[places] = found
    return times


def _instants_of_one_length(joined: str, rows: int, length: int) -> NDArray[np.int64] | None:
    """Of texts (rows,) such as `2013-01-01T10:00:00Z`, with up to six decimals, and `Z` or an offset."""
    if not joined.isascii() or length < 20:
        return None
    text = np.frombuffer(joined.encode(), dtype=np.uint8).reshape(rows, length)
    body = length - 1 if joined[-1] in "Zz" else length - 6
    offset = _offsets(text[:, body:])
    if offset is None or not _is_body(text, body):
        return None
    digits = _digits(text[:, [place for place in range(body) if place not in _NO_DIGITS]])
    if digits is None:
        return None
    year = digits[0] * 1000 + digits[1] * 100 + digits[2] * 10 + digits[3]
    month, day, hour, minute, second = (digits[place] * 10 + digits[place + 1] for place in range(4, 14, 2))
    micros = np.zeros(rows, dtype=np.int64)
    for place, worth in zip(range(14, len(digits)), (100_000, 10_000, 1_000, 100, 10, 1), strict=False):
        micros += digits[place] * worth
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = _DAYS_OF_MONTH[np.minimum(month, 12)] + (is_leap & (month == 2))
    is_date = (month >= 1) & (month <= 12) & (day >= 1) & (day <= last)
    seconds = (_days(year, month, day) * 24 + hour) * 3600 + minute * 60 + second - offset
    times: NDArray[np.int64] = seconds * 1_000_000 + micros
    is_right = is_date & (hour < 24) & (minute < 60) & (second < 60) & (times >= 0) & (times <= LATEST_US)
    return times if is_right.all() else None


def _digits(text: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """The digits (columns, rows) of characters (rows, columns)."""
    digits = text - np.uint8(48)
    return None if digits.max(initial=0) > 9 else digits.T.astype(np.int64)


def _is_body(text: NDArray[np.uint8], body: int) -> bool:
    """Whether date and time are separated as they should be, and seconds followed by no or one to six decimals."""
    signs = len(_NO_DIGITS) - (body == 19)
    found = text[:, _NO_DIGITS[:signs]]
    lower = np.array([0, 0, ord("t") - ord("T"), 0, 0, 0], dtype=np.uint8)[:signs]
    is_split = (found == _SIGNS[:signs]) | (found == _SIGNS[:signs] + lower)
    return (body == 19 or 21 <= body <= 26) and bool(is_split.all())


def _offsets(zone: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """Seconds (rows,) by which local time is ahead, of `Z` or of texts such as `+02:00`."""
    rows, length = zone.shape
    if length == 1:
        return np.zeros(rows, dtype=np.int64) if zone.tobytes().upper() == b"Z" * rows else None
    digits = _digits(zone[:, [1, 2, 4, 5]])
    sign = np.where(zone[:, 0] == ord("+"), 1, -1)
    is_split = ((zone[:, 0] == ord("+")) | (zone[:, 0] == ord("-"))) & (zone[:, 3] == ord(":"))
    if digits is None or not is_split.all():
        return None
    hours, minutes = digits[0] * 10 + digits[1], digits[2] * 10 + digits[3]
    offsets: NDArray[np.int64] = sign * (hours * 3600 + minutes * 60)
    return offsets if hours.max() < 24 and minutes.max() < 60 else None


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Days since 1970 of dates (n,) from 1970 on: the years begin in March, so that the leap day comes last."""
    year = year - (month <= 2)
    months = (month + 9) % 12
    return year * 365 + year // 4 - year // 100 + year // 400 + (153 * months + 2) // 5 + day - 719_469


def rfc3339(at_us: int) -> str:
    """An instant (microseconds since 1970) as RFC 3339 in UTC, with six decimals and `Z`."""
    whole, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"


def rfc3339_clamped(at_us: int) -> str:
    """`rfc3339` of an instant that may lie outside the years 1970 to 9999: of their begin or end then."""
    return rfc3339(min(max(at_us, 0), LATEST_US))


_TEMPLATE: Final = np.frombuffer(b"0000-00-00T00:00:00.000000Z", dtype=np.uint8)
_SECONDS: Final = {11: 36_000, 12: 3_600, 14: 600, 15: 60, 17: 10, 18: 1}
_MICROS: Final = {20: 100_000, 21: 10_000, 22: 1_000, 23: 100, 24: 10, 25: 1}
"""What a digit is worth, by its column in the template."""


def rfc3339_many(at_us: NDArray[np.int64]) -> list[bytes]:
    """`rfc3339` of every instant (n,), by columns of a matrix (n, 27) of characters."""
    days, micros = np.divmod(at_us, DAY_US)
    distinct, places = np.unique(days, return_inverse=True)
    dates = np.datetime_as_string(distinct.astype("datetime64[D]")).astype("S10")
    text = np.empty((len(at_us), len(_TEMPLATE)), dtype=np.uint8)
    text[:] = _TEMPLATE
    text[:, :10] = dates.view(np.uint8).reshape(-1, 10)[places]
    seconds, micros = np.divmod(micros, 1_000_000)
    for worth, numbers in ((_SECONDS, seconds.astype(np.uint32)), (_MICROS, micros.astype(np.uint32))):
        rest = numbers
        for column, unit in worth.items():
            digit, rest = np.divmod(rest, np.uint32(unit))
            text[:, column] += digit.astype(np.uint8)
    texts: list[bytes] = text.view(f"S{len(_TEMPLATE)}").ravel().tolist()
    return texts
