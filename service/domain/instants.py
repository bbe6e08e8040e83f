"""Instants as integers: microseconds since 1970; and spans between them."""

from datetime import timedelta
from typing import Final

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
LATEST_US: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""
_MICROSECOND: Final = timedelta(microseconds=1)


def span_us(span: timedelta) -> int:
    """Microseconds of it."""
    return span // _MICROSECOND
