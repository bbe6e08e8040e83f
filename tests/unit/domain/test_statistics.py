"""Statistics by examples that can be checked by hand."""

import math

import numpy as np
import pytest

from service.domain.stats.accuracy import PAIR_STRIDE, class_accuracy, predicted_class, regression_accuracy
from service.domain.stats.histogram import (
    CategoricalBins,
    FeatureLayout,
    NumericBins,
    added_counts,
    categorical_bins,
    count_slots,
    numeric_bins,
)

ONE = 10**18


def test_errors_are_predicted_minus_actual() -> None:
    groups, signs = np.array([0, 0, 1]), np.array([1, 1, 1])
    first, second = regression_accuracy(groups, 2, signs, np.array([1.0, 2.0, 0.0]), np.array([1.5, 1.0, 0.0]))
    assert (first.matched, first.error, first.absolute_error) == (2, -ONE // 2, 3 * ONE // 2)
    assert (first.squared_error, first.actual, first.actual_square) == (5 * ONE // 4, 3 * ONE, 5 * ONE)
    assert (second.matched, second.error) == (1, 0)


def test_a_correction_takes_the_old_pair_away_and_adds_the_new_one() -> None:
    groups, signs = np.array([0, 0]), np.array([-1, 1])
    (change,) = regression_accuracy(groups, 1, signs, np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    assert (change.matched, change.error, change.absolute_error, change.actual) == (0, -2 * ONE, 0, 2 * ONE)


def test_log_loss_is_of_the_probability_of_the_true_class() -> None:
    groups, signs = np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.int64)
    pairs = np.array([0, PAIR_STRIDE, PAIR_STRIDE])
    (cell,) = class_accuracy(groups, 1, signs, pairs, np.array([0.5, 0.0, np.nan]))
    assert (cell.matched, cell.log_loss_rows, cell.confusion) == (3, 2, {0: 1, PAIR_STRIDE: 2})
    assert cell.log_loss / ONE == pytest.approx(math.log(2) + 15 * math.log(10))


def test_a_sure_and_right_prediction_still_has_a_loss_of_the_cut() -> None:
    groups, signs = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    (cell,) = class_accuracy(groups, 1, signs, np.array([0]), np.array([1.0]))
    assert cell.log_loss == pytest.approx(1e-15 * ONE, rel=0.01)


def test_a_positive_class_without_a_probability_is_not_predicted() -> None:
    classes = {"on_time": 0, "late": 1}
    assert predicted_class({"on_time": 1.0}, classes, "late", 0.3) == 0
    assert predicted_class({"on_time": 1.0}, classes, "late", 0.0) == 1


def test_the_positive_class_is_predicted_from_its_threshold_on() -> None:
    classes = {"on_time": 0, "late": 1}
    assert predicted_class({"late": 0.3, "on_time": 0.7}, classes, "late", 0.3) == 1
    assert predicted_class({"late": 0.29, "on_time": 0.71}, classes, "late", 0.3) == 0


def test_of_several_classes_the_most_probable_is_predicted() -> None:
    assert predicted_class({"a": 0.2, "b": 0.5, "c": 0.3}, {"a": 0, "b": 1, "c": 2}, None, 0.5) == 1
    assert predicted_class({"a": 0.2, "b": 0.4, "c": 0.4}, {"a": 0, "b": 2, "c": 1}, None, 0.5) == 1


#   edges        10         20
#   slot    0    ]     1    ]     2         3 = missing


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    bins = NumericBins(name="distance", first_slot=100, edges=(10.0, 20.0))
    values = np.array([-np.inf, 10.0, 10.5, 20.0, 20.5, np.inf, np.nan])
    assert bins.slot_of(values).tolist() == [100, 100, 101, 101, 102, 102, 103]


#   slot    100    101     102 = other     103 = missing
#           EWR    JFK


def test_a_value_without_a_slot_of_its_own_is_other_and_none_is_missing() -> None:
    bins = CategoricalBins(name="origin", first_slot=100, values=("EWR", "JFK"))
    assert bins.slot_of(["JFK", "EWR", "LGA", "", None]).tolist() == [101, 100, 102, 102, 103]
    assert bins.slot_of([]).dtype == np.int64


@pytest.mark.parametrize("value", [1, 1.5, True])
def test_a_value_that_is_no_text_has_no_slot(value: float) -> None:
    with pytest.raises(KeyError):
        CategoricalBins(name="origin", first_slot=100, values=("1", "1.5", "true")).slot_of([value])  # type: ignore[list-item]


def test_equal_deciles_are_merged() -> None:
    assert numeric_bins("f", 0, np.array([5.0] * 99 + [7.0])).edges == (5.0,)
    assert numeric_bins("f", 0, np.array([np.nan])).edges == ()
    assert numeric_bins("f", 0, np.arange(11.0)).edges == tuple(float(edge) for edge in range(1, 10))


def test_bins_have_the_name_of_their_feature() -> None:
    assert numeric_bins("distance", 7, np.array([1.0])) == NumericBins(name="distance", first_slot=7, edges=(1.0,))
    assert categorical_bins("origin", 7, ["EWR"], [1]) == CategoricalBins(name="origin", first_slot=7, values=("EWR",))


def test_each_value_of_a_categorical_feature_must_have_a_count() -> None:
    with pytest.raises(ValueError, match="shorter"):
        categorical_bins("f", 0, ["a", "b"], [1])


def test_fifty_values_of_a_categorical_feature_have_bins_of_their_own() -> None:
    values = [f"{place:02}" for place in range(60)]
    bins = categorical_bins("f", 0, values, [1] * 60)
    assert bins.values == tuple(values[:50])
    assert (bins.slots, bins.other, bins.missing) == (52, 50, 51)


def test_ties_between_values_go_in_order_of_the_text() -> None:
    assert categorical_bins("f", 0, ["b", "c", "a"], [1, 2, 1]).values == ("c", "a", "b")


def test_a_layout_only_grows_at_its_end() -> None:
    layout = FeatureLayout(features=(CategoricalBins(name="origin", first_slot=0, values=("EWR", "JFK")),))
    assert layout.slots == 4
    assert layout.extended(NumericBins(name="distance", first_slot=4, edges=())).slots == 6
    with pytest.raises(ValueError, match="slot 4, not 3"):
        layout.extended(NumericBins(name="distance", first_slot=3, edges=()))


def test_slots_are_counted_by_group() -> None:
    counts = count_slots(np.array([0, 1, 1]), 2, np.array([[0, 3], [0, 2], [1, 2]]), 4)
    assert counts.tolist() == [[1, 0, 0, 1], [1, 1, 2, 0]]
    assert count_slots(np.array([0]), 1, np.array([[2]]), 3).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("rows", "features", "groups", "width"), [(0, 2, 2, 3), (2, 0, 2, 3), (0, 1, 0, 3), (2, 0, 2, 0)]
)
def test_without_rows_or_features_all_counts_are_zero(rows: int, features: int, groups: int, width: int) -> None:
    slots = np.empty((rows, features), dtype=np.int64)
    counts = count_slots(np.zeros(rows, dtype=np.int64), groups, slots, width)
    assert counts.tolist() == [[0] * width] * groups
    assert counts.dtype == np.int64


def test_counts_of_a_shorter_layout_are_added_to_the_first_slots() -> None:
    long, short = np.array([1, 2, 3]), np.array([10])
    assert added_counts(long, short).tolist() == added_counts(short, long).tolist() == [11, 2, 3]
    assert (long.tolist(), short.tolist()) == ([1, 2, 3], [10])
