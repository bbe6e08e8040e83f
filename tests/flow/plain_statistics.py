"""The statistics worked out a second time, one record after the other, in plain Python: it shares no code with the
service, and says for a list of events what the numbers must be.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

Event = Mapping[str, Any]
"""A prediction or an actual as the JSON object that was sent; `timestamp` in RFC 3339."""
Place = tuple[str, str, datetime]
"""Deployment, model, hour of the prediction."""
CUT = 1e-15


@dataclass(slots=True)
class Plain:
    """What one place must count."""

    predictions: int = 0
    first: datetime | None = None
    last: datetime | None = None
    matched: int = 0
    error: Fraction = Fraction(0)
    absolute_error: Fraction = Fraction(0)
    squared_error: Fraction = Fraction(0)
    actual: Fraction = Fraction(0)
    actual_square: Fraction = Fraction(0)
    log_losses: list[float] = field(default_factory=list)
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    features: Counter[tuple[str, str]] = field(default_factory=Counter)


def place_of(prediction: Event) -> Place:
    at = moment(prediction)
    return (
        prediction["deploymentId"],
        prediction.get("modelId", "model-1"),
        at.replace(minute=0, second=0, microsecond=0),
    )


def moment(event: Event) -> datetime:
    return datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).astimezone(UTC)


def traffic(predictions: Iterable[Event]) -> dict[Place, Plain]:
    """Each prediction once, whatever else is known of it."""
    places: dict[Place, Plain] = {}
    for prediction in predictions:
        plain = places.setdefault(place_of(prediction), Plain())
        at = moment(prediction)
        plain.predictions += 1
        plain.first = at if plain.first is None else min(plain.first, at)
        plain.last = at if plain.last is None else max(plain.last, at)
    return places


def held(actuals: Iterable[Event]) -> Event | None:
    """The greatest actual by timestamp, then text; None where it withdraws or there is none."""

    def rank(event: Event) -> tuple[datetime, str]:
        value = event["actual"]
        text = "null" if value is None else f'"{value}"' if isinstance(value, str) else repr(float(value))
        return moment(event), text

    greatest = max(actuals, key=rank, default=None)
    return greatest if greatest is not None and greatest["actual"] is not None else None


def pairs(predictions: Sequence[Event], actuals: Sequence[Event]) -> list[tuple[Event, Any]]:
    """Every prediction (the first of its ID) that has an actual, with the one that is held."""
    found = []
    firsts: dict[str, Event] = {}
    for prediction in predictions:
        firsts.setdefault(prediction["associationId"], prediction)
    for name, prediction in firsts.items():
        truth = held(actual for actual in actuals if actual["associationId"] == name)
        if truth is not None:
            found.append((prediction, truth["actual"]))
    return found


def regression(found: Iterable[tuple[Event, Any]]) -> dict[Place, Plain]:
    places: dict[Place, Plain] = {}
    for prediction, truth in found:
        plain = places.setdefault(place_of(prediction), Plain())
        y = Fraction(truth)
        error = Fraction(prediction["prediction"]) - y
        plain.matched += 1
        plain.error += error
        plain.absolute_error += abs(error)
        plain.squared_error += error * error
        plain.actual += y
        plain.actual_square += y * y
    return places


def binary(
    found: Iterable[tuple[Event, Any]], positive: str, negative: str, threshold: Mapping[str, float]
) -> dict[Place, Plain]:
    places: dict[Place, Plain] = {}
    for prediction, truth in found:
        place, value = place_of(prediction), prediction["prediction"]
        plain = places.setdefault(place, Plain())
        plain.matched += 1
        if isinstance(value, str):
            plain.confusion[truth, value] += 1
            continue
        score = value[positive] if positive in value else 1 - value[negative]
        plain.confusion[truth, positive if score >= threshold[place[1]] else negative] += 1
        plain.log_losses.append(_loss(score if truth == positive else 1 - score))
    return places


def multiclass(found: Iterable[tuple[Event, Any]], classes: Sequence[str]) -> dict[Place, Plain]:
    places: dict[Place, Plain] = {}
    for prediction, truth in found:
        plain, value = places.setdefault(place_of(prediction), Plain()), prediction["prediction"]
        plain.matched += 1
        if isinstance(value, str):
            plain.confusion[truth, value] += 1
            continue
        best = max(value.values())
        winner = next(label for label in classes if value.get(label) == best)
        plain.confusion[truth, winner] += 1
        plain.log_losses.append(_loss(value.get(truth, 0.0)))
    return places


def _loss(share: float) -> float:
    return -math.log(min(max(share, CUT), 1 - CUT))


def numeric_bin(value: Any, edges: Sequence[float]) -> str:
    """`<= e` for the first edge that the value does not exceed, `> e` beyond the last, `missing` for no number."""
    if value is None or isinstance(value, str | bool):
        return "missing"
    for edge in edges:
        if value <= edge:
            return f"<= {edge}"
    return f"> {edges[-1]}"


def category(value: Any, values: Sequence[str]) -> str:
    if value is None:
        return "missing"
    text = value if isinstance(value, str) else "true" if value is True else "false" if value is False else str(value)
    return text if text in values else "other"
