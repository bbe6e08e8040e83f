"""Kafka as the pipeline sees it: logs by topic role and partition, committed positions, producer fencing, membership.

What a transaction is to Kafka is one uninterrupted step here, so all reads are read-committed. Membership is moved by
hand: what `assign` says is what that instance believes, and two instances may believe the same for a while, as in a
real group whose former owner has not heard yet.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from service.domain.ids import murmur2
from service.ports import OutRecord, Topic

Headers = Sequence[tuple[str, bytes]]
_TOPICS = (Topic.PREDICTIONS, Topic.ACTUALS, Topic.REKEY, Topic.STATUS, Topic.BATCHES, Topic.DLQ)


@dataclass(slots=True)
class MemoryRecord:
    """One record of a log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class MemoryLog:
    """One partition. Compaction leaves gaps between offsets; retention moves `begin`."""

    records: list[MemoryRecord] = field(default_factory=list)
    begin: int = 0
    end: int = 0

    def append(self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> int:
        offset, self.end = self.end, self.end + 1
        self.records.append(MemoryRecord(offset, timestamp, key, value, tuple(headers)))
        return offset

    def read(self, start: int, limit: int) -> list[MemoryRecord]:
        first = self._index(start)
        return self.records[first : first + limit]

    def truncate(self, begin: int) -> None:
        """Retention: forget what is before `begin`."""
        self.records = self.records[self._index(begin) :]
        self.begin = begin

    def compact(self) -> None:
        """Keep the last record of each key."""
        last = {record.key: record.offset for record in self.records}
        self.records = [record for record in self.records if last[record.key] == record.offset]

    def expire_tombstones(self) -> None:
        """Forget deletions that were kept long enough."""
        self.records = [record for record in self.records if record.value is not None]

    def _index(self, offset: int) -> int:
        return bisect_left(self.records, offset, key=attrgetter("offset"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What the last publish of a task committed along."""

    positions: Mapping[str, int] = field(default_factory=dict)
    version: int = 0


class MemoryBroker:
    """All topics, with the same number of partitions each."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.committed: dict[int, Committed] = {}
        self.published: dict[int, int] = {}
        """Version of the last publish of each task, whatever the broker has forgotten of the group."""
        self._logs = {(topic, i): MemoryLog() for topic in _TOPICS for i in range(partitions)}
        self._assignments: dict[str, frozenset[int]] = {}
        self._assigned: Counter[str] = Counter()
        self._fences: dict[int, int] = {}
        self._news = asyncio.Event()

    # ---------------------------------------------------------------- logs

    def log(self, topic: str, partition: int) -> MemoryLog:
        return self._logs[topic, partition]

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Headers = (),
        timestamp: int = 0,
    ) -> int:
        """Append one record where its key belongs, or to this partition; returns its offset."""
        home = murmur2(key or b"") % self.partitions if partition is None else partition
        offset = self.log(topic, home).append(timestamp, key, value, headers)
        self._announce()
        return offset

    def compact(self, task: int) -> None:
        """The cleaner has passed over the task's status partition."""
        self.log(Topic.STATUS, task).compact()

    # ---------------------------------------------------------------- publishing

    def fence(self, task: int) -> int:
        """A new right to publish for the task, which ends the one before."""
        self._fences[task] = self._fences.get(task, 0) + 1
        return self._fences[task]

    def is_fenced(self, task: int, right: int) -> bool:
        return self._fences[task] != right

    def commit(self, task: int, records: Sequence[OutRecord], positions: Mapping[str, int], version: int) -> None:
        """One transaction."""
        for record in records:
            log = self.log(record.topic, record.partition)
            log.append(record.timestamp, record.key, record.value, record.headers)
        before = self.committed.get(task, Committed())
        self.committed[task] = Committed(positions={**before.positions, **positions}, version=version)
        self.published[task] = version
        self._announce()

    # ---------------------------------------------------------------- membership

    def assign(self, instance: str, tasks: Collection[int]) -> None:
        """From now on this instance believes that these tasks, and no others, are its own."""
        self._assignments[instance] = frozenset(tasks)
        self._assigned[instance] += 1
        self._announce()

    def assignment(self, instance: str) -> frozenset[int]:
        return self._assignments.get(instance, frozenset())

    def times_assigned(self, instance: str) -> int:
        """So that a change is heard of even when it was taken back at once."""
        return self._assigned[instance]

    # ---------------------------------------------------------------- waiting

    @property
    def news(self) -> asyncio.Event:
        """Set when anything happens after it was taken from here."""
        return self._news

    def _announce(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
