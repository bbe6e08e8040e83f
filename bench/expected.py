"""What a workload must come to, worked out from its events alone: of every row, and of every figure in the database.

Nothing of the pipeline is used. Texts are kept as 64-bit hashes, so a million rows fit into memory beside the servers.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from msgspec import Raw
from numpy.typing import NDArray

from bench.workloads import PARTITIONS, Events
from service.devstack.demo.replay import ACTUAL, PREDICTION
from service.domain.ids import murmur2_many

Layouts = Mapping[str, Sequence[Mapping[str, Any]]]
"""Bins of each deployment's features, as the database holds them."""
NOTHING: Final = 0
"""Hash of a text that is not there."""


class _Event(msgspec.Struct, gc=False, rename="camel"):
    deployment_id: str
    association_id: str
    timestamp: datetime
    prediction: Raw = Raw()
    actual: float | str | None = None
    features: dict[str, float | str | None] = {}


_decode = msgspec.json.Decoder(_Event).decode


def digest(text: bytes | Raw) -> int:
    """Hash of a JSON text, `NOTHING` of none."""
    content = bytes(text)
    return xxhash.xxh3_64_intdigest(content) if content else NOTHING


@dataclass(slots=True, kw_only=True)
class Figures:
    """Of one deployment, over all hours, models and batches."""

    predictions: int = 0
    matched: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    """Of a regression: by the name of its column in `accuracy_cells`, without `_sum`."""
    features: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Rows per slot of the layout."""


@dataclass(slots=True, kw_only=True)
class Expected:
    """Columns over events (in the order of loading) and over rows."""

    topics: NDArray[np.int8]
    rows: NDArray[np.int64]
    at_us: NDArray[np.int64]
    texts: NDArray[np.uint64]
    """Hash of the prediction as it was sent, or of the actual's JSON text."""
    places: dict[tuple[int, int], NDArray[np.int64]]
    """Of each topic and partition, its events by offset."""
    keys: NDArray[np.uint64]
    """Of each row: hash of its key on the status topic."""
    homes: NDArray[np.int64]
    deployments: list[str]
    deployment_of: NDArray[np.int16]
    """Of each row, as an index into the deployments."""
    held: NDArray[np.uint64]
    """Of each row: the text of the actual that must hold in the end."""
    figures: dict[str, Figures]

    def __len__(self) -> int:
        return len(self.rows)


def expect(chunks: Iterable[Events], predictions: int, layouts: Layouts) -> Expected:
    """Read all events of a workload with so many predictions."""
    reading = _Reading(predictions, layouts)
    for events in chunks:
        reading.add(events)
    return reading.done()


class _Reading:
    def __init__(self, rows: int, layouts: Layouts) -> None:
        self._layouts = layouts
        self._columns: list[tuple[NDArray[np.int8], NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]] = []
        self._places: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
        self._count = 0
        self._keys = np.zeros(rows, dtype=np.uint64)
        self._homes = np.full(rows, -1, dtype=np.int64)
        self._names: dict[str, int] = {}
        self._deployment_of = np.full(rows, -1, dtype=np.int16)
        self._held = np.zeros(rows, dtype=np.uint64)
        self._held_at = np.full(rows, np.iinfo(np.int64).min, dtype=np.int64)
        self._predicted = np.full(rows, np.nan)
        self._actual = np.full(rows, np.nan)
        self._figures: dict[str, Figures] = {}

    def add(self, events: Events) -> None:
        read = [_decode(value) for value in events.values]
        at_us = np.rint(np.array([event.timestamp.timestamp() for event in read]) * 1e6).astype(np.int64)
        predicted = events.topics == PREDICTION
        texts = [
            digest(event.prediction) if is_prediction else digest(json.dumps(event.actual).encode())
            for event, is_prediction in zip(read, predicted.tolist(), strict=True)
        ]
        self._columns.append((events.topics, events.rows, at_us, np.array(texts, dtype=np.uint64)))
        for topic in (PREDICTION, ACTUAL):
            for partition in range(PARTITIONS):
                here = np.flatnonzero((events.topics == topic) & (events.partitions == partition))
                self._places.setdefault((topic, partition), []).append(here + self._count)
        self._count += len(events)
        self._add_predictions(events, read, np.flatnonzero(predicted))
        self._add_actuals(events, read, np.flatnonzero(~predicted), at_us, np.array(texts, dtype=np.uint64))

    def _add_predictions(self, events: Events, read: list[_Event], places: NDArray[np.int64]) -> None:
        rows, found = events.rows[places], [read[i] for i in places.tolist()]
        self._keys[rows] = [digest(f"{event.deployment_id}/{event.association_id}".encode()) for event in found]
        self._homes[rows] = murmur2_many([event.association_id.encode() for event in found]) % PARTITIONS
        numbers = [self._names.setdefault(event.deployment_id, len(self._names)) for event in found]
        self._deployment_of[rows] = numbers
        self._predicted[rows] = [_number(event.prediction) for event in found]
        of_deployment: dict[str, list[_Event]] = {}
        for event in found:
            of_deployment.setdefault(event.deployment_id, []).append(event)
        for name, members in of_deployment.items():
            figures = self._figures.setdefault(name, Figures())
            figures.predictions += len(members)
            counts = feature_counts([event.features for event in members], self._layouts.get(name, ()))
            figures.features = counts + figures.features if len(figures.features) else counts

    def _add_actuals(
        self,
        events: Events,
        read: list[_Event],
        places: NDArray[np.int64],
        at_us: NDArray[np.int64],
        texts: NDArray[np.uint64],
    ) -> None:
        """Of a row's actuals the one with the greatest timestamp holds; no two of them have the same."""
        for i in places.tolist():
            row = events.rows[i]
            if at_us[i] > self._held_at[row]:
                value = read[i].actual
                self._held_at[row], self._held[row] = at_us[i], texts[i]
                self._actual[row] = value if isinstance(value, float) else np.nan

    def done(self) -> Expected:
        topics, rows, at_us, texts = (np.concatenate(column) for column in zip(*self._columns, strict=True))
        for name, number in self._names.items():
            self._sum_up(self._figures[name], self._deployment_of == number)
        return Expected(
            topics=topics,
            rows=rows,
            at_us=at_us,
            texts=texts,
            places={place: np.concatenate(parts) for place, parts in self._places.items()},
            keys=self._keys,
            homes=self._homes,
            deployments=list(self._names),
            deployment_of=self._deployment_of,
            held=self._held,
            figures=self._figures,
        )

    def _sum_up(self, figures: Figures, members: NDArray[np.bool_]) -> None:
        matched = members & (self._held != NOTHING)
        figures.matched = int(matched.sum())
        predicted, actual = self._predicted[matched], self._actual[matched]
        if len(predicted) and not np.isnan(predicted).any():
            error = predicted - actual
            columns = {
                "error": error,
                "absolute_error": np.abs(error),
                "squared_error": error**2,
                "actual": actual,
                "actual_square": actual**2,
            }
            figures.sums = {name: float(column.sum()) for name, column in columns.items()}


def _number(prediction: Raw) -> float:
    """A regression's prediction; NaN of all others."""
    text = bytes(prediction)
    return float(text) if text[:1] not in (b"{", b'"') else np.nan


def feature_counts(
    rows: Sequence[Mapping[str, float | str | None]], layout: Sequence[Mapping[str, Any]]
) -> NDArray[np.int64]:
    """Rows per slot: of numbers `edges[i-1] < x <= edges[i]`, then missing; of texts each value, other, missing."""
    counts = np.zeros(max((bins["first_slot"] + _width(bins) for bins in layout), default=0), dtype=np.int64)
    for bins in layout:
        values = [row.get(bins["name"]) for row in rows]
        if bins["kind"] == "numeric":
            numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            slots = (numbers[:, None] > np.array(bins["edges"])).sum(axis=1)
            slots[np.isnan(numbers)] = _width(bins) - 1
        else:
            known = {value: slot for slot, value in enumerate(bins["values"])} | {None: _width(bins) - 1}
            slots = np.array([known.get(value, _width(bins) - 2) for value in values], dtype=np.int64)
        counts += np.bincount(slots + bins["first_slot"], minlength=len(counts))
    return counts


def _width(bins: Mapping[str, Any]) -> int:
    """Slots of one feature: its bins and one for missing values, or its values, one for others, one for missing."""
    return len(bins["edges" if bins["kind"] == "numeric" else "values"]) + 2
