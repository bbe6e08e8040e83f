"""Drift by examples that can be checked by hand."""

from math import log, sqrt

import numpy as np
import pytest

from service.domain.stats import drift
from service.domain.stats.drift import FeatureDrift, Shares, feature_drift
from service.domain.stats.histogram import CategoricalBins, NumericBins

P, Q = np.array([0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4])
ORIGIN = CategoricalBins(name="origin", first_slot=0, values=("EWR",))
DELAY = NumericBins(name="delay", first_slot=3, edges=(0.0, 10.0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("psi", 0.062861),
        ("kl_divergence", 0.030479),
        ("js_divergence", 0.011278),
        ("hellinger", 0.088529),
        ("dissimilarity", 0.1),
    ],
)
def test_check_values_without_smoothing(name: str, value: float) -> None:
    figure: Shares = getattr(drift, name)(P, Q)
    assert float(figure) == pytest.approx(value, abs=5e-7)


#   position    0     1/2     1
#   P           .2    .5      1
#   Q           .3    .6      1


def test_what_needs_an_order() -> None:
    assert float(drift.wasserstein(P, Q)) == pytest.approx((0.1 + 0.1) / 2)
    assert float(drift.energy(P, Q)) == pytest.approx(sqrt(2 * (0.01 + 0.01) / 2))
    ends = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    assert (float(drift.wasserstein(*ends)), float(drift.energy(*ends))) == (1.0, sqrt(2))
    assert (float(drift.wasserstein(P[:1], Q[:1])), float(drift.energy(P[:1], Q[:1]))) == (0.0, 0.0)


def test_of_two_bins_all_that_is_moved_goes_the_whole_way() -> None:
    here, there = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert (float(drift.wasserstein(here, there)), float(drift.energy(here, there))) == (1.0, sqrt(2))


@pytest.mark.parametrize(
    ("name", "most"),
    [("js_divergence", 1.0), ("hellinger", 1.0), ("dissimilarity", 1.0), ("wasserstein", 1.0), ("energy", sqrt(2))],
)
def test_shares_that_rounding_made_too_large_do_not_lead_out_of_the_range(name: str, most: float) -> None:
    here = np.array([1 + 1e-15, 1e-300, 1e-300])
    figure: Shares = getattr(drift, name)(here, here[::-1])
    assert float(figure) == most


def test_shares_that_differ_by_rounding_alone_do_not_lead_below_zero() -> None:
    shares = np.array([1 / 3, 2 / 3])
    assert float(drift.js_divergence(shares, np.nextafter(shares, 1))) >= 0


def of(*counts: int, baseline: tuple[int, ...], bins: CategoricalBins | NumericBins) -> FeatureDrift:
    (one,) = feature_drift(bins, np.array([counts]), np.array(baseline))
    return one


def test_half_a_row_is_added_to_each_bin() -> None:
    """Shares of a bin each of values, other and missing: 3.5, 0.5 and 0.5 of 4.5; 1.5, 0.5 and 0.5 of 2.5."""
    one = of(3, 0, 0, 9, 9, 9, 9, baseline=(1, 0, 0, 9, 9, 9, 9), bins=ORIGIN)
    expected = (3.5 / 4.5 - 0.6) * log(3.5 / 4.5 / 0.6) + 2 * (0.5 / 4.5 - 0.2) * log(0.5 / 4.5 / 0.2)
    assert (one.feature, one.n, one.m) == ("origin", 3, 1)
    assert one.psi == pytest.approx(expected)
    assert (one.wasserstein, one.energy) == (None, None)


def test_missing_has_a_share_but_no_position() -> None:
    one = of(0, 0, 0, 2, 2, 0, 96, baseline=(0, 0, 0, 1, 1, 0, 0), bins=DELAY)
    assert (one.n, one.m) == (100, 2)
    assert one.psi is not None and one.psi > 1
    assert (one.wasserstein, one.energy) == (0.0, 0.0)


def test_one_row_on_each_side_is_enough() -> None:
    low, high = (0, 0, 0, 1, 0, 0, 0), (0, 0, 0, 0, 0, 1, 0)
    for counts, baseline in ((low, high), (high, low)):
        one = of(*counts, baseline=baseline, bins=DELAY)
        assert (one.n, one.m, one.wasserstein, one.energy) == (1, 1, 1.0, sqrt(2))
        assert one.psi == pytest.approx(2 / 3 * log(3))


def test_without_rows_on_either_side_there_is_no_figure() -> None:
    full, empty = (1, 1, 1, 1, 1, 1, 1), (0,) * 7
    for bins in (ORIGIN, DELAY):
        for counts, baseline in ((full, empty), (empty, full), (empty, empty)):
            one = of(*counts, baseline=baseline, bins=bins)
            figures = (one.psi, one.kl_divergence, one.js_divergence, one.hellinger, one.dissimilarity)
            assert {*figures, one.wasserstein, one.energy} == {None}


def test_without_a_known_value_on_either_side_there_is_no_distance() -> None:
    some, missing = (0, 0, 0, 1, 1, 1, 0), (0, 0, 0, 0, 0, 0, 3)
    for counts, baseline in ((some, missing), (missing, some)):
        one = of(*counts, baseline=baseline, bins=DELAY)
        assert one.psi is not None
        assert (one.wasserstein, one.energy) == (None, None)


def test_every_row_of_counts_has_its_own() -> None:
    counts = np.array([[4, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0], [0, 4, 0, 0, 0, 0, 0]])
    same, none, other = feature_drift(ORIGIN, counts, counts[0])
    assert (same.psi, none.psi) == (0.0, None)
    assert other.psi is not None and other.psi > 1
