"""What happens to nearly every record and row, by columns: a prediction opens a row that is not there, an actual
matches an open row, time closes an open one and forgets the others. All else is left to the joiner, one by one.

Both ways give the same rows, statuses and numbers (`tests/laws/test_join_columns.py`); this one is for speed only.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.domain.join_window import WITHDRAWAL
from service.domain.outcomes import ENDS, Outcome
from service.domain.row import FORMAT, HEAD, HEAD_BYTES, RowPhase, batch_of, heads_of, packed_heads
from service.domain.timers import Waiting, next_looks, waiting_columns
from service.pipeline.assign import Assigned
from service.pipeline.columns import Actuals, Predictions
from service.pipeline.registry import BatchKey

Place = tuple[str, str, str]
"""Deployment, model, monitoring batch: where the statistics of a row belong."""
T = TypeVar("T")


FEW = 16
"""Below so many records the columns cost more than they save."""
_OPEN, _MATCHED, _UNMATCHED = int(RowPhase.OPEN), int(RowPhase.MATCHED), int(RowPhase.UNMATCHED)
_DAY_MS = 86_400_000


@dataclass(slots=True, kw_only=True)
class HappenedColumns:
    """`Happened` of rows (n,) that all had the same outcome, without reason and notes."""

    outcome: Outcome
    deployment: list[str]
    key: list[bytes]
    heads: NDArray[np.void]
    """(n,) of the packed rows; of rows that end, as they were."""
    places: NDArray[np.int64]
    """(n,) positions in `Joined.places`."""
    state: list[bytes] = field(default_factory=list)
    """The packed rows; none of rows that end."""
    prediction: list[bytes] = field(default_factory=list)
    actual: list[bytes] = field(default_factory=list)
    """Empty where no row holds an actual."""
    columns: Predictions | Actuals | None = None
    """None where time brought it about."""
    positions: list[int] = field(default_factory=list)
    """Of the records among `columns`."""

    @property
    def looks(self) -> NDArray[np.int64] | None:
        """The watermarks (n,) at which time will act on the rows, where they need a timer."""
        if self.outcome is Outcome.ACCEPTED:
            return self.heads["due"]
        return self.heads["drop"] if self.outcome is Outcome.UNMATCHED else None


class Passed(NamedTuple):
    """What time made of rows: what happened, who waits on, and the keys of those that are left."""

    happened: list[HappenedColumns]
    waiting: list[Waiting]
    left: list[bytes]


class Rows:
    """Packed rows of one micro-batch: as the store has them, under what the micro-batch makes of them."""

    def __init__(self, stored: Mapping[bytes, bytes | None]) -> None:
        self._stored = stored
        self.changed: dict[bytes, bytes | None] = {}
        """None: forgotten."""

    def __getitem__(self, key: bytes) -> bytes | None:
        return self.changed[key] if key in self.changed else self._stored.get(key)

    def of(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The row of every key, None where there is none."""
        stored, changed = self._stored.get, self.changed
        if not changed:
            return list(map(stored, keys))
        return [changed[key] if key in changed else stored(key) for key in keys]


class ColumnJoiner:
    """The common transitions for whole micro-batches. `places` is shared with the joiner, which adds to it, too."""

    def __init__(
        self,
        rows: Rows,
        assigned: Assigned,
        watermarks: Mapping[str, int],
        deleted: frozenset[BatchKey],
        places: dict[Place, int],
    ) -> None:
        self._rows = rows
        self._assigned = assigned
        self._watermarks = watermarks
        self._deleted = deleted
        self._places = places

    def passed(self, due: Iterable[bytes]) -> Passed:
        """What time makes of rows that are `due` for a look: they wait on, or are closed, or forgotten."""
        keys = list(due)
        if len(keys) < FEW:
            return Passed([], [], keys)
        rows = self._rows.of(keys)
        there = [i for i, row in enumerate(rows) if row is not None]
        if len(there) < FEW:
            return Passed([], [], keys)
        keys = picked(keys, there)
        states: list[bytes] = picked(rows, there)  # type: ignore[arg-type]
        names = _deployments(keys)
        heads, watermarks = heads_of(states), self._watermarks_of(names)
        phase, closes, ends = heads["phase"], heads["due"] <= watermarks, heads["drop"] <= watermarks
        looks = next_looks(heads)
        waits_on = looks > watermarks
        fates = {
            Outcome.UNMATCHED: (phase == _OPEN) & closes & ~ends,
            Outcome.FORGOTTEN: (phase == _MATCHED) & ends,
            Outcome.EXPIRED: (phase == _UNMATCHED) & ends,
        }
        left, happened = ~waits_on, []
        counts = np.array([self._counts(*one) for one in zip(names, states, strict=True)]) if self._deleted else True
        for outcome, fate in fates.items():
            found = np.flatnonzero(fate & counts).tolist()
            if len(found) >= FEW:
                some = picked(names, found), picked(keys, found), picked(states, found)
                happened.append(self._pass(outcome, *some, heads[found]))
                left[found] = False
        again = np.flatnonzero(waits_on).tolist()
        waiting = waiting_columns(picked(names, again), picked(keys, again), looks[again])
        return Passed(happened, waiting, [keys[i] for i in np.flatnonzero(left).tolist()])

    def _pass(
        self, outcome: Outcome, names: list[str], keys: list[bytes], states: list[bytes], heads: NDArray[np.void]
    ) -> HappenedColumns:
        places, prediction = self._unpacked(names, states, heads)
        happened = HappenedColumns(outcome=outcome, deployment=names, key=keys, heads=heads, places=places)
        if outcome in ENDS:
            self._rows.changed.update(dict.fromkeys(keys))
            return happened
        heads["phase"] = _UNMATCHED
        heads["revision"] += 1
        happened.prediction = prediction
        happened.state = self._put(keys, heads, _texts(states))
        return happened

    def opened(self) -> HappenedColumns | None:
        """Predictions that open a row: named once, refused by nobody, and nothing there."""
        assigned, columns = self._assigned, self._assigned.predictions
        excluded = {*assigned.refused_predictions, *assigned.refusal, *columns.unidentified, *columns.arrivals.notes}
        _once(columns.key, excluded)
        rows = self._rows.of(columns.key)
        if not excluded and rows.count(None) == len(rows):
            positions = list(range(len(rows)))
        else:
            positions = [i for i, row in enumerate(rows) if row is None and i not in excluded]
        if len(positions) < FEW:
            return None
        keys, names = picked(columns.key, positions), picked(columns.deployment, positions)
        at = columns.at if len(positions) == len(rows) else columns.at[positions]
        heads = np.zeros(len(positions), dtype=HEAD)
        heads["format"], heads["phase"], heads["revision"] = FORMAT, _OPEN, 1
        heads["predicted_at"] = at
        heads["due"] = np.maximum(at, self._watermarks_of(names)) + self._spans_of(names, "window")
        heads["drop"] = heads["due"] + self._spans_of(names, "grace")
        heads["content"] = np.array(picked(columns.content, positions), dtype=np.uint64)
        models, batches = picked(assigned.model, positions), picked(assigned.batch, positions)
        places, texts = self._placed(names, models, batches)
        heads["model"], heads["batch"] = _lengths(models), _lengths(batches)
        prediction = picked(columns.prediction, positions)
        state = self._put(keys, heads, texts, prediction)
        return HappenedColumns(
            outcome=Outcome.ACCEPTED,
            deployment=names,
            columns=columns,
            positions=positions,
            key=keys,
            state=state,
            heads=heads,
            places=places,
            prediction=prediction,
        )

    def matched(self) -> HappenedColumns | None:
        """Actuals of open rows that wait for them: named once, no withdrawal, in time."""
        columns, canonical = self._assigned.actuals, self._assigned.canonical
        excluded = {*self._assigned.refused_actuals, *columns.arrivals.notes}
        _once(columns.key, excluded)
        rows = self._rows.of(columns.key)
        positions = [
            i
            for i, (row, value) in enumerate(zip(rows, canonical, strict=True))
            if row is not None and value != WITHDRAWAL and i not in excluded
        ]
        if len(positions) < FEW:
            return None
        names = picked(columns.deployment, positions)
        states: list[bytes] = picked(rows, positions)  # type: ignore[arg-type]
        heads = heads_of(states)
        waits = (heads["phase"] == _OPEN) & (heads["due"] > self._watermarks_of(names))
        if self._deleted:
            waits &= [self._counts(name, state) for name, state in zip(names, states, strict=True)]
        if not waits.all():
            kept = np.flatnonzero(waits).tolist()
            if len(kept) < FEW:
                return None
            positions, names, states = picked(positions, kept), picked(names, kept), picked(states, kept)
            heads = heads[kept]
        return self._match(columns, positions, names, states, heads)

    def _match(
        self, columns: Actuals, positions: list[int], names: list[str], states: list[bytes], heads: NDArray[np.void]
    ) -> HappenedColumns:
        actual = picked(self._assigned.canonical, positions)
        keys = picked(columns.key, positions)
        places, prediction = self._unpacked(names, states, heads)
        heads["phase"] = _MATCHED
        heads["revision"] += 1
        heads["actual_at"] = columns.at[positions]
        heads["label_day"] = columns.received_ms[positions] // _DAY_MS
        heads["actual"] = list(map(len, actual))
        state = self._put(keys, heads, _texts(states), actual)
        return HappenedColumns(
            outcome=Outcome.MATCHED,
            deployment=names,
            columns=columns,
            positions=positions,
            key=keys,
            state=state,
            heads=heads,
            places=places,
            prediction=prediction,
            actual=actual,
        )

    def _put(self, keys: list[bytes], heads: NDArray[np.void], *texts: Sequence[bytes]) -> list[bytes]:
        """Pack rows of these heads and texts, and keep them."""
        states = list(map(b"".join, zip(packed_heads(heads), *texts, strict=True)))
        self._rows.changed.update(zip(keys, states, strict=True))
        return states

    def _counts(self, name: str, state: bytes) -> bool:
        """Whether the row's monitoring batch is there."""
        batch = batch_of(state)
        return not batch or (name, batch.decode()) not in self._deleted

    def _watermarks_of(self, names: list[str]) -> Any:
        return _by_name(names, self._watermarks.__getitem__)

    def _spans_of(self, names: list[str], span: str) -> Any:
        return _by_name(names, lambda name: getattr(self._assigned.spans[name], span))

    def _placed(self, names: list[str], models: list[str], batches: list[str]) -> tuple[NDArray[np.int64], list[bytes]]:
        """The place of every row, and the text that a packed row has of it."""
        found = list(zip(names, models, batches, strict=True))
        places = {place: self._places.setdefault(place, len(self._places)) for place in set(found)}
        texts = {place: f"{place[1]}{place[2]}".encode() for place in places}
        if len(places) == 1:
            ((place, number),) = places.items()
            return np.full(len(found), number, dtype=np.int64), [texts[place]] * len(found)
        return np.array([places[place] for place in found]), [texts[place] for place in found]

    def _unpacked(
        self, names: list[str], states: list[bytes], heads: NDArray[np.void]
    ) -> tuple[NDArray[np.int64], list[bytes]]:
        """The place of every row, and its prediction."""
        middles = (HEAD_BYTES + heads["model"].astype(np.int64)).tolist()
        ends = (HEAD_BYTES + heads["model"].astype(np.int64) + heads["batch"]).tolist()
        lasts = (np.fromiter(map(len, states), np.int64, len(states)) - heads["actual"]).tolist()
        prediction = [state[end:last] for state, end, last in zip(states, ends, lasts, strict=True)]
        found = [
            (name, state[HEAD_BYTES:middle], state[middle:end])
            for name, state, middle, end in zip(names, states, middles, ends, strict=True)
        ]
        places = {}
        for one in set(found):
            place = (one[0], one[1].decode(), one[2].decode())
            places[one] = self._places.setdefault(place, len(self._places))
        if len(places) == 1:
            return np.full(len(found), next(iter(places.values())), dtype=np.int64), prediction
        return np.array([places[one] for one in found]), prediction


def _texts(states: Sequence[bytes]) -> list[bytes]:
    """All of packed rows but their heads."""
    return [state[HEAD_BYTES:] for state in states]


def _deployments(keys: Sequence[bytes]) -> list[str]:
    """Deployment of every row."""
    names = [key[: key.index(b"/")] for key in keys]
    decoded = {name: name.decode() for name in set(names)}
    return [decoded[name] for name in names]


def _once(keys: Sequence[bytes], excluded: set[int]) -> None:
    """Exclude the positions of keys that occur more than once."""
    if len(set(keys)) < len(keys):
        counts = Counter(keys)
        excluded.update(i for i, key in enumerate(keys) if counts[key] > 1)


def picked(values: Sequence[T], positions: Sequence[int]) -> list[T]:
    """The values at these positions."""
    if len(positions) == len(values):
        return list(values)
    return [values[i] for i in positions]


def _lengths(texts: Collection[str]) -> NDArray[np.uint8]:
    return np.array(list(map(len, texts)), dtype=np.uint8)


def _by_name(names: list[str], value: Callable[[str], int]) -> Any:
    """`value` of every name (n,); one number where there is one name."""
    values = {name: value(name) for name in set(names)}
    if len(values) == 1:
        return next(iter(values.values()))
    return np.array([values[name] for name in names], dtype=np.int64)
