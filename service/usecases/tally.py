"""What the statuses of one prediction cell add up to: the independent twin of `Traffic`."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.domain.stats.histogram import added_counts

_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(slots=True)
class Tally:
    """Counts by the statuses. Instants are microseconds since 1970."""

    predictions: int = 0
    first_at: int | None = None
    last_at: int | None = None
    last_due: int | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    features: NDArray[np.int64] = field(default_factory=lambda: _NOTHING)
    unread: int = 0
    """Predictions whose features are not known: their record is gone from the input topic."""
    opened_ms: int | None = None
    """When the first of them was published."""

    def add_prediction(self, at: int, due: int | None, published_ms: int) -> None:
        self.predictions += 1
        self.opened_ms = published_ms if self.opened_ms is None else min(self.opened_ms, published_ms)
        self.first_at = at if self.first_at is None else min(self.first_at, at)
        self.last_at = at if self.last_at is None else max(self.last_at, at)
        if due is not None:
            self.last_due = due if self.last_due is None else max(self.last_due, due)

    def add(self, other: "Tally") -> None:
        """Another cell's tally, where both are one now."""
        firsts = [at for at in (self.first_at, other.first_at) if at is not None]
        lasts = [at for at in (self.last_at, other.last_at) if at is not None]
        dues = [at for at in (self.last_due, other.last_due) if at is not None]
        self.predictions += other.predictions
        self.first_at, self.last_at = min(firsts, default=None), max(lasts, default=None)
        self.last_due = max(dues, default=None)
        self.outcomes.update(other.outcomes)
        self.features = added_counts(self.features, other.features)
        self.unread += other.unread
        opened = [at for at in (self.opened_ms, other.opened_ms) if at is not None]
        self.opened_ms = min(opened, default=None)
