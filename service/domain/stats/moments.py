"""Exact sums: adding a row and subtracting it again gives the old sum back, to the last digit.

Each contribution is rounded once to a whole number of quanta of 1e-18; from there on everything is integer
arithmetic. The same value always gives the same quanta, so a subtraction takes away exactly what was added. Sums of
columns are taken in float64 limbs of 40 bits, which are exact for the sizes of a micro-batch, and put together as
Python integers. Contributions beyond 1e200 are cut to it (their squares would not be finite).
"""

from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

QUANTUM_DIGITS = 18
_QUANTA = 1e18
_LIMB = float(1 << 40)
_LIMBS_HOLD = 1e36
_CHUNK = 8192
_CUT = 1e200
_WIDE = Context(prec=400)


def quanta(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value (n,) as a whole number of quanta, in a float64 that holds it exactly."""
    return np.rint(np.clip(values, -_CUT, _CUT) * _QUANTA)


def exact_sums(groups: NDArray[np.int64], group_count: int, values: NDArray[np.float64]) -> list[int]:
    """Sum of the values (n,) of each group, in quanta: exact integers, one per group."""
    whole = quanta(values)
    sums = [0] * group_count
    huge = np.abs(whole) >= _LIMBS_HOLD
    if huge.any():
        for group, value in zip(groups[huge].tolist(), whole[huge].tolist(), strict=True):
            sums[group] += int(value)
        groups, whole = groups[~huge], whole[~huge]
    for start in range(0, len(whole), _CHUNK):
        _add_chunk(sums, groups[start : start + _CHUNK], whole[start : start + _CHUNK])
    return sums


def _add_chunk(sums: list[int], groups: NDArray[np.int64], whole: NDArray[np.float64]) -> None:
    high = np.floor(whole / _LIMB)
    low = whole - high * _LIMB
    top = np.floor(high / _LIMB)
    middle = high - top * _LIMB
    limbs = [np.bincount(groups, weights=limb).tolist() for limb in (low, middle, top)]
    for group, (a, b, c) in enumerate(zip(*limbs, strict=True)):
        sums[group] += int(a) + (int(b) << 40) + (int(c) << 80)


def as_decimal(total: int) -> Decimal:
    """A sum of quanta as the number that it stands for."""
    return Decimal(total).scaleb(-QUANTUM_DIGITS, context=_WIDE)


def as_quanta(number: Decimal) -> int:
    """The inverse of `as_decimal`."""
    return int(number.scaleb(QUANTUM_DIGITS, context=_WIDE))
