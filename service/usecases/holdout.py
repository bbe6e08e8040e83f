"""A holdout: predictions of rows that the model was not trained on, and their actuals where the file has them.

It is what the predictions of later rows, and the accuracy of the model, are compared with. Only counts and sums are
kept. Bins of the predictions are fixed by the first holdout of a model; a later one is counted into the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from service.domain.deployment import TargetType
from service.domain.stats.accuracy import PAIR_STRIDE, Accuracy, class_accuracy, regression_accuracy
from service.domain.stats.histogram import NumericBins, numeric_bins
from service.domain.stats.moments import exact_sums
from service.usecases.prediction_columns import PredictionColumns
from service.usecases.tables import UnreadableTable

_DECILES: Final = np.arange(1, 10) / 10
_SUM_IS_ONE: Final = 0.01
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How the predicted values are distributed, or the probabilities of one class."""

    label: str
    """The class; empty for a regression."""
    bins: NumericBins
    counts: tuple[int, ...]
    """Rows per bin, and of missing, which there are none of."""
    deciles: tuple[float, ...]
    """The nine inner ones, equal ones too."""
    total: int
    """Their sum, in quanta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    rows: int
    scores: tuple[Scores, ...]
    """Of a regression one, else one a class."""
    predicted: Mapping[str, int] = field(default_factory=dict)
    """Rows by predicted class; empty for a regression."""
    accuracy: Accuracy | None = None
    """Of the rows with an actual; None where the file has no column of actuals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How predictions of a model are judged."""

    target_type: TargetType
    class_names: tuple[str, ...]
    """In the order of their stable positions."""
    positive_class: str | None
    threshold: float


def count_holdout(
    predictions: pl.DataFrame,
    actuals: pl.Series | None,
    columns: PredictionColumns,
    judgement: Judgement,
    fixed: Holdout | None,
) -> Holdout:
    """`predictions` has the columns as numbers, missing: NaN; `actuals` numbers or labels, missing: NaN or null.

    Raises `UnreadableTable` for the first row that breaks a rule.
    """
    values = predictions.to_numpy().astype(np.float64).reshape(predictions.height, len(columns.names))
    _require_finite(values, columns)
    if judgement.target_type is TargetType.REGRESSION:
        scores = (_scores("", values[:, 0], fixed),)
        accuracy = None if actuals is None else _regression(values[:, 0], actuals.to_numpy().astype(np.float64))
        return Holdout(rows=len(values), scores=scores, accuracy=accuracy)
    _require_shares(values)
    order = [columns.labels.index(label) for label in judgement.class_names]
    shares = values[:, order]
    predicted = _predicted(shares, judgement)
    counts = np.bincount(predicted, minlength=len(order)).tolist()
    return Holdout(
        rows=len(values),
        scores=tuple(_scores(label, shares[:, place], fixed) for place, label in enumerate(judgement.class_names)),
        predicted=dict(zip(judgement.class_names, counts, strict=True)),
        accuracy=None if actuals is None else _classes(shares, predicted, actuals, judgement),
    )


def _scores(label: str, values: Numbers, fixed: Holdout | None) -> Scores:
    known = {one.label: one.bins for one in fixed.scores} if fixed else {}
    bins = known.get(label) or numeric_bins(label, 0, values)
    return Scores(
        label=label,
        bins=bins,
        counts=tuple(np.bincount(bins.slot_of(values), minlength=bins.slots).tolist()),
        deciles=tuple(np.quantile(values, _DECILES).tolist()),
        total=exact_sums(np.zeros(len(values), dtype=np.int64), 1, values)[0],
    )


def _require_finite(values: Numbers, columns: PredictionColumns) -> None:
    rows, places = np.nonzero(~np.isfinite(values))
    if rows.size:
        raise UnreadableTable(f"row {rows[0]}: {columns.names[places[0]]!r} must be a finite number")


def _require_shares(values: Numbers) -> None:
    outside = np.nonzero(((values < 0) | (values > 1)).any(axis=1))[0]
    if outside.size:
        raise UnreadableTable(f"row {outside[0]}: a probability must lie between 0 and 1")
    unequal = np.nonzero(np.abs(values.sum(axis=1) - 1) > _SUM_IS_ONE + 1e-9)[0]
    if unequal.size:
        raise UnreadableTable(f"row {unequal[0]}: the probabilities must add up to 1, within {_SUM_IS_ONE}")


def _predicted(shares: Numbers, judgement: Judgement) -> NDArray[np.int64]:
    if judgement.target_type is TargetType.MULTICLASS:
        first_of_greatest: NDArray[np.int64] = shares.argmax(axis=1)
        return first_of_greatest
    positive = _positive(judgement)
    predicted: NDArray[np.int64] = np.where(shares[:, positive] >= judgement.threshold, positive, 1 - positive)
    return predicted


def _positive(judgement: Judgement) -> int:
    names = judgement.class_names
    return names.index(judgement.positive_class) if judgement.positive_class is not None else len(names) - 1


def _regression(predicted: Numbers, actual: Numbers) -> Accuracy:
    known = ~np.isnan(actual)
    rows = int(known.sum())
    (accuracy,) = regression_accuracy(_zeros(rows), 1, _ones(rows), actual[known], predicted[known])
    return accuracy


def _classes(shares: Numbers, predicted: NDArray[np.int64], actuals: pl.Series, judgement: Judgement) -> Accuracy:
    truths = _truths(actuals.to_list(), judgement.class_names)
    known = truths >= 0
    rows = int(known.sum())
    truths, predicted, shares = truths[known], predicted[known], shares[known]
    of_truth = shares[np.arange(rows), truths]
    if judgement.target_type is TargetType.BINARY:  # as the pipeline has it: one share gives the other
        positive = _positive(judgement)
        score = shares[:, positive]
        of_truth = np.where(truths == positive, score, 1 - score)
    (accuracy,) = class_accuracy(_zeros(rows), 1, _ones(rows), truths * PAIR_STRIDE + predicted, of_truth)
    return accuracy


def _truths(labels: Sequence[str | None], class_names: Sequence[str]) -> NDArray[np.int64]:
    """Position of each class; -1 where there is no actual."""
    places: dict[str | None, int] = {None: -1} | {label: place for place, label in enumerate(class_names)}
    for row, label in enumerate(labels):
        if label not in places:
            raise UnreadableTable(f"row {row}: the actual {str(label)[:64]!r} is no class of the deployment")
    return np.array([places[label] for label in labels], dtype=np.int64)


def _zeros(rows: int) -> NDArray[np.int64]:
    return np.zeros(rows, dtype=np.int64)


def _ones(rows: int) -> NDArray[np.int64]:
    return np.ones(rows, dtype=np.int64)
