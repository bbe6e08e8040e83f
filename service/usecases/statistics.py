"""Figures of a deployment: traffic, outcomes and accuracy, in all or by month, day, hour or monitoring batch.

A figure is a sum over cells. Those of a deleted batch are left out from the moment of its deletion. Means are made of
exact sums at the very end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from typing import Any, Protocol

from service.domain.errors import NotFound


class Grouping(StrEnum):
    ALL = "all"
    MONTH = "month"
    DAY = "day"
    HOUR = "hour"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confused:
    """Rows of one actual class for which one class was predicted."""

    actual: str
    predicted: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracySums:
    """Exact sums over matched pairs; of a regression, or of classes."""

    matched: int
    error: Decimal
    absolute_error: Decimal
    squared_error: Decimal
    actual: Decimal
    actual_square: Decimal
    log_loss_rows: int
    log_loss: Decimal
    confusion: Sequence[Confused]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one group: the batch ID, or the beginning of the period; empty for no batch, and for all."""

    group: str
    predictions: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    closed: int = 0
    """Predictions of hours whose windows have all closed: no actual of theirs is waited for any more."""
    final_at: datetime | None = None
    """The watermark at which all windows will have closed; None where none is open or was."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Records per status; those without any are left out."""
    accuracy: AccuracySums | None = None


class Statistics(Protocol):
    """What the pipeline has counted."""

    async def figures(
        self, deployment_id: str, *, by: Grouping, start: datetime | None, end: datetime | None
    ) -> list[Figures] | None:
        """Groups that have any row, in order; hours from `start` to before `end`. None: no such deployment.

        May raise `Unavailable`.
        """


async def figures(
    statistics: Statistics,
    deployment_id: str,
    *,
    by: Grouping = Grouping.ALL,
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[Figures]:
    """Raises `NotFound`."""
    found = await statistics.figures(deployment_id, by=by, start=start, end=end)
    if found is None:
        raise NotFound(f"there is no deployment {deployment_id!r}")
    return found


def describe(figures: Figures) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "group": figures.group,
        "predictions": figures.predictions,
        "earliestPredictionTimestamp": figures.first_at.isoformat() if figures.first_at else None,
        "latestPredictionTimestamp": figures.last_at.isoformat() if figures.last_at else None,
        "labelCoverage": _coverage(figures),
        "windows": {
            "isFinal": figures.closed == figures.predictions,
            "closedShare": figures.closed / figures.predictions if figures.predictions else None,
            "finalAt": figures.final_at.isoformat() if figures.final_at else None,
        },
        "outcomes": dict(figures.outcomes),
        "accuracy": _described_accuracy(figures.accuracy) if figures.accuracy else None,
    }


def _coverage(figures: Figures) -> float | None:
    """Share of the predictions whose actual is held."""
    if not figures.predictions:
        return None
    return (figures.accuracy.matched if figures.accuracy else 0) / figures.predictions


def _described_accuracy(sums: AccuracySums) -> dict[str, Any]:
    described: dict[str, Any] = {"matched": sums.matched}
    if sums.confusion or sums.log_loss_rows:
        return described | _described_classes(sums)
    return described | (_described_errors(sums) if sums.matched else {})


def _described_classes(sums: AccuracySums) -> dict[str, Any]:
    right = sum(cell.rows for cell in sums.confusion if cell.actual == cell.predicted)
    return {
        "accuracy": right / sums.matched if sums.matched else None,
        "logLossRows": sums.log_loss_rows,
        "logLossSum": _number(sums.log_loss),
        "logLoss": _number(sums.log_loss / sums.log_loss_rows) if sums.log_loss_rows else None,
        "confusion": [
            {"actual": cell.actual, "predicted": cell.predicted, "rows": cell.rows} for cell in sums.confusion
        ],
    }


def _described_errors(sums: AccuracySums) -> dict[str, Any]:
    return {
        "meanError": _number(sums.error / sums.matched),
        "meanAbsoluteError": _number(sums.absolute_error / sums.matched),
        "rootMeanSquaredError": _number((sums.squared_error / sums.matched).sqrt()),
        "meanActual": _number(sums.actual / sums.matched),
        "sums": {
            "error": _number(sums.error),
            "absoluteError": _number(sums.absolute_error),
            "squaredError": _number(sums.squared_error),
            "actual": _number(sums.actual),
            "actualSquare": _number(sums.actual_square),
        },
    }


def _number(exact: Decimal) -> float | None:
    """The nearest float, None beyond its range."""
    number = float(exact)
    return number if isfinite(number) else None
