"""The statistics that a timed run has left in Postgres, against what the workload says they must be."""

import json
import math
from collections import Counter
from typing import Any, Final

import asyncpg
import numpy as np

from bench.expected import Expected, Figures, Layouts
from bench.statuses import Judge
from service.domain.outcomes import ENDS, Outcome

_PART: Final = 1e-9
"""Sums may differ by so much of the sum of all that was added, whatever its sign: ours are exact, these are not."""
_ENDS: Final = {outcome.name for outcome in ENDS}
"""Of tombstones, which are no statuses."""
_SCALE: Final = {"error": "absolute_error"}
_PREDICTIONS: Final = "SELECT deployment_id, sum(predictions)::bigint AS rows FROM prediction_cells GROUP BY 1"
_OUTCOMES: Final = """
SELECT deployment_id, code - 1 AS code, sum(records)::bigint AS records
FROM prediction_cells, unnest(outcomes) WITH ORDINALITY AS counted (records, code) GROUP BY 1, 2
"""
_FEATURES: Final = """
SELECT deployment_id, slot - 1 AS slot, sum(rows)::bigint AS rows
FROM prediction_cells, unnest(feature_counts) WITH ORDINALITY AS counted (rows, slot) GROUP BY 1, 2
"""
_ACCURACY: Final = """
SELECT deployment_id, sum(matched)::bigint AS matched, sum(error_sum) AS error,
  sum(absolute_error_sum) AS absolute_error, sum(squared_error_sum) AS squared_error, sum(actual_sum) AS actual,
  sum(actual_square_sum) AS actual_square,
  sum((SELECT coalesce(sum(rows), 0) FROM unnest(confusion_counts) AS rows))::bigint AS judged
FROM accuracy_cells GROUP BY 1
"""


class WrongFigure(Exception):
    """A figure in the database is not what the workload says it must be."""


async def layouts_of(dsn: str) -> Layouts:
    """The bins of every deployment, as their baselines have fixed them."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT deployment_id, layout FROM baselines")
    finally:
        await connection.close()
    return {row["deployment_id"]: json.loads(row["layout"])["features"] for row in rows}


async def check_totals(dsn: str, expected: Expected, judge: Judge) -> int:
    """Raises `WrongFigure`; returns how many figures were compared."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = {name: await connection.fetch(query) for name, query in _QUERIES.items()}
    finally:
        await connection.close()
    found = {name: dict(figures) for name, figures in _by_deployment(rows["accuracy"]).items()}
    predictions = {row["deployment_id"]: row["rows"] for row in rows["predictions"]}
    outcomes = Counter({(row["deployment_id"], Outcome(row["code"]).name): row["records"] for row in rows["outcomes"]})
    features: dict[str, dict[int, int]] = {}
    for row in rows["features"]:
        features.setdefault(row["deployment_id"], {})[row["slot"]] = row["rows"]
    compared = 0
    for name, figures in expected.figures.items():
        _equal(name, "predictions", predictions.get(name, 0), figures.predictions)
        compared += 1 + _check_accuracy(name, found.get(name, {}), figures)
        compared += _check_features(name, features.get(name, {}), figures)
    words = {(name, word) for name, word in (*judge.outcomes, *outcomes) if word not in _ENDS}
    for name, word in words:
        _equal(name, f"statuses {word}", outcomes[name, word], judge.outcomes[name, word])
    return compared + len(words)


_QUERIES: Final = {"predictions": _PREDICTIONS, "outcomes": _OUTCOMES, "features": _FEATURES, "accuracy": _ACCURACY}


def _by_deployment(rows: list[Any]) -> dict[str, Any]:
    return {row["deployment_id"]: row for row in rows}


def _check_accuracy(name: str, found: dict[str, Any], figures: Figures) -> int:
    _equal(name, "matched rows", found.get("matched", 0), figures.matched)
    if not figures.sums:
        _equal(name, "rows in the confusion matrix", found.get("judged", 0), figures.matched)
        return 2
    for column, total in figures.sums.items():
        scale = figures.sums[_SCALE.get(column, column)]
        if not math.isclose(float(found[column]), total, rel_tol=0, abs_tol=abs(scale) * _PART):
            raise WrongFigure(f"{name}: the sum of {column} is {found[column]}, it must be {total}")
    return 1 + len(figures.sums)


def _check_features(name: str, found: dict[int, int], figures: Figures) -> int:
    """Every slot; a cell without any of the rows of a slot at its end need not have it."""
    width = len(figures.features)
    counts = np.array([found.get(slot, 0) for slot in range(width)], dtype=np.int64)
    different = np.flatnonzero(counts != figures.features)
    if len(different) or max(found, default=-1) >= width:
        slot = int(different[0]) if len(different) else width
        told = f"{len(different)} slots of features; the first is {slot}"
        raise WrongFigure(f"{name}: {told}: {found.get(slot, 0)} rows, {figures.features[slot : slot + 1]} expected")
    return width


def _equal(name: str, what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise WrongFigure(f"{name}: {what}: {found}, it must be {wanted}")
