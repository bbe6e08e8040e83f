"""When which event of an open load is to be sent, as numbers that the sender, the receiver and the judge share.

Event `i` is due `i / rate` seconds after the start. Even ones are predictions, odd ones actuals, each of the prediction
that was due about a second before it; the places of the first actuals, whose predictions would lie before the start,
stay empty. Row `k` is the prediction of event `2k`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WAIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """`rate` events a second, for `seconds`."""

    rate: float
    seconds: float

    @property
    def events(self) -> int:
        """Places, the empty ones included."""
        return int(self.rate * self.seconds)

    @property
    def lag(self) -> int:
        """Rows between a prediction and the actual beside it."""
        return max(1, int(self.rate * _WAIT_S / 2))

    def due_before(self, passed_s: float) -> int:
        """How many events are due when so many seconds have passed."""
        return min(self.events, int(passed_s * self.rate) + 1)

    def row_of(self, event: int) -> int:
        """Negative where the place is empty."""
        return event // 2 - self.lag if event % 2 else event // 2

    def event_of(self, row: int, is_actual: bool) -> int:
        return 2 * (row + self.lag) + 1 if is_actual else 2 * row

    def due_s(self) -> NDArray[np.float64]:
        """When each event (events,) is due, in seconds after the start; NaN where nothing is sent."""
        due = np.arange(self.events, dtype=np.float64) / self.rate
        due[1 : 2 * self.lag : 2] = np.nan
        return due
