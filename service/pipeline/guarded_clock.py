"""Wall time that may decide about rows: never ahead of the database's, never backwards."""

from datetime import datetime, timedelta

from service.ports import Clock

ANSWER_S = 10.0


class GuardedClock:
    """A machine's clock, compared with the database's from time to time; the smaller one counts.

    So a machine whose clock runs ahead closes no window early, and neither does one that is set right afterwards.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._compared: tuple[datetime, float] | None = None
        self._latest: datetime | None = None

    def compare(self, database: datetime, asked_at: float) -> bool:
        """What the database's clock said after it was asked at this instant of `monotonic`.

        From then on, so two clocks that agree count as equal even where the answer took a while. One that took longer
        than `ANSWER_S` seconds (this process stood still, perhaps) says too little: it is not taken. Returns whether.
        """
        if self._clock.monotonic() - asked_at > ANSWER_S:
            return False
        self._compared = (database, asked_at)
        return True

    def now(self) -> datetime:
        now = self._clock.now()
        if self._compared is not None:
            database, asked_at = self._compared
            now = min(now, database + timedelta(seconds=self._clock.monotonic() - asked_at))
        self._latest = now if self._latest is None else max(self._latest, now)
        return self._latest

    def monotonic(self) -> float:
        return self._clock.monotonic()
