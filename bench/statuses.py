"""The statuses of a timed run, one by one, against what the workload says they must be.

A small model follows each row: what its records make of it, in the order in which their statuses were published. That
order is checked, too: for a row, and from micro-batch to micro-batch, it is that of the offsets of an input partition.
What must hold in the end does not depend on it.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Raw

from bench.expected import NOTHING, Expected, digest
from service.devstack.demo.replay import PREDICTION
from service.domain.deployment import JoinSpec
from service.domain.instants import span_us
from service.domain.records import INPUT_TOPICS, topic_name
from service.domain.row import RowPhase, decode_row

_WINDOW_US: Final = span_us(JoinSpec().window)
_NO_TIME: Final = 0


class WrongStatus(Exception):
    """What was published is not what the workload says it must be."""


class Published(NamedTuple):
    """A record of the status topic."""

    offset: int
    key: bytes
    value: bytes | None
    state: bytes
    """The row as the store holds it, empty for none."""
    version: int
    """Number of the micro-batch."""


class _Source(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int


class _Status(msgspec.Struct, gc=False, rename="camel"):
    """Read without the code that writes it."""

    deployment_id: str
    row_id: str
    status: str
    seq: int
    revision: int = 0
    predicted_at: datetime | None = None
    actual_at: datetime | None = None
    prediction: Raw = Raw()
    actual: Raw = Raw()
    previous_actual: Raw = Raw()
    source: _Source | None = None


_decode = msgspec.json.Decoder(_Status).decode


class _Row:
    """Where a row stands. Texts are hashes."""

    __slots__ = ("actual", "actual_at", "closed", "last", "predicted_at", "prediction", "revision")

    def __init__(self) -> None:
        self.prediction = self.actual = NOTHING
        self.predicted_at = self.actual_at = _NO_TIME
        self.revision = 0
        self.closed = False
        self.last: tuple[tuple[str, int], int] = ("", -1), -1
        """Place and offset of the last record."""

    @property
    def phase(self) -> RowPhase:
        if self.prediction == NOTHING:
            return RowPhase.PARKED
        if self.actual != NOTHING:
            return RowPhase.MATCHED
        return RowPhase.UNMATCHED if self.closed else RowPhase.OPEN


class Judge:
    """Takes the statuses of one partition after the other; raises `WrongStatus` at the first that is wrong."""

    def __init__(self, expected: Expected, prefix: str) -> None:
        self._expected = expected
        self._topics = {topic_name(prefix, role): kind for kind, role in enumerate(INPUT_TOPICS[:2])}
        self._by_key = np.argsort(expected.keys)
        self._sorted = expected.keys[self._by_key]
        self._told = np.zeros(len(expected), dtype=np.int8)
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Statuses by deployment and word."""
        self.tombstones = 0
        self._latest_us = int(expected.at_us.max()) if len(expected) else 0

    def partition(self, number: int) -> "PartitionJudge":
        return PartitionJudge(self, number)

    def rows_of(self, keys: Sequence[bytes]) -> list[int]:
        """Of each key its row, or -1 where it is none of the workload's."""
        digests = np.array([digest(key) for key in keys], dtype=np.uint64)
        places = np.minimum(np.searchsorted(self._sorted, digests), len(self._sorted) - 1)
        rows: list[int] = np.where(self._sorted[places] == digests, self._by_key[places], -1).tolist()
        return rows

    def event_of(self, source: _Source) -> int:
        """The event, which has not had a status before."""
        kind = self._topics.get(source.topic)
        events = self._expected.places.get((-1 if kind is None else kind, source.partition), ())
        if not 0 <= source.offset < len(events):
            raise WrongStatus(f"its source is no record of the workload: {source}")
        event = int(events[source.offset])
        if self._told[event]:
            raise WrongStatus(f"{source} had a status before")
        self._told[event] = 1
        return event

    def check_due(self, row: _Row) -> None:
        if row.predicted_at + _WINDOW_US > self._latest_us:
            raise WrongStatus("unmatched before its window has ended")

    def count(self, row: int, word: str) -> None:
        self.outcomes[self._expected.deployments[self._expected.deployment_of[row]], word] += 1

    def close(self) -> None:
        """After the last partition: every record has had its status."""
        silent = np.flatnonzero(self._told == 0)
        if len(silent):
            event = int(silent[0])
            of = "prediction" if self._expected.topics[event] == PREDICTION else "actual"
            raise WrongStatus(f"{len(silent)} records have no status; the first is event {event}, a {of}")


class PartitionJudge:
    def __init__(self, judge: Judge, number: int) -> None:
        self._judge, self._expected, self._number = judge, judge._expected, number
        expected = self._expected
        # by memoryview: an element of an array as a plain number, in a fraction of the time
        self._homes, self._events = expected.homes.data, expected.rows.data
        self._texts, self._at_us = expected.texts.data, expected.at_us.data
        self._topics = expected.topics.data
        self._rows: dict[int, _Row] = {}
        self._gone: set[int] = set()
        self._seq = 0
        self._version = -1
        self._before: dict[tuple[str, int], int] = {}
        """The highest offset of each input partition that a micro-batch before this one has told of."""
        self._last: dict[tuple[str, int], int] = {}
        """The same, with this one."""

    def take(self, published: Sequence[Published]) -> None:
        for one, number in zip(published, self._judge.rows_of([one.key for one in published]), strict=True):
            try:
                self._take(one, number)
            except WrongStatus as wrong:
                place = f"status partition {self._number}, offset {one.offset}, key {one.key!r}"
                raise WrongStatus(f"{place}: {wrong}\n{one.value!r}") from None

    def _take(self, one: Published, number: int) -> None:
        if number < 0:
            raise WrongStatus("no row of the workload")
        if self._homes[number] != self._number or number in self._gone:
            raise WrongStatus("the row was forgotten" if number in self._gone else "the row is not at home here")
        if one.value is None:
            self._forget(number, one)
            return
        status = _decode(one.value)
        if f"{status.deployment_id}/{status.row_id}".encode() != one.key:
            raise WrongStatus("key and value name different rows")
        if status.seq != self._seq:
            raise WrongStatus(f"seq is {status.seq}, {self._seq} was next")
        self._seq += 1
        if one.version != self._version:
            if one.version < self._version:
                raise WrongStatus(f"micro-batch {one.version} comes after {self._version}")
            self._version, self._before = one.version, dict(self._last)
        row = self._rows.setdefault(number, _Row())
        previous = row.actual
        word = self._close(row) if status.source is None else self._record(row, number, status.source)
        if status.status != word:
            raise WrongStatus(f"it must be {word}")
        if word == "CORRECTED" and digest(status.previous_actual) != previous:
            raise WrongStatus("previousActual is not the actual that was held")
        self._compare(row, status, one.state)
        self._judge.count(number, word)

    def _record(self, row: _Row, number: int, source: _Source) -> str:
        """What the record does to the row, and the word for it."""
        event = self._judge.event_of(source)
        if self._events[event] != number:
            raise WrongStatus("its source is about another row")
        place = (source.topic, source.partition)
        if source.offset <= (before := self._before.get(place, -1)):
            raise WrongStatus(f"it comes after that of offset {before} of the same partition, micro-batches later")
        if row.last[0] == place and source.offset < row.last[1]:
            raise WrongStatus(f"it comes after that of offset {row.last[1]} of the same partition and row")
        self._last[place], row.last = max(source.offset, self._last.get(place, -1)), (place, source.offset)
        text, at = self._texts[event], self._at_us[event]
        if self._topics[event] == PREDICTION:
            row.prediction, row.predicted_at = text, at
            word = "ACCEPTED" if row.actual == NOTHING else "MATCHED"
        elif row.actual == NOTHING:
            word = "EARLY" if row.prediction == NOTHING else "LATE_CORRECTED" if row.closed else "MATCHED"
            row.actual, row.actual_at = text, at
        elif at < row.actual_at:
            return "DUPLICATE"
        else:
            word = "CORRECTED"
            row.actual, row.actual_at = text, at
        row.revision += 1
        return word

    def _close(self, row: _Row) -> str:
        """Time has come for a row without an actual."""
        if row.phase is not RowPhase.OPEN:
            raise WrongStatus("it has no source, but no prediction waits for an actual there")
        self._judge.check_due(row)
        row.closed, row.revision = True, row.revision + 1
        return "UNMATCHED"

    def _forget(self, number: int, one: Published) -> None:
        row = self._rows.get(number)
        if row is None or row.phase not in (RowPhase.MATCHED, RowPhase.UNMATCHED) or one.state:
            raise WrongStatus("a tombstone, but the row is not at its end")
        self._judge.check_due(row)
        self._gone.add(number)
        self._judge.tombstones += 1

    def _compare(self, row: _Row, status: _Status, state: bytes) -> None:
        stands = (row.revision, row.prediction, row.actual, row.predicted_at, row.actual_at)
        told = (
            status.revision,
            digest(status.prediction),
            digest(status.actual),
            _instant(status.predicted_at),
            _instant(status.actual_at),
        )
        if told != stands:
            raise WrongStatus(f"revision, prediction, actual, their instants: {told}, they must be {stands}")
        held = _state_of(state)
        if held != (row.phase, *stands):
            raise WrongStatus(f"the state of the row is {held}, it must be {(row.phase, *stands)}")

    def close(self) -> None:
        """After the last status of the partition: every row of it stands as it must in the end."""
        at_home = np.flatnonzero(self._expected.homes == self._number)
        if len(self._rows) != len(at_home):
            raise WrongStatus(f"status partition {self._number}: {len(self._rows)} rows of {len(at_home)}")
        held = self._expected.held
        for number, row in self._rows.items():
            if row.actual != int(held[number]) or row.prediction == NOTHING:
                raise WrongStatus(f"status partition {self._number}: row {number} does not end as it must")


def _instant(at: datetime | None) -> int:
    """Microseconds since 1970."""
    return _NO_TIME if at is None else round(at.timestamp() * 1e6)


def _state_of(packed: bytes) -> tuple[int, int, int, int, int, int]:
    """Phase, revision, hashes of prediction and actual, their instants: of a row as the store holds it."""
    row = decode_row(packed)
    return (row.phase, row.revision, digest(row.prediction), digest(row.actual), row.predicted_at, row.actual_at)
