"""Whether a run was right: its journal, commit by commit, against the oracle."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.ports import MicroBatch, OutRecord, Topic
from tests.simulation import facts
from tests.simulation.at_rest import labelled, same_accuracy, same_traffic
from tests.simulation.facts import NEVER, Letter, Place, Published, Violation
from tests.simulation.formats import event_time, invalid, parsed
from tests.simulation.journal import Commit, Journal, Publish
from tests.simulation.oracle import Oracle
from tests.simulation.workload import BREAKING, Rules, Sent

SKEW_US = 600_000_000
"""The most by which any machine's clock is behind."""
_LATENESS_US = 600_000_000


@dataclass(slots=True)
class _Seen:
    """What the verdict knows of one task besides the oracle's rows."""

    version: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    marks: dict[tuple[str, int], int] = field(default_factory=dict)
    """Highest origin offset that was taken, by origin (topic, partition)."""
    ahead: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of each (deployment, input): how far the newest event was ahead of the wall clock that saw it."""


class Verdict:
    """Compares one run with what it must be. Raises `Violation` at the first difference."""

    def __init__(
        self, journal: Journal, rules: Iterable[Rules], partitions: int, home: Callable[[str], int], repeats: bool
    ) -> None:
        self.oracle = Oracle(rules, partitions)
        self._journal = journal
        self._partitions = partitions
        self._home = home
        self._repeats = repeats
        """Whether a publish may be repeated: where the broker has forgotten what it knew of the group."""
        self._seen = [_Seen() for _ in range(partitions)]
        self._published: dict[tuple[int, int], Sequence[OutRecord]] = {}
        self._forwarded: list[list[OutRecord]] = [[] for _ in range(partitions)]
        self._events: list[tuple[bytes, bytes | None]] = []

    def run(self) -> None:
        """Every commit, each with what was published for it."""
        self._collect()
        for entry in self._journal.entries:
            if isinstance(entry, Commit):
                self._commit(entry)
            elif not isinstance(entry, Publish):
                entry.tell(self.oracle)
        commits = {(task, n + 1) for task, seen in enumerate(self._seen) for n in range(seen.version)}
        if extra := self._published.keys() - commits:
            raise Violation(f"published without a commit: {sorted(extra)}")
        self._check_events()

    def _collect(self) -> None:
        last = [0] * self._partitions
        for entry in self._journal.entries:
            if not isinstance(entry, Publish):
                continue
            key = (entry.task, entry.version)
            again = key in self._published
            if again and not (self._repeats and self._published[key] == entry.records):
                raise Violation(f"task {entry.task}: version {entry.version} was published twice")
            if not again and entry.version != last[entry.task] + 1:
                raise Violation(f"task {entry.task}: version {entry.version} was published after {last[entry.task]}")
            last[entry.task] = max(entry.version, last[entry.task])
            self._published[key] = entry.records
            for record in entry.records:
                if record.topic == Topic.REKEY:
                    self._forwarded[record.partition].append(record)
                if record.topic == Topic.BATCHES and not again:
                    self._events.append((record.key or b"", record.value))

    # ---------------------------------------------------------------- one commit

    def _commit(self, commit: Commit) -> None:
        batch, seen, task = commit.batch, self._seen[commit.batch.task], self.oracle.tasks[commit.batch.task]
        version = batch.expected_version + 1
        if version != seen.version + 1:
            raise Violation(f"task {batch.task}: version {version} after {seen.version}")
        seen.version = version
        if (batch.task, version) not in self._published:
            raise Violation(f"task {batch.task}: version {version} was never published")
        records = self._published[batch.task, version]
        consumed = self._consumed(batch, seen)
        stays = {place: sent for place, sent in consumed.items() if self._home_of(place, sent) == batch.task}
        self._check_forwarded(records, {place: sent for place, sent in consumed.items() if place not in stays})
        before = dict(task.watermarks)
        after = before | {name: row.clock.watermark for name, row in batch.clocks.items()}
        self._check_watermarks(batch.task, before, after, commit.wall_us)
        statuses = [
            Published(one.key or b"", one.value, dict(one.headers)) for one in records if one.topic == Topic.STATUS
        ]
        letters = [self._letter(one) for one in records if one.topic == Topic.DLQ]
        self.oracle.commit(batch.task, version, stays, statuses, letters, before, after)
        self._check_numbers(batch)
        if batch.seq != task.seq:
            raise Violation(f"task {batch.task}: the ledger goes on with seq {batch.seq}, not {task.seq}")

    def _consumed(self, batch: MicroBatch, seen: _Seen) -> dict[Place, Sent]:
        """The records of one commit, by where they first came in; repeats of forwarded ones are left out."""
        consumed = {}
        for role in (Topic.PREDICTIONS, Topic.ACTUALS):
            for offset in range(seen.offsets.get(role, 0), batch.offsets.get(role, 0)):
                place = (role, batch.task, offset)
                consumed[place] = self._journal.sent[place]
        first = seen.offsets.get(Topic.REKEY, 0)
        for record in self._forwarded[batch.task][first : batch.offsets.get(Topic.REKEY, 0)]:
            topic, partition, at = dict(record.headers)["hindsight-origin"].decode().split("/")
            place = (topic.split(".")[1], int(partition), int(at))
            if place[2] > seen.marks.get(place[:2], -1):
                seen.marks[place[:2]] = place[2]
                consumed[place] = self._journal.sent[place]
            elif not self._repeats:
                raise Violation(f"{place} was forwarded twice")
        seen.offsets = dict(batch.offsets)
        self._hear(batch.task, seen, consumed)
        return consumed

    def _home_of(self, place: Place, sent: Sent) -> int:
        event = parsed(sent.value)
        notes = dict(sent.headers)
        if "deploymentId" in event and "associationId" in event:
            return self._home(event["associationId"])
        if "hindsight-row-number" in notes:
            submission, number = notes["hindsight-submission-id"], notes["hindsight-row-number"]
            return self._home(f"submission:{submission.decode()}:{number.decode()}")
        return place[1]

    def _check_forwarded(self, records: Sequence[OutRecord], strays: Mapping[Place, Sent]) -> None:
        found = Counter(
            (dict(one.headers)["hindsight-origin"].decode(), one.partition, one.value, one.timestamp)
            for one in records
            if one.topic == Topic.REKEY
        )
        must = Counter(
            (f"monitoring.{role}.v1/{partition}/{offset}", self._home_of((role, partition, offset), sent))
            + (sent.value, sent.timestamp_ms)
            for (role, partition, offset), sent in strays.items()
        )
        if found != must:
            raise Violation(f"forwarded {found}, not {must}")

    def _letter(self, record: OutRecord) -> Letter:
        headers = dict(record.headers)
        topic = headers["__connect.errors.topic"].decode().split(".")[1]
        place = (topic, int(headers["__connect.errors.partition"]), int(headers["__connect.errors.offset"]))
        if place not in self._journal.sent or self._journal.sent[place].value != record.value:
            raise Violation(f"the dead letter of {place} has other bytes")
        return Letter(place, headers["hindsight.reason"].decode())

    # ---------------------------------------------------------------- time

    def _hear(self, number: int, seen: _Seen, consumed: Mapping[Place, Sent]) -> None:
        """An input that was never heard stands where the first event of the other stood."""
        heard: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for place, sent in consumed.items():
            event = parsed(sent.value)
            rules = self.oracle.rules.get(event.get("deploymentId", ""))
            if rules is None or event["timestamp"] == "?":
                continue
            reason = invalid(event, rules, sent)
            leaves = self._home_of(place, sent) != number
            is_used = reason is None and event.get("associationId") != BREAKING
            if is_used or (leaves and reason != "future_timestamp"):
                at = event_time(event, sent)
                heard[rules.id].append((at, at - sent.timestamp_ms * 1000, sent.topic))
        for name, events in heard.items():
            _, first, _ = min(events)
            for topic in ("predictions", "actuals"):
                ahead = [seen.ahead.get((name, topic), first), *(one[1] for one in events if one[2] == topic)]
                seen.ahead[name, topic] = max(ahead)

    def _check_watermarks(self, task: int, before: Mapping[str, int], after: Mapping[str, int], wall_us: int) -> None:
        """None goes back, and none is further than the slower input can be.

        A clock stands at the newest event that it saw and goes no faster than the wall clock from there: so it is never
        further ahead of the wall clock than that event was when it was produced.
        """
        for name, watermark in after.items():
            if watermark < before.get(name, NEVER):
                raise Violation(f"task {task}: the watermark of {name} went back")
            ahead = self._seen[task].ahead
            inputs = [ahead[name, topic] for topic in ("predictions", "actuals") if (name, topic) in ahead]
            if watermark == NEVER:
                continue
            most = min(inputs, default=NEVER) + wall_us + SKEW_US - _LATENESS_US
            if watermark > most:
                raise Violation(f"task {task}: the watermark of {name} is {watermark - most} µs ahead of its inputs")

    # ---------------------------------------------------------------- numbers

    def _check_numbers(self, batch: MicroBatch) -> None:
        task = self.oracle.tasks[batch.task]
        for key, cell in batch.prediction_cells.items():
            same_traffic(batch.task, key, cell, task.traffic.get(key[:4], facts.Traffic()))
        for labels, accuracy in batch.accuracy_cells.items():
            same_accuracy(batch.task, labels, accuracy, task.accuracy.get(labelled(labels), facts.Accuracy()))
        for name, row in batch.clocks.items():
            found = (row.predictions_received, row.actuals_received)
            must = (task.received[name, "predictions"], task.received[name, "actuals"])
            if found != must:
                raise Violation(f"task {batch.task}: {name} has received {found}, not {must}")
        for submission, count in batch.submissions.items():
            if count != task.submissions[submission]:
                raise Violation(f"task {batch.task}: {submission} has {count}, not {task.submissions[submission]}")

    def _check_events(self) -> None:
        """Each event of a monitoring batch once, those of one batch in their order."""
        found: defaultdict[bytes, list[Any]] = defaultdict(list)
        must: defaultdict[bytes, list[Any]] = defaultdict(list)
        for key, value in self._events:
            found[key].append(json.loads(value or b"{}"))
        for key, value in self._journal.events:
            must[key].append(json.loads(value))
        if found != must:
            raise Violation(f"batch events {dict(found)}, not {dict(must)}")
