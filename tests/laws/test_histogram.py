"""Bins: every value falls into exactly one slot of its feature, so counts conserve rows."""

import math
import sys

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.stats.histogram import (
    TOP_VALUES,
    CategoricalBins,
    FeatureLayout,
    NumericBins,
    categorical_bins,
    count_slots,
    numeric_bins,
)

NUMBERS = st.floats(allow_nan=True, allow_infinity=False)
BASELINE = st.lists(NUMBERS, max_size=40)
ANY_NUMBER = st.floats(allow_nan=True, allow_infinity=True)


@given(BASELINE, st.lists(ANY_NUMBER, max_size=40), st.integers(0, 100))
def test_a_number_falls_into_the_slot_whose_edges_hold_it(
    baseline: list[float], values: list[float], first: int
) -> None:
    bins = numeric_bins("f", first, np.array(baseline, dtype=np.float64))
    edges = (-math.inf, *bins.edges, math.inf)
    for value, slot in zip(values, bins.slot_of(np.array(values, dtype=np.float64)).tolist(), strict=True):
        assert first <= slot < first + bins.slots
        if math.isnan(value):
            assert slot == first + bins.slots - 1
        else:
            bin_ = slot - first
            assert edges[bin_] < value <= edges[bin_ + 1] or value == -math.inf


@given(BASELINE)
@example([-sys.float_info.max, sys.float_info.max])
def test_edges_rise_and_are_numbers(baseline: list[float]) -> None:
    edges = numeric_bins("f", 0, np.array(baseline, dtype=np.float64)).edges
    assert len(edges) <= 9
    assert all(math.isfinite(edge) for edge in edges)
    assert all(low < high for low, high in zip(edges, edges[1:], strict=False))


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 4))
def test_counts_conserve_rows(values: list[int], groups: int) -> None:
    numbers = np.array(values, dtype=np.float64)
    layout = FeatureLayout()
    for name in ("a", "b"):
        layout = layout.extended(numeric_bins(name, layout.slots, numbers))
    slots = np.stack([bins.slot_of(numbers) for bins in layout.features if isinstance(bins, NumericBins)], axis=1)
    group = np.array([i % groups for i in range(len(values))], dtype=np.int64)
    counts = count_slots(group, groups, slots, layout.slots)
    assert counts.shape == (groups, layout.slots)
    for bins in layout.features:
        of_feature = counts[:, bins.first_slot : bins.first_slot + bins.slots]
        assert of_feature.sum(axis=1).tolist() == np.bincount(group, minlength=groups).tolist()


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 9), max_size=70))
def test_the_most_frequent_values_have_slots_of_their_own(counts: dict[str, int]) -> None:
    bins = categorical_bins("f", 7, list(counts), list(counts.values()))
    assert len(bins.values) == min(len(counts), TOP_VALUES)
    left_out = max((n for value, n in counts.items() if value not in bins.values), default=0)
    assert all(counts[value] >= left_out for value in bins.values)
    assert (bins.other, bins.missing) == (7 + len(bins.values), 8 + len(bins.values))
    assert bins.missing == bins.first_slot + bins.slots - 1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_features_of_a_layout_never_share_a_slot(sizes: list[int]) -> None:
    layout = FeatureLayout()
    for i, size in enumerate(sizes):
        values = tuple(str(value) for value in range(min(size, TOP_VALUES)))
        layout = layout.extended(CategoricalBins(name=str(i), first_slot=layout.slots, values=values))
    owned = [slot for bins in layout.features for slot in range(bins.first_slot, bins.first_slot + bins.slots)]
    assert owned == list(range(layout.slots))
