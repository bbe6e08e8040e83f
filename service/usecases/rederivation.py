"""The statistics of one task a second time: from its statuses alone, by what a status means to any reader of the topic.

Nothing of the pipeline is called. A status says in its fields where its row counts and what became of the record; what
it changed in accuracy is the difference of the row's state before and after. So a status is counted with the last one
of its row: those are kept in a store of this reading's own, and memory does not grow with the log.

What a status does not say: the hour of a record that no prediction stands for, and the features of a prediction. The
first is counted by the deployment only (`nowhere`); `take` names the predictions whose features count, for a reader of
the input topics (`add_features`).

Where statuses are missing, the sums are what the rest adds up to. Each row counts as its last state does, so they are
still not above the true ones.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from service.domain.deployment import Deployment
from service.domain.errors import Invalid, Reason, Rejection
from service.domain.instants import HOUR_US, LATEST_US
from service.domain.outcomes import Outcome
from service.domain.records import Topic, topic_name
from service.domain.row import RowPhase, RowState, decode_row
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.histogram import added_counts, count_slots
from service.ports import AccuracyCellKey, PredictionCellKey, StateStore, StorePosition
from service.usecases.row_life import Arrived, Place
from service.usecases.status_stream import Published, Told, told_by
from service.usecases.tally import Tally
from service.wire.events import decode_prediction
from service.wire.features import feature_slots
from service.wire.pairs import accuracy_of
from service.wire.status import HEADER_SKIP_DRIFT, HEADER_STATE, HEADER_VERSION, RowStatus

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_OPENING = (Outcome.ACCEPTED.name, Outcome.MATCHED.name)
_MOST_GAPS = 1_000
_UNMATCHED = (RowPhase.UNMATCHED, RowPhase.UNMATCHED_WITHDRAWN)
_WORDS = frozenset(outcome.name for outcome in Outcome)


class Missing(NamedTuple):
    """Statuses that did not come, by their `seq`, and when those around them were published (milliseconds)."""

    first: int
    last: int
    before_ms: int | None
    """None: nothing came before."""
    after_ms: int | None
    """None: nothing came after."""
    merged: int | None = None
    """How many, where this is several gaps in one."""

    @property
    def statuses(self) -> int:
        return self.last - self.first + 1 if self.merged is None else self.merged


class Opened(NamedTuple):
    """A prediction that a cell has counted, and where its record lies."""

    place: Place
    key: PredictionCellKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the statuses are read by."""

    prefix: str
    deployments: Mapping[str, Deployment]
    deleted: Collection[tuple[str, str]] = ()
    """(deployment ID, batch ID) whose figures are gone."""
    until: int
    """Ledger version after which nothing counts."""


class Rederivation:
    """Statuses of one partition go in, in their order; what they add up to stands in the fields."""

    def __init__(self, store: StateStore, rules: Rules, first_seq: int | None = 0) -> None:
        """`first_seq` is the one to begin with; None: with the first that comes."""
        self.cells: dict[PredictionCellKey, Tally] = {}
        self.nowhere: Counter[tuple[str, str]] = Counter()
        """(deployment, outcome) of records that no prediction stands for."""
        self.deleted: Counter[tuple[str, str]] = Counter()
        """(deployment, outcome) of rows whose monitoring batch was deleted: counted nowhere, or with no prediction."""
        self.accuracy: dict[AccuracyCellKey, Accuracy] = {}
        self.received: Counter[tuple[str, str]] = Counter()
        """(deployment, topic role) of records that a status stands for."""
        self.missing: list[Missing] = []
        self.unknown: Counter[str] = Counter()
        """Statuses of deployments that the database does not know."""
        self.lead = 0
        """How far (microseconds) a prediction was ahead of its status at most."""
        self.statuses = 0
        self.next_seq = first_seq
        self.last_version = 0
        self.last_ms: int | None = None
        self.ahead: tuple[int, int] | None = None
        """Version and offset of the first status beyond `until`."""
        self._store = store
        self._rules = rules
        self._topics = {topic_name(rules.prefix, role): role for role in (Topic.PREDICTIONS, Topic.ACTUALS)}
        self._ended: set[bytes] = set()
        """Rows that ended in the version that is being read: a second tombstone of one is a repetition."""

    def take(self, chunk: Iterable[Published]) -> list[Opened]:
        """Count these; returns the predictions whose features count."""
        fresh = [told for published in chunk if (told := self._fresh(published)) is not None]
        keys = list(dict.fromkeys(told.published.key for told in fresh))
        states = dict(zip(keys, self._store.get_many(keys), strict=True))
        opened: list[Opened] = []
        pairs: dict[str, list[tuple[int, RowState]]] = {}
        for told in fresh:
            key = told.published.key
            before = decode_row(state) if (state := states.get(key)) else None
            if told.status is None:
                self._end(told, before)
                states[key] = None
            else:
                state = _header(told.published, HEADER_STATE)
                self._count(told, told.status, before, decode_row(state) if state else None, opened, pairs)
                states[key] = state or None
        self._store.apply(states, (), StorePosition("", 0, 0, 0.0))
        for name, rows in pairs.items():
            self._add_pairs(name, rows)
        return opened

    def close(self, seq: int) -> None:
        """Nothing more comes, though every status before `seq` should have."""
        if self.next_seq is not None and self.next_seq < seq:
            self._miss(Missing(self.next_seq, seq - 1, self.last_ms, None))

    def add_features(self, opened: Sequence[Opened], found: Mapping[Place, Arrived]) -> None:
        """Count the features of these predictions by their records, where those were found."""
        by_model: dict[tuple[str, str], list[tuple[PredictionCellKey, bytes]]] = {}
        for one in opened:
            record = found.get(one.place)
            if record is None:
                self.cells[one.key].unread += 1
            elif (text := _features(record)) is not None:
                by_model.setdefault((one.key.deployment_id, one.key.model_id), []).append((one.key, text))
        for (name, model), rows in by_model.items():
            layout = self._rules.deployments[name].layouts[model]
            numbers: dict[PredictionCellKey, int] = {}
            groups = np.array([numbers.setdefault(key, len(numbers)) for key, _ in rows], dtype=np.int64)
            slots, _ = feature_slots([text for _, text in rows], layout)
            counts = count_slots(groups, len(numbers), slots, layout.slots)
            for key, row in zip(numbers, counts, strict=True):
                self.cells[key].features = added_counts(self.cells[key].features, row)

    def _fresh(self, published: Published) -> Told | None:
        """None for a repetition, and for what is beyond the version to read to."""
        if self.ahead is not None:
            return None
        told = told_by(published)
        text = _header(published, HEADER_VERSION)
        version = int(text) if text.isdigit() else 0
        if version > self._rules.until:
            self.ahead = (version, published.offset)
            return None
        if version > self.last_version:
            self.last_version = version
            self._ended.clear()
        if told.status is None:
            if published.key in self._ended:
                return None
            self._ended.add(published.key)
            return told
        seq = told.status.seq
        expected = seq if self.next_seq is None else self.next_seq
        if seq < expected:
            return None
        if seq > expected:
            self._miss(Missing(expected, seq - 1, self.last_ms, published.timestamp_ms))
        self.next_seq, self.last_ms = seq + 1, published.timestamp_ms
        self.statuses += 1
        return told

    def _miss(self, gap: Missing) -> None:
        self.missing.append(gap)
        if len(self.missing) > _MOST_GAPS:  # of a log that compaction has passed over: the oldest become one
            one, other = self.missing[:2]
            self.missing[:2] = [
                Missing(one.first, other.last, one.before_ms, other.after_ms, one.statuses + other.statuses)
            ]

    def _end(self, told: Told, before: RowState | None) -> None:
        if before is None:
            return  # its statuses are missing
        outcome = Outcome.EXPIRED.name if before.phase in _UNMATCHED else Outcome.FORGOTTEN.name
        name = told.deployment_id
        if not before.prediction:
            self.nowhere[name, outcome] += 1
        elif before.batch and (name, before.batch) in self._rules.deleted:
            self.deleted[name, outcome] += 1
        else:
            hour = before.predicted_at - before.predicted_at % HOUR_US
            self._tally(PredictionCellKey(name, before.model, before.batch, hour, "")).outcomes[outcome] += 1

    def _count(
        self,
        told: Told,
        status: RowStatus,
        before: RowState | None,
        after: RowState | None,
        opened: list[Opened],
        pairs: dict[str, list[tuple[int, RowState]]],
    ) -> None:
        name = told.deployment_id
        if status.status not in _WORDS:
            raise Invalid(f"{_place(told)}: no status of this version: {status.status!r}")
        role = None if status.source is None else self._topics.get(status.source.topic)
        if role is not None:
            self.received[name, role] += 1
        if name not in self._rules.deployments:
            self.unknown[name] += 1
            return
        if status.predicted_at is None or status.prediction is None:
            self.nowhere[name, status.status] += 1
            return
        if status.batch_id and (name, status.batch_id) in self._rules.deleted:
            self.deleted[name, status.status] += 1
            return
        at = _micros(status.predicted_at)
        key = PredictionCellKey(name, status.model_id or "", status.batch_id or "", at - at % HOUR_US, "")
        tally = self._tally(key)
        tally.outcomes[status.status] += 1
        if role == Topic.PREDICTIONS and status.status in _OPENING and status.source is not None:
            due = None if after is None else min(after.due, LATEST_US)
            tally.add_prediction(at, due, told.published.timestamp_ms)
            self.lead = max(self.lead, at - told.published.timestamp_ms * 1000)
            if key.model_id in self._rules.deployments[name].layouts:
                opened.append(Opened(Place(status.source.topic, status.source.partition, status.source.offset), key))
        if status.reason == Reason.DELETED or (before and after and before.revision == after.revision):
            return
        if before is not None and before.phase == RowPhase.MATCHED:
            pairs.setdefault(name, []).append((-1, before))
        if after is not None and after.phase == RowPhase.MATCHED:
            pairs.setdefault(name, []).append((+1, after))

    def _tally(self, key: PredictionCellKey) -> Tally:
        tally = self.cells.get(key)
        if tally is None:
            tally = self.cells[key] = Tally()
        return tally

    def _add_pairs(self, name: str, pairs: list[tuple[int, RowState]]) -> None:
        numbers: dict[AccuracyCellKey, int] = {}
        groups = []
        for _, row in pairs:
            hour = row.predicted_at - row.predicted_at % HOUR_US
            key = AccuracyCellKey(name, row.model, row.batch, hour, "", row.label_day)
            groups.append(numbers.setdefault(key, len(numbers)))
        signs = np.array([sign for sign, _ in pairs], dtype=np.int64)
        deployment = self._rules.deployments[name]
        models, predictions, actuals = zip(*[(row.model, row.prediction, row.actual) for _, row in pairs], strict=True)
        places = np.array(groups, dtype=np.int64)
        added = accuracy_of(deployment, models, predictions, actuals, signs, places, len(numbers))
        for key, cell in zip(numbers, added, strict=True):
            self.accuracy[key] = self.accuracy[key].merged(cell) if key in self.accuracy else cell


def _features(record: Arrived) -> bytes | None:
    """The text of its features; None where it asks for them not to be counted."""
    if dict(record.headers).get(HEADER_SKIP_DRIFT) == b"true":
        return None
    try:
        return bytes(decode_prediction(record.value).features)
    except Rejection:
        return b"null"


def _header(published: Published, wanted: str) -> bytes:
    return next((value for name, value in published.headers if name == wanted), b"")


def _place(told: Told) -> str:
    return f"partition {told.published.partition}, offset {told.published.offset} of the status topic"


@lru_cache(maxsize=65_536)
def _micros(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
