"""The model whose worth the demo shows: a logistic regression of January's flights, by Newton's method with a ridge.

Small on purpose: it uses what is known at departure, learns in a fraction of a second and is never fitted again, so its
year tells a story. Nothing here is random. It is not a library: the features are those of `flights.py`.

    log-odds of late = weights . numbers + effect of the origin + effect of the carrier

A category that January did not have has no effect; a number that is missing counts as its neutral value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

EFFECTS_OF: Final = ("origin", "carrier")
RIDGE: Final = 1.0
MAX_STEPS: Final = 30
TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class LateModel:
    """What January taught."""

    weights: Floats
    effects: Mapping[str, Mapping[str, float]]

    def probability_of_late(self, flights: pl.DataFrame) -> Floats:
        log_odds = _numbers(flights) @ self.weights
        for column, effect in self.effects.items():
            log_odds = log_odds + _looked_up(flights[column], effect)
        return _logistic(log_odds)


def fit_january(flights: pl.DataFrame) -> LateModel:
    """The model of those January flights whose truth is known."""
    seen = flights.filter("january", pl.col("late").is_not_null())
    levels = {column: sorted(seen[column].unique()) for column in EFFECTS_OF}
    numbers = _numbers(seen)
    design = np.hstack([numbers, *(_one_hot(seen[column], levels[column]) for column in EFFECTS_OF)])
    weights = _newton(design, seen["late"].cast(pl.Float64).to_numpy())
    return LateModel(weights=weights[: numbers.shape[1]], effects=_effects(levels, weights[numbers.shape[1] :]))


def _numbers(flights: pl.DataFrame) -> Floats:
    """The delay bends where it matters: before its first minute, at the 15 minutes that make a flight late, at 45."""
    delay = pl.col("dep_delay").fill_null(0).cast(pl.Float64)
    hour = (pl.col("hour").cast(pl.Float64) - 13.0) / 6.0
    columns = flights.select(
        one=pl.lit(1.0),
        ahead=delay.clip(-20, 0) / 10,
        small=delay.clip(0, 15) / 15,
        large=(delay - 15).clip(0, 30) / 30,
        huge=(delay - 45).clip(0, 120) / 120,
        distance=pl.col("distance").cast(pl.Float64) / 1000,
        hour=hour,
        hour_squared=hour.pow(2),
        cold=(40.0 - pl.col("temperature").fill_null(40.0)) / 20,
        murk=(10.0 - pl.col("visibility").fill_null(10.0)) / 10,
    )
    return columns.to_numpy()


def _one_hot(column: pl.Series, levels: list[str]) -> Floats:
    return np.column_stack([(column == level).cast(pl.Float64).to_numpy() for level in levels])


def _looked_up(column: pl.Series, effect: Mapping[str, float]) -> Floats:
    found = column.replace_strict(list(effect), list(effect.values()), default=0.0, return_dtype=pl.Float64)
    return found.to_numpy()


def _effects(levels: Mapping[str, list[str]], weights: Floats) -> dict[str, dict[str, float]]:
    rest = iter(weights.tolist())
    return {column: {level: next(rest) for level in levels[column]} for column in levels}


def _newton(design: Floats, truth: Floats) -> Floats:
    """The ridge makes the one-hot columns, which add up to the constant, and rare categories well-behaved."""
    ridge = np.full(design.shape[1], RIDGE)
    ridge[0] = 0.0
    weights = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        fitted = _logistic(design @ weights)
        gradient = design.T @ (truth - fitted) - ridge * weights
        curvature = (design.T * (fitted * (1.0 - fitted))) @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step
        if np.abs(step).max() < TOLERANCE:
            return weights
    raise ArithmeticError(f"the fit did not settle within {MAX_STEPS} steps")


def _logistic(log_odds: Floats) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-log_odds))
    return result
