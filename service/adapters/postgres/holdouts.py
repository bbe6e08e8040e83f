"""Holdouts as the `holdout` column of a baseline has them: JSON, with sums as texts, as they have too many digits."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from service.domain.stats.accuracy import Accuracy
from service.domain.stats.histogram import NumericBins
from service.usecases.holdout import Holdout, Scores


def holdout_to_json(holdout: Holdout) -> dict[str, Any]:
    return {
        "rows": holdout.rows,
        "scores": [_scores_to_json(one) for one in holdout.scores],
        "predicted": dict(holdout.predicted),
        "accuracy": None if holdout.accuracy is None else _accuracy_to_json(holdout.accuracy),
    }


def holdout_from_json(stored: Mapping[str, Any]) -> Holdout:
    accuracy = stored["accuracy"]
    return Holdout(
        rows=stored["rows"],
        scores=tuple(_scores_from_json(one) for one in stored["scores"]),
        predicted=stored["predicted"],
        accuracy=None if accuracy is None else _accuracy_from_json(accuracy),
    )


def _scores_to_json(scores: Scores) -> dict[str, Any]:
    return {
        "label": scores.label,
        "edges": list(scores.bins.edges),
        "counts": list(scores.counts),
        "deciles": list(scores.deciles),
        "total": str(scores.total),
    }


def _scores_from_json(stored: Mapping[str, Any]) -> Scores:
    edges = tuple(float(edge) for edge in stored["edges"])
    return Scores(
        label=stored["label"],
        bins=NumericBins(name=stored["label"], first_slot=0, edges=edges),
        counts=tuple(stored["counts"]),
        deciles=tuple(float(decile) for decile in stored["deciles"]),
        total=int(stored["total"]),
    )


def _accuracy_to_json(accuracy: Accuracy) -> dict[str, Any]:
    sums = {one.name: str(getattr(accuracy, one.name)) for one in fields(accuracy) if one.name != "confusion"}
    return sums | {"confusion": [[pair, rows] for pair, rows in sorted(accuracy.confusion.items())]}


def _accuracy_from_json(stored: Mapping[str, Any]) -> Accuracy:
    sums = {name: int(total) for name, total in stored.items() if name != "confusion"}
    return Accuracy(**sums, confusion={pair: rows for pair, rows in stored["confusion"]})
