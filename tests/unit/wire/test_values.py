"""What a prediction and an actual mean for a deployment."""

import pytest

from service.domain.errors import Reason, Rejection
from service.wire.values import canonical_actual, check_prediction, class_label, decode_predictions
from tests.builders import deployment, regression

CLASSES = deployment(class_index={"late": 0, "1": 1, "true": 2})
NUMBERS = regression()


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("late", "late"), (1.0, "1"), (1, "1"), (-0.0, "0"), (1.5, "1.5"), (True, "true"), (False, "false"),
        (1e20, "100000000000000000000"), (9007199254740993, "9007199254740993"), (1e16, "10000000000000000"),
        (1e-7, "0.0000001"), (0.00015, "0.00015"), (-2.5e-5, "-0.000025"),
    ],
)  # fmt: skip
def test_the_label_of_a_class(value: float | str | bool, label: str) -> None:
    assert class_label(value) == label


def test_predictions_are_read_at_once_or_one_by_one() -> None:
    good = [b"1", b'"late"', b"true", b'{"late":0.5}']
    assert decode_predictions(good) == [1.0, "late", True, {"late": 0.5}]
    odd = [b"null", b"[1]", b'{"late":"x"}', b'"\xff"', b"1e999"]
    assert decode_predictions([*good, *odd]) == [1.0, "late", True, {"late": 0.5}, *[None] * len(odd)]


@pytest.mark.parametrize("value", ["late", 1.0, True, {"late": 1.0, "1": 0}])
def test_a_class_or_probabilities(value: object) -> None:
    check_prediction(CLASSES, value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.BAD_PREDICTION), ({}, Reason.BAD_PREDICTION), ({"late": 1.5}, Reason.BAD_PREDICTION),
        ({"late": -0.1}, Reason.BAD_PREDICTION), ("early", Reason.UNKNOWN_CLASS),
        ({"early": 1.0}, Reason.UNKNOWN_CLASS),
    ],
)  # fmt: skip
def test_what_is_no_prediction_of_a_class(value: object, reason: Reason) -> None:
    with pytest.raises(Rejection) as refused:
        check_prediction(CLASSES, value)  # type: ignore[arg-type]
    assert refused.value.reason is reason


@pytest.mark.parametrize("value", [None, True, "1", {"late": 1.0}])
def test_a_regression_predicts_numbers(value: object) -> None:
    check_prediction(NUMBERS, 1.5)
    with pytest.raises(Rejection):
        check_prediction(NUMBERS, value)  # type: ignore[arg-type]


def test_the_canonical_actual() -> None:
    assert canonical_actual(NUMBERS, 1.5) == b"1.5"
    assert canonical_actual(CLASSES, 1.0) == b'"1"'
    assert canonical_actual(CLASSES, True) == b'"true"'
    assert canonical_actual(CLASSES, None) == canonical_actual(NUMBERS, None) == b"null"


def test_an_actual_of_the_wrong_kind() -> None:
    for value in ("1", True):
        with pytest.raises(Rejection) as refused:
            canonical_actual(NUMBERS, value)
        assert refused.value.reason is Reason.BAD_ACTUAL
    with pytest.raises(Rejection) as refused:
        canonical_actual(CLASSES, "early")
    assert refused.value.reason is Reason.UNKNOWN_ACTUAL_CLASS
