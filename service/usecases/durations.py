"""ISO 8601 durations of a fixed length: weeks, days, hours, minutes and seconds. Years and months have none."""

import re
from datetime import timedelta
from typing import Final

LONGEST: Final = timedelta(days=36_500)

_DURATION = re.compile(
    r"P(?=[\dT])(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d{1,6})?)S)?)?"
)
_CALENDAR = re.compile(r"P[^T]*\d[YM].*")


def parse_duration(text: str) -> timedelta:
    """The span that `text` says. Raises ValueError with the rule that it breaks."""
    found = _DURATION.fullmatch(text)
    if found is None:
        if _CALENDAR.fullmatch(text):
            raise ValueError("years and months have no fixed length; use weeks or days, such as P30D")
        raise ValueError("must be an ISO 8601 duration such as P30D, PT10M or P1DT12H")
    try:
        span = timedelta(**{unit: float(amount) for unit, amount in found.groupdict().items() if amount})
    except OverflowError:
        span = timedelta.max
    if span > LONGEST:
        raise ValueError(f"must be at most P{LONGEST.days}D")
    return span


def format_duration(span: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this span (not negative)."""
    hours, rest = divmod(span.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{span.microseconds:06d}".rstrip("0") if span.microseconds else ""
    amounts = ((f"{hours}", "H"), (f"{minutes}", "M"), (f"{seconds}{fraction}", "S"))
    time = "".join(amount + unit for amount, unit in amounts if amount != "0")
    day = f"{span.days}D" if span.days else ""
    return f"P{day}{'T' + time if time else ''}" if day or time else "PT0S"
