"""Compares the cells of one task in the database with what its statuses add up to.

Where all statuses of an hour are there, every figure must be equal. Where some are missing, what the others add up to
is the least that the database must have: a figure below it is wrong, one above it can not be judged.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec
import numpy as np

from service.domain.deployment import Deployment
from service.domain.instants import DAY_US
from service.domain.outcomes import Outcome
from service.domain.records import Topic
from service.domain.stats.accuracy import PAIR_STRIDE, Accuracy
from service.domain.stats.histogram import CategoricalBins, FeatureBins, added_counts
from service.domain.stats.moments import as_decimal
from service.domain.stats.traffic import OUTCOMES, Traffic
from service.ports import AccuracyCellKey, ClockRow, PredictionCellKey
from service.usecases.rederivation import Rederivation
from service.usecases.tally import Tally
from service.wire.held_row import label_day_text
from service.wire.instants import rfc3339_clamped
from service.wire.status import Instant

Figure = int | str | None
K = TypeVar("K", PredictionCellKey, AccuracyCellKey)
_SUMS: Final = ("error", "absolute_error", "squared_error", "actual", "actual_square", "log_loss")
_NO_OUTCOMES: Final = np.zeros(OUTCOMES, dtype=np.int64)
_ROUNDING: Final = 10**6
"""Quanta by which the logarithm of one row may differ between two machines."""
_BINS_SETTLE_US: Final = 10_000_000
"""So long after a baseline was written every worker counts by its bins."""


class Difference(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One figure of one cell. What has no model, batch or hour is of records that no prediction stands for."""

    task: int
    deployment_id: str
    model_id: str | None = None
    batch_id: str | None = None
    hour: Instant | None = None
    """Start of the hour, or of the day where the cell is one of a day."""
    label_day: str | None = None
    figure: str
    expected: Figure
    """By the statuses, or by the records of the input topic."""
    at_least: bool = False
    """Whether `expected` is a lower bound only."""
    found: Figure
    """In Postgres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the database says of one task, all of one instant."""

    task: int
    version: int
    seq: int
    slot: bytes
    clocks: Mapping[str, ClockRow]
    prediction_cells: Mapping[PredictionCellKey, Traffic]
    accuracy_cells: Mapping[AccuracyCellKey, Accuracy]
    deployments: Mapping[str, Deployment]
    deleted_batches: Collection[tuple[str, str]]
    layouts_since: Mapping[tuple[str, str], int]
    """Since when the features of (deployment, model) have bins: microseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is compared, and how far it can be."""

    deployment_id: str | None = None
    since: int | None = None
    """Only hours from this instant on."""
    whole_from: int | None = None
    """Of hours from this instant on every status is there; None: of all."""


@dataclass(slots=True)
class Compared:
    """What came of it."""

    differences: list[Difference] = field(default_factory=list)
    cells: int = 0
    partly: int = 0
    """Cells of which the lower bound could be checked only."""
    unread: int = 0
    """Predictions whose features could not be counted again."""
    too_early: int = 0
    """Cells whose features do not fit, but whose first predictions came before the features had bins."""


def compare(snapshot: Snapshot, derived: Rederivation, scope: Scope) -> Compared:
    """Every figure that does not fit."""
    compared = Compared()
    tallies: dict[PredictionCellKey, Tally] = {}
    for key, tally in derived.cells.items():
        if (home := _home(snapshot, scope, key)) is not None:
            tallies.setdefault(home, Tally()).add(tally)
    found = {key for key in snapshot.prediction_cells if key.model_id and _home(snapshot, scope, key) is not None}
    for key in sorted(tallies.keys() | found):
        _Cell(compared, snapshot, scope, key).traffic(tallies.get(key, Tally()))
    sums: dict[AccuracyCellKey, Accuracy] = {}
    for label, accuracy in derived.accuracy.items():
        if (place := _home(snapshot, scope, label)) is not None:
            sums[place] = sums[place].merged(accuracy) if place in sums else accuracy
    labels = {label for label in snapshot.accuracy_cells if _home(snapshot, scope, label) is not None}
    for label in sorted(sums.keys() | labels):
        _Cell(compared, snapshot, scope, label).accuracy(sums.get(label, Accuracy()))
    if scope.since is None:
        for name in sorted(snapshot.deployments):
            if scope.deployment_id in (None, name):
                _totals(compared, snapshot, scope, derived, name)
    return compared


def _home(snapshot: Snapshot, scope: Scope, key: K) -> K | None:
    """The cell in which the database keeps what counts there; None: in none, or in none that is asked for."""
    name, hour, clock = key.deployment_id, key.hour, snapshot.clocks.get(key.deployment_id)
    if scope.deployment_id not in (None, name) or name not in snapshot.deployments:
        return None
    if (name, key.batch_id) in snapshot.deleted_batches:
        return None
    if clock is not None and hour < clock.dropped_until:
        return None
    if clock is not None and hour < clock.rolled_until:
        hour -= hour % DAY_US
    return None if scope.since is not None and hour < scope.since else key._replace(hour=hour)


class _Cell:
    """Compares one cell."""

    def __init__(
        self, compared: Compared, snapshot: Snapshot, scope: Scope, key: PredictionCellKey | AccuracyCellKey
    ) -> None:
        self._compared = compared
        self._snapshot = snapshot
        self._key = key
        self._whole = scope.whole_from is None or key.hour >= scope.whole_from
        compared.cells += 1
        compared.partly += not self._whole

    def traffic(self, tally: Tally) -> None:
        assert isinstance(self._key, PredictionCellKey)
        found = self._snapshot.prediction_cells.get(self._key, Traffic())
        self._count("predictions", tally.predictions, found.predictions)
        self._instant("firstAt", tally.first_at, found.first_at, earlier=True)
        self._instant("lastAt", tally.last_at, found.last_at, earlier=False)
        self._instant("lastDue", tally.last_due, found.last_due, earlier=False)
        for outcome, records in enumerate(added_counts(found.outcomes, _NO_OUTCOMES).tolist()):
            word = Outcome(outcome).name
            self._count(word, tally.outcomes[word], records)
        self._features(tally, found)

    def _features(self, tally: Tally, found: Traffic) -> None:
        place = (self._key.deployment_id, self._key.model_id)
        layout = self._snapshot.deployments[place[0]].layouts.get(place[1])
        if layout is None or not layout.features:
            return
        width = max(layout.slots, len(found.features), len(tally.features))
        none = np.zeros(width, dtype=np.int64)
        expected, there = added_counts(tally.features, none), added_counts(found.features, none)
        self._compared.unread += tally.unread
        settled_at = self._snapshot.layouts_since.get(place, 0) + _BINS_SETTLE_US
        if tally.opened_ms is not None and tally.opened_ms * 1000 < settled_at and not np.array_equal(expected, there):
            self._compared.too_early += 1
            return
        for slot in np.flatnonzero(expected + there).tolist():
            name = _slot_name(layout.features, slot)
            self._count(name, int(expected[slot]), int(there[slot]), whole=not tally.unread)

    def accuracy(self, expected: Accuracy) -> None:
        assert isinstance(self._key, AccuracyCellKey)
        found = self._snapshot.accuracy_cells.get(self._key, Accuracy())
        self._count("matched", expected.matched, found.matched)
        self._count("logLossRows", expected.log_loss_rows, found.log_loss_rows)
        labels = list(self._snapshot.deployments[self._key.deployment_id].class_index)
        for pair in sorted(expected.confusion.keys() | found.confusion.keys()):
            name = f"{_label(labels, pair // PAIR_STRIDE)} predicted as {_label(labels, pair % PAIR_STRIDE)}"
            self._count(name, expected.confusion.get(pair, 0), found.confusion.get(pair, 0))
        for name in _SUMS if self._whole else ():
            one, other = getattr(expected, name), getattr(found, name)
            allowed = _ROUNDING * (1 + expected.matched) if name == "log_loss" else 0
            if abs(one - other) > allowed:
                self._tell(f"sum of {name.replace('_', ' ')}", str(as_decimal(one)), str(as_decimal(other)))

    def _count(self, figure: str, expected: int, found: int, *, whole: bool = True) -> None:
        exact = whole and self._whole
        if found < expected or (exact and found > expected):
            self._tell(figure, expected, found, at_least=not exact)

    def _instant(self, figure: str, expected: int | None, found: int | None, *, earlier: bool) -> None:
        if expected == found or (not self._whole and expected is None):
            return
        fits = expected is not None and found is not None and (found < expected if earlier else found > expected)
        if self._whole or not fits:
            self._tell(figure, _instant_text(expected), _instant_text(found), at_least=not self._whole)

    def _tell(self, figure: str, expected: Figure, found: Figure, *, at_least: bool = False) -> None:
        key = self._key
        self._compared.differences.append(
            Difference(
                task=self._snapshot.task,
                deployment_id=key.deployment_id,
                model_id=key.model_id,
                batch_id=key.batch_id or None,
                hour=rfc3339_clamped(key.hour),
                label_day=label_day_text(key.label_day) if isinstance(key, AccuracyCellKey) else None,
                figure=figure,
                expected=expected,
                at_least=at_least,
                found=found,
            )
        )


def _totals(compared: Compared, snapshot: Snapshot, scope: Scope, derived: Rederivation, name: str) -> None:
    """Of one deployment: records that no prediction stands for, and all that were received."""
    clock = snapshot.clocks.get(name, ClockRow())
    whole = scope.whole_from is None

    def tell(figure: str, expected: int, found: int, more: int = 0) -> None:
        if found < expected or (whole and found > expected + more):
            compared.differences.append(
                Difference(
                    task=snapshot.task,
                    deployment_id=name,
                    figure=figure,
                    expected=expected,
                    at_least=not whole or more > 0,
                    found=found,
                )
            )

    tell("predictions received", derived.received[name, Topic.PREDICTIONS], clock.predictions_received)
    tell("actuals received", derived.received[name, Topic.ACTUALS], clock.actuals_received)
    if not clock.dropped_until:
        records = Traffic()
        for key, cell in snapshot.prediction_cells.items():
            if key.deployment_id == name and not key.model_id:
                records = records.merged(cell)
        for code, count in enumerate(added_counts(records.outcomes, _NO_OUTCOMES).tolist()):
            word = Outcome(code).name
            tell(f"{word} without a prediction", derived.nowhere[name, word], count, derived.deleted[name, word])


def _slot_name(features: Iterable[FeatureBins], slot: int) -> str:
    for bins in features:
        place = slot - bins.first_slot
        if 0 <= place < bins.slots:
            if place == bins.slots - 1:
                return f"feature {bins.name}, missing"
            if isinstance(bins, CategoricalBins):
                return f"feature {bins.name}, {bins.values[place] if place < len(bins.values) else 'other'}"
            return f"feature {bins.name}, bin {place + 1}"
    return f"feature slot {slot}"


def _label(labels: list[str], index: int) -> str:
    return labels[index] if index < len(labels) else f"class {index}"


def _instant_text(at: int | None) -> str | None:
    return None if at is None else rfc3339_clamped(at)
