"""Dead letters as an operator sees them: which are there, and one in full. Sending them again is `replay.py`.

A partition is read twice, first its replay marks, then its letters: what is kept in memory is one bit a letter.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from service.domain.errors import Invalid, NotFound, Reason, Rejection
from service.domain.ids import is_object_id
from service.domain.records import OutRecord, size_of
from service.ports import Record
from service.wire.dead_letter import DeadLetter, read_dead_letter, replayed_ranges
from service.wire.events import Unusable, decode_prediction
from service.wire.instants import instant_us, rfc3339_clamped

Progress = Callable[[int, int], None]
"""Told now and then: records read, and how many there are to read."""


class Place(NamedTuple):
    """Where a dead letter lies on its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"


class Span(NamedTuple):
    """Offsets of a partition, from the first that it holds to the one after the last."""

    begin: int
    end: int


class Replayer(Protocol):
    """The right to send letters of one partition again, until another takes it."""

    async def send(self, records: Sequence[OutRecord]) -> None:
        """All or nothing. Raises `Conflict` when another has the right now, `Unavailable` when it is in doubt."""


class DeadLetterLog(Protocol):
    """The topic of dead letters, and the way back. Every method may raise `Unavailable`."""

    @property
    def topics(self) -> Mapping[str, str]:
        """Roles of the topics that letters are sent back to, by name."""

    @property
    def partitions(self) -> int:
        """Of this topic and of each of those."""

    async def span(self, partition: int) -> Span:
        """What is committed now."""

    async def settled(self, partition: int) -> Span:
        """What was written until now, once it is known of all of it whether it is committed."""

    def read(self, partition: int, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """Committed records from `start` until before `end`, in pages."""

    def replaying(self, partition: int) -> AbstractAsyncContextManager[Replayer]:
        """From here on nobody else can send letters of this partition again, and what was begun is over."""


class Letter(NamedTuple):
    """A dead letter, and whether it was sent again."""

    letter: DeadLetter
    is_replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which letters: those at these places, else those that pass every filter, oldest first in each partition."""

    places: frozenset[Place] = frozenset()
    partition: int | None = None
    reason: str | None = None
    deployment: str | None = None
    since_ms: int | None = None
    limit: int | None = None

    @property
    def is_everything(self) -> bool:
        return self == Wanted(limit=self.limit)

    def matches(self, letter: DeadLetter) -> bool:
        if self.places:
            return place_of(letter) in self.places
        return (
            (self.reason is None or letter.reason == self.reason)
            and (self.since_ms is None or letter.timestamp >= self.since_ms)
            and (self.deployment is None or deployment_of(letter) == self.deployment)
        )


def wanted(
    places: Iterable[str] = (),
    *,
    partition: int | None = None,
    reason: str | None = None,
    deployment: str | None = None,
    since: str | None = None,
    limit: int | None = None,
) -> Wanted:
    """What was asked for. Raises `Invalid`."""
    named = frozenset(map(parse_place, places))
    if named and any(given is not None for given in (partition, reason, deployment, since, limit)):
        raise Invalid("name either places (PARTITION/OFFSET) or filters, not both")
    if reason is not None and reason not in set(Reason):
        raise Invalid(f"--reason: {reason!r} is none of {', '.join(Reason)}")
    if deployment is not None and not is_object_id(deployment):
        raise Invalid(f"--deployment: {deployment!r} can not be the ID of a deployment")
    since_ms = None if since is None else _parse_instant(since)
    return Wanted(
        places=named, partition=partition, reason=reason, deployment=deployment, since_ms=since_ms, limit=limit
    )


def parse_place(text: str) -> Place:
    """Raises `Invalid`."""
    partition, slash, offset = text.partition("/")
    if not slash or not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in (partition, offset)):
        raise Invalid(f"{text!r} is no place: it must be PARTITION/OFFSET, such as 0/17")
    return Place(int(partition), int(offset))


def _parse_instant(text: str) -> int:
    try:
        given = datetime.fromisoformat(text)
        if given.tzinfo is not None:
            return -(-instant_us(given) // 1000)
    except (ValueError, Rejection):
        pass
    raise Invalid(f"--since: {text!r} is no instant with its offset, such as 2026-01-31T12:00:00Z")


def place_of(letter: DeadLetter) -> Place:
    return Place(letter.partition, letter.offset)


def deployment_of(letter: DeadLetter) -> str | None:
    """The deployment that the value still names."""
    try:
        return decode_prediction(letter.value).deployment_id
    except Unusable as error:  # of an actual, too, which says what it names all the same
        return error.identity.deployment_id


# ---------------------------------------------------------------------------------------------- list and show


async def letters(log: DeadLetterLog, which: Wanted, progress: Progress) -> AsyncIterator[Letter]:
    """Those that are there when it begins. Raises `Invalid`."""
    spans = [(partition, await log.span(partition)) for partition in partitions_of(log, which)]
    reading = Reading(log, progress, sum(2 * (span.end - span.begin) for _, span in spans))
    count = 0
    for partition, span in spans:
        replayed = await reading.replayed(partition, span)
        async for letter in reading.letters(partition, span):
            if which.matches(letter):
                yield Letter(letter, letter.offset in replayed)
                count += 1
                if count == which.limit:
                    return


async def one_letter(log: DeadLetterLog, place: Place, progress: Progress) -> Letter:
    """Raises `NotFound`, `Invalid`."""
    (partition,) = partitions_of(log, Wanted(places=frozenset([place])))
    span = await log.span(partition)
    if span.begin <= place.offset < span.end:
        reading = Reading(log, progress, span.end - place.offset)
        found = [one async for one in reading.letters(partition, Span(place.offset, place.offset + 1))]
        if found:
            replayed = await reading.replayed(partition, Span(place.offset, span.end))
            return Letter(found[0], place.offset in replayed)
    raise NotFound(not_there(place, span))


def partitions_of(log: DeadLetterLog, which: Wanted) -> list[int]:
    named = {place.partition for place in which.places}
    if which.partition is not None:
        named.add(which.partition)
    for partition in sorted(named):
        if not 0 <= partition < log.partitions:
            raise Invalid(f"there is no partition {partition}: there are 0 to {log.partitions - 1}")
    return sorted(named) or list(range(log.partitions))


def not_there(place: Place, span: Span) -> str:
    return f"there is no dead letter at {place}; partition {place.partition} holds offsets {span.begin} to {span.end}"


class ReplayedOffsets:
    """Which offsets of a span were sent again: one bit each."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._bits = bytearray((span.end - span.begin + 7) // 8)

    def add(self, first: int, last: int) -> None:
        for offset in range(max(first, self._span.begin), min(last + 1, self._span.end)):
            at = offset - self._span.begin
            self._bits[at >> 3] |= 1 << (at & 7)

    def __contains__(self, offset: int) -> bool:
        at = offset - self._span.begin
        return 0 <= at < len(self._bits) * 8 and bool(self._bits[at >> 3] & (1 << (at & 7)))


class Reading:
    """Goes through partitions and tells how far it is."""

    def __init__(self, log: DeadLetterLog, progress: Progress, total: int) -> None:
        self._log = log
        self._progress = progress
        self._total = total
        self._read = 0

    async def replayed(self, partition: int, span: Span) -> ReplayedOffsets:
        """A mark lies behind the letters that it names, so the log loses them first."""
        found = ReplayedOffsets(span)
        async for record in self._records(partition, span):
            for first, last in replayed_ranges(record.value, record.headers):
                found.add(first, last)
        return found

    async def letters(self, partition: int, span: Span) -> AsyncIterator[DeadLetter]:
        async for record in self._records(partition, span):
            fields = (record.offset, record.timestamp, record.key, record.value, record.headers)
            if (letter := read_dead_letter(partition, *fields)) is not None:
                yield letter

    async def _records(self, partition: int, span: Span) -> AsyncIterator[Record]:
        if span.begin >= span.end:
            return
        async for page in self._log.read(partition, span.begin, span.end):
            for record in page:
                yield record
            self._read += len(page)
            self._progress(self._read, self._total)


# -------------------------------------------------------------------------------------------------- for JSON


def describe(found: Letter) -> dict[str, Any]:
    """A line of the list, ready for JSON."""
    letter = found.letter
    return {
        "place": str(place_of(letter)),
        "timestamp": rfc3339_clamped(letter.timestamp * 1000),  # producers set it
        "reason": letter.reason,
        "detail": letter.detail,
        "deploymentId": deployment_of(letter),
        "source": {"topic": letter.topic, "partition": letter.source_partition, "offset": letter.source_offset},
        "size": size_of(letter.key, letter.value, letter.headers),
        "truncated": letter.truncated,
        "replayed": found.is_replayed,
    }


def describe_whole(found: Letter) -> dict[str, Any]:
    """All of a letter: headers in their order, texts where they are UTF-8, else `hex`."""
    letter = found.letter
    return describe(found) | {
        "headers": [{"name": name, **_content(content)} for name, content in letter.headers],
        "key": _content(letter.key),
        "value": _content(letter.value),
    }


def _content(content: bytes | None) -> dict[str, str | None]:
    try:
        return {"text": None if content is None else content.decode()}
    except UnicodeDecodeError:
        return {"hex": (content or b"").hex()}
