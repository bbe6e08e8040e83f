"""Sums that can be undone to the last digit, in any order and grouping."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.domain.stats.moments import as_decimal, as_quanta, exact_sums, quanta

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ORDINARY = st.floats(min_value=-1e6, max_value=1e6)
VALUES = st.lists(FINITE | ORDINARY, max_size=60)


def column(values: Sequence[float]) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def total(values: Sequence[float]) -> int:
    return exact_sums(np.zeros(len(values), dtype=np.int64), 1, column(values))[0]


@given(VALUES)
def test_a_sum_is_that_of_the_rounded_quanta(values: list[float]) -> None:
    assert total(values) == sum(int(Fraction(whole)) for whole in quanta(column(values)).tolist())


@given(st.floats(min_value=-1e200, max_value=1e200))
def test_a_quantum_is_a_whole_number_near_the_value(value: float) -> None:
    whole = Fraction(quanta(column([value]))[0].item())
    assert whole.denominator == 1
    error = abs(whole - Fraction(value) * 10**18)
    assert error <= Fraction(1, 2) + abs(Fraction(value)) * 10**18 * Fraction(1, 2**52)


@given(VALUES, VALUES)
def test_adding_then_subtracting_gives_the_old_sum(held: list[float], passing: list[float]) -> None:
    signs = np.array([1] * len(held) + [1] * len(passing) + [-1] * len(passing), dtype=np.int64)
    groups = np.zeros(len(signs), dtype=np.int64)
    assert exact_sums(groups, 1, column(held + passing + passing) * signs)[0] == total(held)
    assert total(held + passing) + total([-value for value in passing]) == total(held)


@given(VALUES, st.randoms(use_true_random=False), st.integers(0, 60))
def test_neither_order_nor_grouping_matters(values: list[float], random: Random, cut: int) -> None:
    shuffled = random.sample(values, len(values))
    assert total(shuffled) == total(values)
    assert total(shuffled[:cut]) + total(shuffled[cut:]) == total(values)


@given(st.lists(st.tuples(st.integers(0, 4), FINITE), max_size=60))
def test_each_group_has_the_sum_of_its_own(rows: list[tuple[int, float]]) -> None:
    groups = np.array([group for group, _ in rows], dtype=np.int64)
    sums = exact_sums(groups, 5, column([value for _, value in rows]))
    assert sums == [total([value for group, value in rows if group == i]) for i in range(5)]


@given(st.sampled_from([1.0, -1.0, 0.1, 9.9e17, -9.9e17, 999_999_999_999_999_900.0]), st.integers(8_000, 20_000))
def test_many_equal_values_lose_nothing(value: float, rows: int) -> None:
    assert total([value] * rows) == rows * int(quanta(column([value]))[0])


@given(st.integers(-(10**300), 10**300))
def test_a_sum_survives_its_decimal_form(sum_: int) -> None:
    assert as_quanta(as_decimal(sum_)) == sum_
    assert Fraction(as_decimal(sum_)) == Fraction(sum_, 10**18)


def test_a_sum_reads_as_the_number_it_stands_for() -> None:
    assert as_decimal(total([0.5, 0.25, -1.0])) == Decimal("-0.25")
