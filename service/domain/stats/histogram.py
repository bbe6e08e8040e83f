"""Bins of features, fixed once by a baseline, and the slots they own in one flat array of counts.

A layout's slots are only ever appended: a cell written under an older, shorter layout stays readable, its missing
tail meaning zero. Bins: numeric = baseline deciles with equal edges merged and open outer bins, then missing;
categorical = the 50 most frequent baseline values, then other, then missing.
"""

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

METHOD = "deciles-top"
TOP_VALUES = 50
_CUT = 1e300
"""Baseline values are cut to this, so that the span between two of them is finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericBins:
    """Bin i holds edges[i-1] < x <= edges[i]; the first and the last are open; slot `len(edges) + 1` is missing."""

    name: str
    first_slot: int
    edges: tuple[float, ...]

    @property
    def slots(self) -> int:
        return len(self.edges) + 2

    def slot_of(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Slot of every value (n,); NaN is missing."""
        bins = np.array([*self.edges, np.inf]).searchsorted(values)  # NaN is sorted behind infinity
        bins += self.first_slot
        return bins

    def slot_of_one(self, value: float | None) -> int:
        """Slot of a value that is not NaN; None is missing."""
        return self.first_slot + (len(self.edges) + 1 if value is None else bisect_left(self.edges, value))


@dataclass(frozen=True, kw_only=True)
class CategoricalBins:
    """Slot i holds values[i]; then come other and missing."""

    name: str
    first_slot: int
    values: tuple[str, ...]

    @property
    def slots(self) -> int:
        return len(self.values) + 2

    @property
    def other(self) -> int:
        return self.first_slot + len(self.values)

    @property
    def missing(self) -> int:
        return self.other + 1

    def slot_of(self, values: Collection[str | None]) -> NDArray[np.int64]:
        """Slot of every value (n,); None is missing. Raises `KeyError` for a value that is no text."""
        return np.fromiter(map(self._numbers.__getitem__, values), dtype=np.int64, count=len(values))

    def slot_of_one(self, value: str | None) -> int:
        """Slot of a value; None is missing."""
        return self._numbers[value]

    @cached_property
    def _numbers(self) -> Mapping[str | None, int]:
        numbers = _Numbers({value: self.first_slot + position for position, value in enumerate(self.values)})
        numbers[None], numbers.other = self.missing, self.other
        return numbers


class _Numbers(dict[str | None, int]):
    """Slots by value; of a value that is no text there is none."""

    other: int

    def __missing__(self, value: object) -> int:
        if type(value) is not str:
            raise KeyError(value)
        return self.other


FeatureBins = NumericBins | CategoricalBins


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLayout:
    """All features of one model and the slots they own, in slot order."""

    features: tuple[FeatureBins, ...] = ()

    @property
    def slots(self) -> int:
        last = self.features[-1] if self.features else None
        return last.first_slot + last.slots if last else 0

    def extended(self, feature: FeatureBins) -> "FeatureLayout":
        """This layout with one feature more, whose `first_slot` must be `self.slots`."""
        if feature.first_slot != self.slots:
            raise ValueError(f"feature {feature.name} must start at slot {self.slots}, not {feature.first_slot}")
        return FeatureLayout(features=(*self.features, feature))


def numeric_bins(name: str, first_slot: int, baseline: NDArray[np.float64]) -> NumericBins:
    """Bins of a numeric feature: the nine inner deciles of its known baseline values, equal ones merged."""
    known = np.clip(baseline[~np.isnan(baseline)], -_CUT, _CUT)
    edges = np.unique(np.quantile(known, np.arange(1, 10) / 10)) if known.size else np.empty(0)
    return NumericBins(name=name, first_slot=first_slot, edges=tuple(float(edge) for edge in edges))


def categorical_bins(name: str, first_slot: int, values: Sequence[str], counts: Sequence[int]) -> CategoricalBins:
    """Bins of a categorical feature: its most frequent baseline values, ties in order of the text."""
    ranked = sorted(zip(values, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))
    return CategoricalBins(name=name, first_slot=first_slot, values=tuple(value for value, _ in ranked[:TOP_VALUES]))


def count_slots(groups: NDArray[np.int64], group_count: int, slots: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Rows per (group, slot): (group_count, width), from the group of each row (n,) and its slots (n, features)."""
    flat = (groups[:, None] * width + slots).ravel(order="K")  # in whatever order they lie in memory
    return np.bincount(flat, minlength=group_count * width).reshape(group_count, width)


def added_counts(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Their sum; a tail that is not there is zero."""
    if len(one) < len(other):
        one, other = other, one
    total = one.copy()
    total[: len(other)] += other
    return total
