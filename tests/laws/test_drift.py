"""Drift: ranges, nothing for equal counts, distances the same both ways, and other ways to the same value."""

from math import inf, log, log2, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.stats.drift import FeatureDrift, feature_drift
from service.domain.stats.histogram import CategoricalBins, FeatureBins, NumericBins

MOST = {
    "psi": inf,
    "kl_divergence": inf,
    "js_divergence": 1.0,
    "hellinger": 1.0,
    "dissimilarity": 1.0,
    "wasserstein": 1.0,
    "energy": sqrt(2),
}
ORDERED = ("wasserstein", "energy")
SYMMETRIC = tuple(MOST.keys() - {"kl_divergence"})

COUNT = st.integers(0, 20) | st.integers(0, 10**12)
FEATURES: st.SearchStrategy[FeatureBins] = st.builds(
    lambda first, edges: NumericBins(name="f", first_slot=first, edges=tuple(float(edge) for edge in range(edges))),
    st.integers(0, 3),
    st.integers(0, 9),
) | st.builds(
    lambda first, values: CategoricalBins(name="f", first_slot=first, values=tuple(str(i) for i in range(values))),
    st.integers(0, 3),
    st.integers(0, 50),
)


@st.composite
def compared(draw: st.DrawFn) -> tuple[FeatureBins, list[int], list[int]]:
    """A feature, and two counts of a layout in which others stand before and after it."""
    bins = draw(FEATURES)
    counts = st.lists(COUNT, min_size=bins.first_slot + bins.slots + 1, max_size=bins.first_slot + bins.slots + 1)
    return bins, draw(counts), draw(counts)


def drifted(bins: FeatureBins, counts: list[int], baseline: list[int]) -> FeatureDrift:
    (one,) = feature_drift(bins, np.array([counts]), np.array(baseline))
    return one


def own(bins: FeatureBins, counts: list[int]) -> list[int]:
    return counts[bins.first_slot : bins.first_slot + bins.slots]


@given(compared())
def test_every_figure_is_in_its_range_or_none(case: tuple[FeatureBins, list[int], list[int]]) -> None:
    bins, counts, baseline = case
    one = drifted(*case)
    assert (one.n, one.m) == (sum(own(bins, counts)), sum(own(bins, baseline)))
    for name, most in MOST.items():
        value = getattr(one, name)
        if name in ORDERED:
            known = isinstance(bins, NumericBins) and any(own(bins, counts)[:-1]) and any(own(bins, baseline)[:-1])
        else:
            known = one.n > 0 and one.m > 0
        assert (value is not None) == known
        assert value is None or 0 <= value <= most


@given(compared())
def test_equal_counts_have_not_drifted(case: tuple[FeatureBins, list[int], list[int]]) -> None:
    bins, counts, _ = case
    one = drifted(bins, counts, counts)
    assert {getattr(one, name) for name in MOST} <= {0.0, None}


@given(compared())
def test_distances_are_the_same_both_ways(case: tuple[FeatureBins, list[int], list[int]]) -> None:
    bins, counts, baseline = case
    there, back = drifted(bins, counts, baseline), drifted(bins, baseline, counts)
    for name in SYMMETRIC:
        one, other = getattr(there, name), getattr(back, name)
        assert one is other is None or one == pytest.approx(other, rel=1e-9, abs=1e-12)


@given(compared(), st.data())
def test_rows_of_counts_are_compared_each_by_itself(
    case: tuple[FeatureBins, list[int], list[int]], data: st.DataObject
) -> None:
    bins, counts, baseline = case
    others = [counts, *(data.draw(st.permutations(counts)) for _ in range(2))]
    assert feature_drift(bins, np.array(others), np.array(baseline)) == [
        drifted(bins, other, baseline) for other in others
    ]


@given(compared())
def test_the_formulae_term_by_term(case: tuple[FeatureBins, list[int], list[int]]) -> None:
    bins, counts, baseline = case
    one = drifted(*case)
    if one.psi is None:
        return
    k = bins.slots
    p = [(count + 0.5) / (one.n + 0.5 * k) for count in own(bins, counts)]
    q = [(count + 0.5) / (one.m + 0.5 * k) for count in own(bins, baseline)]
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    expected = {
        "psi": sum((a - b) * log(a / b) for a, b in zip(p, q, strict=True)),
        "kl_divergence": sum(a * log(a / b) for a, b in zip(p, q, strict=True)),
        "js_divergence": sum((a * log2(a / c) + b * log2(b / c)) / 2 for a, b, c in zip(p, q, m, strict=True)),
        "hellinger": sqrt(sum((sqrt(a) - sqrt(b)) ** 2 for a, b in zip(p, q, strict=True))) / sqrt(2),
        "dissimilarity": sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2,
    }
    for name, value in expected.items():
        assert getattr(one, name) == pytest.approx(value, rel=1e-9, abs=1e-12)


@given(compared())
def test_distances_by_moving_rows_and_by_pairs_of_rows(case: tuple[FeatureBins, list[int], list[int]]) -> None:
    """Wasserstein: what it costs to move one heap into the other from left to right. Energy: by all pairs of bins."""
    bins, counts, baseline = case
    one = drifted(*case)
    if one.wasserstein is None or one.energy is None:
        return
    p, q = (np.array(own(bins, rows)[:-1]) / sum(own(bins, rows)[:-1]) for rows in (counts, baseline))
    places = np.arange(len(p)) / max(len(p) - 1, 1)
    apart = np.abs(places[:, None] - places[None, :])
    assert one.wasserstein == pytest.approx(cost_of_moving(p.tolist(), q.tolist(), apart.tolist()), abs=1e-9)
    assert one.energy**2 == pytest.approx(2 * p @ apart @ q - p @ apart @ p - q @ apart @ q, abs=1e-9)


def cost_of_moving(supply: list[float], demand: list[float], apart: list[list[float]]) -> float:
    cost, here, there = 0.0, 0, 0
    while here < len(supply) and there < len(demand):
        moved = min(supply[here], demand[there])
        cost += moved * apart[here][there]
        supply[here] -= moved
        demand[there] -= moved
        if supply[here] <= demand[there]:
            here += 1
        else:
            there += 1
    return cost
