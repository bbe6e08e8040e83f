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


def test_label_coverage_is_the_share_of_predictions_whose_actual_is_held() -> None:
    assert describe(Figures(group="", predictions=8, accuracy=sums(matched=6)))["labelCoverage"] == 0.75
    assert describe(Figures(group="", predictions=8))["labelCoverage"] == 0.0
    assert describe(Figures(group=""))["labelCoverage"] is None


def test_figures_are_final_when_all_of_their_predictions_are_in_closed_windows() -> None:
    assert describe(Figures(group="", predictions=8, closed=6))["windows"] == {
        "isFinal": False,
        "closedShare": 0.75,
        "finalAt": None,
    }
    assert describe(Figures(group="", predictions=8, closed=8))["windows"]["isFinal"] is True
