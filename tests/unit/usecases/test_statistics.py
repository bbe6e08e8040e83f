"""Figures as JSON: means are made of exact sums."""

from decimal import Decimal
from typing import Any

from service.usecases.statistics import AccuracySums, Confused, Figures, describe

ZERO = Decimal(0)


def sums(**fields: Any) -> AccuracySums:
    names = ("error", "absolute_error", "squared_error", "actual", "actual_square", "log_loss")
    none: dict[str, Any] = {"matched": 0, "log_loss_rows": 0, "confusion": (), **dict.fromkeys(names, ZERO)}
    return AccuracySums(**(none | fields))


def test_classes() -> None:
    confusion = (Confused(actual="a", predicted="a", rows=3), Confused(actual="a", predicted="b", rows=1))
    shown = describe(
        Figures(
            group="2026-01", accuracy=sums(matched=4, log_loss_rows=2, log_loss=Decimal("0.5"), confusion=confusion)
        )
    )
    assert shown["accuracy"] == {
        "matched": 4,
        "accuracy": 0.75,
        "logLossRows": 2,
        "logLossSum": 0.5,
        "logLoss": 0.25,
        "confusion": [
            {"actual": "a", "predicted": "a", "rows": 3},
            {"actual": "a", "predicted": "b", "rows": 1},
        ],
    }


def test_regression() -> None:
    accuracy = sums(
        matched=2, error=Decimal(-1), absolute_error=Decimal(3), squared_error=Decimal(8), actual=Decimal(10)
    )
    shown = describe(Figures(group="", accuracy=accuracy))["accuracy"]
    means = (shown["meanError"], shown["meanAbsoluteError"], shown["rootMeanSquaredError"], shown["meanActual"])
    assert means == (-0.5, 1.5, 2.0, 5.0)
    assert shown["sums"]["squaredError"] == 8.0


def test_nothing_matched_and_nothing_at_all() -> None:
    assert describe(Figures(group="", accuracy=sums()))["accuracy"] == {"matched": 0}
    assert describe(Figures(group=""))["accuracy"] is None


def test_sums_beyond_a_float() -> None:
    accuracy = sums(matched=1, actual_square=Decimal("1e382"), squared_error=Decimal("1e382"))
    shown = describe(Figures(group="", accuracy=accuracy))["accuracy"]
    assert shown["sums"]["actualSquare"] is None
    assert shown["rootMeanSquaredError"] == 1e191
