"""The service's words for an outcome, in the words of the dialect."""

import pytest

from service.api.datarobot.row_words import word_of
from service.domain.errors import Reason
from service.domain.outcomes import ENDS, Outcome


@pytest.mark.parametrize(
    ("outcome", "of_prediction", "of_actual"),
    [
        ("MATCHED", "PROCESSED", "PROCESSED"),
        ("CONFLICT", "DUPLICATE", "DUPLICATE"),
        ("UNKNOWN_BATCH", "BATCH_DELETED", "BATCH_DELETED"),
        ("ORPHAN", "INVALID_ACTUAL", "INVALID_ACTUAL"),
        ("INVALID:future_timestamp", "INVALID_TIMESTAMP", "INVALID_TIMESTAMP"),
        ("INVALID:bad_association_id", "INVALID_ASSOCIATION_ID", "INVALID_ASSOCIATION_ID"),
        ("INVALID:unknown_class", "INVALID_PREDICTION", "INVALID_ACTUAL"),
        ("UNKNOWN_DEPLOYMENT", "INVALID_PREDICTION", "INVALID_ACTUAL"),
    ],
)
def test_words(outcome: str, of_prediction: str, of_actual: str) -> None:
    assert word_of(outcome, is_actual=False) == of_prediction
    assert word_of(outcome, is_actual=True) == of_actual


def test_every_outcome_has_a_word_of_its_own_but_the_invalid() -> None:
    for outcome in set(Outcome) - ENDS - {Outcome.INVALID}:
        assert word_of(outcome.name, is_actual=False) == word_of(outcome.name, is_actual=True), outcome
    assert {word_of(f"INVALID:{reason}", is_actual=True) for reason in Reason} == {
        "INVALID_ACTUAL", "INVALID_TIMESTAMP", "INVALID_ASSOCIATION_ID",
    }  # fmt: skip
