"""What a cell knows of its predictions: how many, when, with which outcomes, and how their features fall into bins."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.domain.outcomes import Outcome
from service.domain.stats.histogram import added_counts

_EMPTY = np.zeros(0, dtype=np.int64)
OUTCOMES = len(Outcome)


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Counts of one prediction cell. Instants are microseconds since 1970, None before the first prediction.

    `last_due`: when the last of its windows closes, on the watermark; None where no row waits for an actual.
    `outcomes` (outcome codes,) and `features` (slots of the layout,) may be shorter than another cell's: the missing
    tail is zero. Merging adds counts and widens the bounds; the bounds themselves can not be subtracted.
    """

    predictions: int = 0
    first_at: int | None = None
    last_at: int | None = None
    last_due: int | None = None
    outcomes: NDArray[np.int64] = field(default_factory=lambda: _EMPTY)
    features: NDArray[np.int64] = field(default_factory=lambda: _EMPTY)

    def merged(self, other: "Traffic") -> "Traffic":
        firsts = [at for at in (self.first_at, other.first_at) if at is not None]
        lasts = [at for at in (self.last_at, other.last_at) if at is not None]
        dues = [at for at in (self.last_due, other.last_due) if at is not None]
        return Traffic(
            predictions=self.predictions + other.predictions,
            first_at=min(firsts, default=None),
            last_at=max(lasts, default=None),
            last_due=max(dues, default=None),
            outcomes=added_counts(self.outcomes, other.outcomes),
            features=added_counts(self.features, other.features),
        )
