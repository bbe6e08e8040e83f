"""How far the scored rows have moved from a baseline, feature by feature, computed from counts per bin.

With c_i scored and b_i baseline rows in the k bins of a feature (other and missing are bins, too), n = sum c and
m = sum b. A figure is None where n or m is 0.

    p_i = (c_i + 0.5) / (n + 0.5 k)    q_i = (b_i + 0.5) / (m + 0.5 k)    smoothed on read; the counts stay as they are

    psi             sum (p_i - q_i) ln(p_i / q_i)                                          0 and up
    kl_divergence   sum p_i ln(p_i / q_i)                                                  0 and up
    js_divergence   1/2 sum p_i log2(p_i / m_i) + 1/2 sum q_i log2(q_i / m_i),
                    m_i = (p_i + q_i) / 2                                                  0 to 1
    hellinger       sqrt(sum (sqrt p_i - sqrt q_i)^2) / sqrt 2                             0 to 1
    dissimilarity   1/2 sum |p_i - q_i|                                                    0 to 1

Two more need an order of the bins, so they are for numeric features only (else None). The B bins of known values stand
at the positions i / (B - 1), i = 0 .. B - 1: by rank, because the outer bins are open and have no middle, and so that
features in different units can be compared. Missing has no position: both are of the rows with a known value, and
without smoothing, since nothing is divided by or put into a logarithm; None where either side has no such row. P_i and
Q_i are the shares up to and with bin i, g = 1 / (B - 1), and a feature with one bin only has not moved:

    wasserstein     sum over i < B - 1 of |P_i - Q_i| g                                    0 to 1
    energy          sqrt(2 sum over i < B - 1 of (P_i - Q_i)^2 g)                          0 to sqrt 2

These are, for distributions on those positions, the integral of |F - G| (Vallender, Calculation of the Wasserstein
distance between probability distributions on the line, 1974) and the root of that of 2 (F - G)^2, which is
2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo, Energy statistics: a class of statistics based on distances,
2013).
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.domain.stats.histogram import FeatureBins, NumericBins

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]

_SMOOTHING: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    """One feature against its baseline; what the figures mean is on top of this file.

    `n` is the number of predictions whose value of this feature was counted, missing values included: each accepted
    prediction once, but neither those that asked to be left out of drift, nor refused ones, duplicates and conflicts,
    nor those that came before the feature had bins. `m` is the same of the baseline's rows.
    """

    feature: str
    n: int
    m: int
    psi: float | None
    kl_divergence: float | None
    js_divergence: float | None
    hellinger: float | None
    dissimilarity: float | None
    wasserstein: float | None
    energy: float | None


def feature_drift(bins: FeatureBins, counts: Counts, baseline: Counts) -> list[FeatureDrift]:
    """One a row of `counts`; both hold the slots of a whole layout: counts (rows, slots), baseline (slots,)."""
    own = slice(bins.first_slot, bins.first_slot + bins.slots)
    scored, known = counts[:, own], baseline[own]
    n, m = scored.sum(axis=1), int(known.sum())
    figures = _by_bins(scored, known) | _by_order(bins, scored, known)
    columns = [_optional(values, there) for values, there in figures.values()]
    return [
        FeatureDrift(feature=bins.name, n=rows, m=m, **dict(zip(figures, row, strict=True)))
        for rows, *row in zip(n.tolist(), *columns, strict=True)
    ]


def smoothed(counts: Counts) -> Shares:
    """Shares of the bins along the last axis, none of them 0."""
    shares: Shares = (counts + _SMOOTHING) / (counts.sum(axis=-1, keepdims=True) + _SMOOTHING * counts.shape[-1])
    return shares


def psi(p: Shares, q: Shares) -> Shares:
    figures: Shares = ((p - q) * np.log(p / q)).sum(axis=-1)
    return figures


def kl_divergence(p: Shares, q: Shares) -> Shares:
    figures: Shares = np.maximum((p * np.log(p / q)).sum(axis=-1), 0.0)
    return figures


def js_divergence(p: Shares, q: Shares) -> Shares:
    middle = (p + q) / 2
    return _within(1.0, ((p * np.log2(p / middle)).sum(axis=-1) + (q * np.log2(q / middle)).sum(axis=-1)) / 2)


def hellinger(p: Shares, q: Shares) -> Shares:
    return _within(1.0, np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(axis=-1)) / sqrt(2))


def dissimilarity(p: Shares, q: Shares) -> Shares:
    return _within(1.0, np.abs(p - q).sum(axis=-1) / 2)


def wasserstein(p: Shares, q: Shares) -> Shares:
    """Of bins in their order, at positions from 0 to 1."""
    return _within(1.0, np.abs(_ahead(p, q)).sum(axis=-1) * _gap(p))


def energy(p: Shares, q: Shares) -> Shares:
    """Of bins in their order, at positions from 0 to 1."""
    return _within(sqrt(2), np.sqrt(2 * (_ahead(p, q) ** 2).sum(axis=-1) * _gap(p)))


def _within(most: float, figures: Shares) -> Shares:
    """Rounding must not lead out of the range."""
    kept: Shares = np.clip(figures, 0.0, most)
    return kept


def _ahead(p: Shares, q: Shares) -> Shares:
    """P_i - Q_i of all bins but the last, where both are 1."""
    differences: Shares = np.cumsum(p - q, axis=-1)[..., :-1]
    return differences


def _gap(p: Shares) -> float:
    return 1 / max(int(p.shape[-1]) - 1, 1)


_Figures = dict[str, tuple[Shares, NDArray[np.bool_]]]
"""Of each name the values, one a row, and whether there is one."""


def _by_bins(scored: Counts, known: Counts) -> _Figures:
    p, q = smoothed(scored), smoothed(known)
    there = (scored.sum(axis=1) > 0) & bool(known.sum() > 0)
    return {
        "psi": (psi(p, q), there),
        "kl_divergence": (kl_divergence(p, q), there),
        "js_divergence": (js_divergence(p, q), there),
        "hellinger": (hellinger(p, q), there),
        "dissimilarity": (dissimilarity(p, q), there),
    }


def _by_order(bins: FeatureBins, scored: Counts, known: Counts) -> _Figures:
    placed, placed_known = scored[:, :-1], known[:-1]  # without missing, the last one
    n, m = placed.sum(axis=1), placed_known.sum()
    there = (n > 0) & bool(m > 0) & isinstance(bins, NumericBins)
    p, q = placed / np.maximum(n, 1)[:, None], placed_known / max(m, 1)
    return {"wasserstein": (wasserstein(p, q), there), "energy": (energy(p, q), there)}


def _optional(values: Shares, there: NDArray[np.bool_]) -> list[float | None]:
    return [value if known else None for value, known in zip(values.tolist(), there.tolist(), strict=True)]
