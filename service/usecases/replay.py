"""Sends dead letters again: each to the input topic that it came from, exactly as its producer sent it.

The same Kafka transaction writes a replay mark beside the letters (`wire/dead_letter.py`), so each is sent once,
wherever the command is killed; decision 0011 says why. The order makes it safe: take the right to send, which ends
what an earlier run had begun; wait until all that was written is decided; read the marks; only then send.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from service.domain.ids import murmur2
from service.domain.records import OutRecord, Topic, size_of
from service.usecases.dead_letters import (
    DeadLetterLog,
    Place,
    Progress,
    Reading,
    Replayer,
    Span,
    Wanted,
    not_there,
    partitions_of,
    place_of,
)
from service.wire.dead_letter import DeadLetter, replay_mark

CHUNK: Final = 500
CHUNK_BYTES: Final = 4 << 20
"""A transaction ends after so many letters, or so many bytes."""


class Replay(NamedTuple):
    """What becomes of one letter: sent to a partition of a topic, or an obstacle says why not."""

    place: Place
    topic: str
    partition: int
    size: int
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """How many letters were sent, were sent before, and can not be sent."""

    sent: int
    before: int
    refused: int


async def replay(
    log: DeadLetterLog,
    which: Wanted,
    *,
    now_ms: int,
    dry_run: bool,
    tell: Callable[[Replay], None],
    progress: Progress,
) -> Replayed:
    """Send letters again that were not sent again before; in a dry run, only tell. Raises `Invalid`, `Conflict`.

    `tell` hears of each letter after it was sent, and of each that can not be.
    """
    counts: Counter[str] = Counter()
    for partition in partitions_of(log, which):
        if which.limit is not None and counts["sent"] >= which.limit:
            break
        run = _ReplayOfPartition(log, which, partition, now_ms, tell, counts)
        if dry_run:
            await run.through(await log.span(partition), None, progress)
        else:
            async with log.replaying(partition) as replayer:
                await run.through(await log.settled(partition), replayer, progress)
    return Replayed(sent=counts["sent"], before=counts["before"], refused=counts["refused"])


class _ReplayOfPartition:
    def __init__(
        self,
        log: DeadLetterLog,
        which: Wanted,
        partition: int,
        now_ms: int,
        tell: Callable[[Replay], None],
        counts: Counter[str],
    ) -> None:
        self._log = log
        self._which = which
        self._partition = partition
        self._now_ms = now_ms
        self._tell = tell
        self._counts = counts
        self._chunk: list[tuple[Replay, OutRecord]] = []
        self._bytes = 0
        self._missing = {place for place in which.places if place.partition == partition}

    async def through(self, span: Span, replayer: Replayer | None, progress: Progress) -> None:
        offsets = sorted(place.offset for place in self._missing) or [span.begin, span.end - 1]
        first, last = max(span.begin, offsets[0]), min(span.end, offsets[-1] + 1)
        reading = Reading(self._log, progress, max(0, span.end - first) + max(0, last - first))
        replayed = await reading.replayed(self._partition, Span(first, span.end))
        async for letter in reading.letters(self._partition, Span(first, last)):
            if not self._which.matches(letter):
                continue
            self._missing.discard(place_of(letter))
            if letter.offset in replayed:
                self._counts["before"] += 1
                continue
            self._take(letter)
            if self._is_full() or self._is_enough():
                await self._send(replayer)
                if self._is_enough():
                    return
        await self._send(replayer)
        for place in sorted(self._missing):
            self._refuse(Replay(place, "", 0, 0, not_there(place, span)))

    def _take(self, letter: DeadLetter) -> None:
        size = size_of(letter.key, letter.value, letter.headers)
        obstacle = obstacle_to(letter, self._log.topics, self._log.partitions)
        target = letter.source_partition if letter.key is None else murmur2(letter.key) % self._log.partitions
        one = Replay(place_of(letter), letter.topic, target, size, obstacle)
        if obstacle:
            self._refuse(one)
            return
        role = self._log.topics[letter.topic]
        record = OutRecord(role, target, letter.key, letter.value, letter.headers, letter.timestamp)
        self._chunk.append((one, record))
        self._bytes += size

    def _refuse(self, one: Replay) -> None:
        self._counts["refused"] += 1
        self._tell(one)

    def _is_full(self) -> bool:
        return len(self._chunk) >= CHUNK or self._bytes >= CHUNK_BYTES

    def _is_enough(self) -> bool:
        return self._which.limit is not None and self._counts["sent"] + len(self._chunk) >= self._which.limit

    async def _send(self, replayer: Replayer | None) -> None:
        chunk, self._chunk, self._bytes = self._chunk, [], 0
        if chunk and replayer is not None:
            value, headers = replay_mark(one.place.offset for one, _ in chunk)
            mark = OutRecord(Topic.DLQ, self._partition, None, value, headers, self._now_ms)
            records = sorted((record for _, record in chunk), key=lambda record: record[:2])
            await replayer.send([*records, mark])
        self._counts["sent"] += len(chunk)
        for one, _ in chunk:
            self._tell(one)


def obstacle_to(letter: DeadLetter, topics: Iterable[str], partitions: int) -> str:
    """Why this letter can not be sent again; empty where it can."""
    came_from = f"{letter.topic}, partition {letter.source_partition}, offset {letter.source_offset}"
    if letter.truncated is not None:
        return f"its value was cut ({letter.truncated}); the whole record came in at {came_from}"
    if letter.topic not in topics:
        return f"it came in at {came_from}, which is no partition of {' or '.join(sorted(topics))}"
    if letter.key is None and letter.source_partition >= partitions:
        return f"it has no key and came in at {came_from}, but there are {partitions} partitions"
    return ""
