"""A clock that stands still until somebody moves it."""

from datetime import UTC, datetime, timedelta


class HandClock:
    """Starts at a round instant, so that what a test computes from it is easy to read."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, span: timedelta) -> None:
        self._now += span
        self._monotonic += span.total_seconds()

    def jump(self, now: datetime) -> None:
        """Set the wall clock, as an operator or a time server would: forth or back, and only the wall clock."""
        self._now = now
