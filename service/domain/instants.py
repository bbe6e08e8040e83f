"""Instants as integers: microseconds since 1970."""

from typing import Final

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
