"""Traffic and accuracy: merging has no order, empty is neutral, and what was added can be taken away."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.stats.accuracy import (
    CUT,
    PAIR_STRIDE,
    Accuracy,
    class_accuracy,
    predicted_class,
    regression_accuracy,
)
from service.domain.stats.moments import quanta
from service.domain.stats.traffic import Traffic

FIGURES = st.floats(min_value=-1e9, max_value=1e9)
ANY_FIGURES = st.floats(allow_nan=False, allow_infinity=False)
PAIRS = st.lists(st.tuples(FIGURES, FIGURES), max_size=30)
SHARES = st.floats(min_value=0, max_value=1) | st.just(math.nan)
LABELLED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), SHARES), max_size=30)


def regression(pairs: Sequence[tuple[float, float]], sign: int = 1) -> Accuracy:
    """Accuracy of (actual, predicted) pairs, all in one cell."""
    actual, predicted = (np.array([pair[i] for pair in pairs], dtype=np.float64) for i in (0, 1))
    signs = np.full(len(pairs), sign, dtype=np.int64)
    return regression_accuracy(np.zeros(len(pairs), dtype=np.int64), 1, signs, actual, predicted)[0]


def classes(rows: Sequence[tuple[int, int, float]], sign: int = 1) -> Accuracy:
    """Accuracy of (actual class, predicted class, probability of the true class) rows, all in one cell."""
    pairs = np.array([actual * PAIR_STRIDE + predicted for actual, predicted, _ in rows], dtype=np.int64)
    shares = np.array([share for *_, share in rows], dtype=np.float64)
    signs = np.full(len(rows), sign, dtype=np.int64)
    return class_accuracy(np.zeros(len(rows), dtype=np.int64), 1, signs, pairs, shares)[0]


# ------------------------------------------------------------------------------------------- accuracy


@given(PAIRS, PAIRS, PAIRS)
def test_regression_merges_in_any_order_and_grouping(
    a: list[tuple[float, float]], b: list[tuple[float, float]], c: list[tuple[float, float]]
) -> None:
    x, y, z = regression(a), regression(b), regression(c)
    assert x.merged(y) == y.merged(x) == regression(a + b)
    assert x.merged(y).merged(z) == x.merged(y.merged(z)) == regression(a + b + c)
    assert x.merged(Accuracy()) == Accuracy().merged(x) == x


@given(LABELLED, LABELLED, LABELLED)
def test_classes_merge_in_any_order_and_grouping(
    a: list[tuple[int, int, float]], b: list[tuple[int, int, float]], c: list[tuple[int, int, float]]
) -> None:
    x, y, z = classes(a), classes(b), classes(c)
    assert x.merged(y) == y.merged(x) == classes(a + b)
    assert x.merged(y).merged(z) == x.merged(y.merged(z)) == classes(a + b + c)
    assert x.merged(Accuracy()) == Accuracy().merged(x) == x


@given(st.lists(st.tuples(ANY_FIGURES, ANY_FIGURES), max_size=30), LABELLED)
@example([(-1.7e308, 1.7e308)], [])
def test_what_was_added_can_be_taken_away(pairs: list[tuple[float, float]], rows: list[tuple[int, int, float]]) -> None:
    assert regression(pairs).merged(regression(pairs, sign=-1)) == Accuracy()
    assert classes(rows).merged(classes(rows, sign=-1)) == Accuracy()


@given(LABELLED)
def test_added_and_taken_away_in_one_pass_leaves_nothing(rows: list[tuple[int, int, float]]) -> None:
    groups = np.zeros(2 * len(rows), dtype=np.int64)
    signs = np.repeat(np.array([1, -1], dtype=np.int64), len(rows))
    pairs = np.array([actual * PAIR_STRIDE + predicted for actual, predicted, _ in rows + rows], dtype=np.int64)
    shares = np.array([share for *_, share in rows + rows], dtype=np.float64)
    assert class_accuracy(groups, 1, signs, pairs, shares) == [Accuracy()]


@given(PAIRS)
def test_regression_sums_are_those_of_a_direct_computation(pairs: list[tuple[float, float]]) -> None:
    def exactly(figures: Sequence[float]) -> int:
        return sum(int(Fraction(whole)) for whole in quanta(np.array(figures, dtype=np.float64)).tolist())

    errors = [predicted - actual for actual, predicted in pairs]
    assert regression(pairs) == Accuracy(
        matched=len(pairs),
        error=exactly(errors),
        absolute_error=exactly([abs(error) for error in errors]),
        squared_error=exactly([error * error for error in errors]),
        actual=exactly([actual for actual, _ in pairs]),
        actual_square=exactly([actual * actual for actual, _ in pairs]),
    )


@given(LABELLED)
def test_confusion_and_log_loss_are_those_of_a_direct_computation(rows: list[tuple[int, int, float]]) -> None:
    found = classes(rows)
    given_ = [min(max(share, CUT), 1 - CUT) for *_, share in rows if not math.isnan(share)]
    assert found.confusion == Counter(actual * PAIR_STRIDE + predicted for actual, predicted, _ in rows)
    assert (found.matched, found.log_loss_rows) == (len(rows), len(given_))
    assert math.isclose(found.log_loss / 1e18, math.fsum(-math.log(share) for share in given_), abs_tol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 2), FIGURES, FIGURES), max_size=30))
def test_groups_are_kept_apart(rows: list[tuple[int, float, float]]) -> None:
    groups = np.array([group for group, *_ in rows], dtype=np.int64)
    actual, predicted = (np.array([row[i] for row in rows], dtype=np.float64) for i in (1, 2))
    found = regression_accuracy(groups, 3, np.ones(len(rows), dtype=np.int64), actual, predicted)
    assert found == [regression([(y, f) for group, y, f in rows if group == i]) for i in range(3)]


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), min_size=1))
def test_the_predicted_class_is_the_first_of_the_most_probable(shares: dict[str, float]) -> None:
    index = {label: position for position, label in enumerate("dbca")}
    best = max(shares.values())
    assert predicted_class(shares, index, None, 0.5) == min(index[label] for label in shares if shares[label] == best)


# ------------------------------------------------------------------------------------------- traffic

Counts = st.lists(st.integers(-(1 << 40), 1 << 40), max_size=6)


@st.composite
def traffics(draw: st.DrawFn) -> Traffic:
    instants = draw(st.lists(st.integers(0, 1 << 50), max_size=3))
    return Traffic(
        predictions=draw(st.integers(-1000, 1000)),
        first_at=min(instants, default=None),
        last_at=max(instants, default=None),
        last_due=draw(st.none() | st.integers(0, 1 << 50)),
        outcomes=np.array(draw(Counts), dtype=np.int64),
        features=np.array(draw(Counts), dtype=np.int64),
    )


def meaning(traffic: Traffic) -> tuple[object, ...]:
    """What a cell says: the missing tail of an array is zero."""
    arrays = (traffic.outcomes, traffic.features)
    bounds = (traffic.first_at, traffic.last_at, traffic.last_due)
    return (traffic.predictions, *bounds, *(np.trim_zeros(a, "b").tolist() for a in arrays))


@given(traffics(), traffics(), traffics())
def test_traffic_merges_in_any_order_and_grouping(x: Traffic, y: Traffic, z: Traffic) -> None:
    assert meaning(x.merged(y)) == meaning(y.merged(x))
    assert meaning(x.merged(y).merged(z)) == meaning(x.merged(y.merged(z)))
    assert meaning(x.merged(Traffic())) == meaning(Traffic().merged(x)) == meaning(x)


@given(traffics(), traffics())
def test_traffic_counts_can_be_taken_away(x: Traffic, y: Traffic) -> None:
    taken = Traffic(predictions=-y.predictions, outcomes=-y.outcomes, features=-y.features)
    both = x.merged(y).merged(taken)
    assert meaning(both)[0] == meaning(x)[0]
    assert meaning(both)[4:] == meaning(x)[4:]


@given(traffics(), traffics())
def test_merging_leaves_both_sides_as_they_were(x: Traffic, y: Traffic) -> None:
    before = meaning(x), meaning(y)
    merged = x.merged(y)
    merged.outcomes += 1
    merged.features += 1
    assert (meaning(x), meaning(y)) == before
