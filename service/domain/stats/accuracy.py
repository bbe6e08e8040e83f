"""What each matched pair adds to the accuracy of its cell; a corrected one takes the same away.

Formulae: regression error e = f - y, with y the actual and f the predicted value; log-loss -ln(s) of the probability s
given to the true class, s cut to [1e-15, 1 - 1e-15] (for two classes this is the binary form). The predicted class is
the positive one where its probability reaches the threshold, or the most probable one of several (the first of
equals).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.domain.stats.moments import exact_sums

CUT = 1e-15
PAIR_STRIDE = 1024
"""A confusion pair is `actual class index * PAIR_STRIDE + predicted class index`."""


@dataclass(slots=True, kw_only=True)
class Accuracy:
    """Counts and exact sums (in quanta) of one accuracy cell. Merging adds, `sign=-1` subtracts."""

    matched: int = 0
    error: int = 0
    absolute_error: int = 0
    squared_error: int = 0
    actual: int = 0
    actual_square: int = 0
    log_loss_rows: int = 0
    log_loss: int = 0
    confusion: dict[int, int] = field(default_factory=dict)

    def merged(self, other: "Accuracy") -> "Accuracy":
        confusion = dict(self.confusion)
        for pair, rows in other.confusion.items():
            confusion[pair] = confusion.get(pair, 0) + rows
        return Accuracy(
            matched=self.matched + other.matched,
            error=self.error + other.error,
            absolute_error=self.absolute_error + other.absolute_error,
            squared_error=self.squared_error + other.squared_error,
            actual=self.actual + other.actual,
            actual_square=self.actual_square + other.actual_square,
            log_loss_rows=self.log_loss_rows + other.log_loss_rows,
            log_loss=self.log_loss + other.log_loss,
            confusion={pair: rows for pair, rows in confusion.items() if rows},
        )


def regression_accuracy(
    groups: NDArray[np.int64],
    count: int,
    signs: NDArray[np.int64],
    actual: NDArray[np.float64],
    predicted: NDArray[np.float64],
) -> list[Accuracy]:
    """Accuracy added to each of `count` groups by pairs (n,); `signs` is +1 to add a pair and -1 to take it away."""
    with np.errstate(over="ignore"):
        error = predicted - actual
        columns = (error, np.abs(error), error * error, actual, actual * actual)
    sums = [exact_sums(groups, count, np.nan_to_num(column) * signs) for column in columns]
    matched = np.bincount(groups, weights=signs, minlength=count).tolist()
    return [
        Accuracy(matched=int(n), error=e, absolute_error=a, squared_error=s, actual=y, actual_square=yy)
        for n, e, a, s, y, yy in zip(matched, *sums, strict=True)
    ]


def class_accuracy(
    groups: NDArray[np.int64],
    count: int,
    signs: NDArray[np.int64],
    pairs: NDArray[np.int64],
    probabilities: NDArray[np.float64],
) -> list[Accuracy]:
    """Accuracy added to each group by confusion pairs (n,) and the probability of the true class (NaN: not given)."""
    given = ~np.isnan(probabilities)
    losses: NDArray[np.float64] = -np.log(np.clip(probabilities[given], CUT, 1 - CUT))
    loss_sums = exact_sums(groups[given], count, losses * signs[given])
    loss_rows = np.bincount(groups[given], weights=signs[given], minlength=count).tolist()
    matched = np.bincount(groups, weights=signs, minlength=count).tolist()
    cells = [
        Accuracy(matched=int(n), log_loss_rows=int(rows), log_loss=loss)
        for n, rows, loss in zip(matched, loss_rows, loss_sums, strict=True)
    ]
    stride = int(pairs.max(initial=0)) + 1
    found, places = np.unique(groups * stride + pairs, return_inverse=True)
    rows = np.bincount(places, weights=signs).tolist()
    for place, count_of_pair in zip(found.tolist(), rows, strict=True):
        if count_of_pair:
            cells[place // stride].confusion[place % stride] = int(count_of_pair)
    return cells


def predicted_class(
    probabilities: Mapping[str, float], classes: Mapping[str, int], positive: str | None, threshold: float
) -> int:
    """Index of the class that these probabilities predict."""
    if positive is not None:
        if probabilities.get(positive, 0.0) >= threshold:
            return classes[positive]
        return next(index for label, index in classes.items() if label != positive)
    return min((-share, classes[label]) for label, share in probabilities.items())[1]
