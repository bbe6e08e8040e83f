"""The statuses of the status topic, one after the other: repeats dropped, gaps noticed, and only what is wanted shown.

`seq` numbers the statuses of a partition without gaps, so a reader that checks it before it leaves anything out can
say that it lost nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from service.domain.errors import Invalid
from service.domain.ids import home_of
from service.domain.outcomes import ENDS, Outcome
from service.wire.instants import rfc3339
from service.wire.status import RowStatus, decode_status

TOMBSTONE: Final = "TOMBSTONE"
"""Shown in the place of a status where a row's life has ended."""


class Published(NamedTuple):
    """One record of the status topic as it lies there."""

    partition: int
    offset: int
    timestamp_ms: int
    """Processing time, milliseconds since 1970."""
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @property
    def at(self) -> str:
        return rfc3339(self.timestamp_ms * 1000)


class Told(NamedTuple):
    """A status, or a tombstone (None)."""

    published: Published
    status: RowStatus | None
    deployment_id: str
    row_id: str

    @property
    def word(self) -> str:
        return TOMBSTONE if self.status is None else self.status.status


class Gap(NamedTuple):
    """Statuses of a partition that did not come, by their `seq`."""

    partition: int
    first: int
    last: int

    def __str__(self) -> str:
        missing = f"seq {self.first}" if self.first == self.last else f"seq {self.first} to {self.last}"
        return f"partition {self.partition}: {missing} missing: lost, unless compaction has taken them since"


def told_by(published: Published) -> Told:
    """What a record says. Raises `Invalid` where it is no status."""
    deployment_id, _, row_id = published.key.decode(errors="replace").partition("/")
    if published.value is None:
        return Told(published, None, deployment_id, row_id)
    try:
        return Told(published, decode_status(published.value), deployment_id, row_id)
    except msgspec.MsgspecError as error:
        place = f"partition {published.partition}, offset {published.offset}"
        raise Invalid(f"{place} of the status topic: not a status: {error}") from None


class Following:
    """Remembers which `seq` comes next in each partition."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def take(self, published: Published) -> list[Told | Gap]:
        """What is new in this record; nothing for a repeat. Records of a partition must come in its order."""
        told = told_by(published)
        if told.status is None:
            return [told]
        partition, seq = published.partition, told.status.seq
        expected = self._next.get(partition, seq)
        if seq < expected:
            return []
        self._next[partition] = seq + 1
        return [Gap(partition, expected, seq - 1), told] if seq > expected else [told]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which statuses to show, and from when on (milliseconds since 1970; 0: all that there are, None: from now)."""

    deployment_id: str | None = None
    row_id: str | None = None
    words: frozenset[str] = field(default_factory=frozenset)
    """Empty: all."""
    partition: int | None = None
    since_ms: int | None = None
    limit: int | None = None

    def takes(self, told: Told) -> bool:
        return (
            (self.deployment_id is None or told.deployment_id == self.deployment_id)
            and (self.row_id is None or told.row_id == self.row_id)
            and (not self.words or told.word in self.words)
        )

    def partitions(self, count: int) -> list[int]:
        """Those in which it can lie. Raises `Invalid` where that is none."""
        if self.partition is not None and not 0 <= self.partition < count:
            raise Invalid(f"partition: the status topic has partitions 0 to {count - 1}")
        home = None if self.row_id is None else home_of(self.row_id, count)
        if home is not None and self.partition not in (None, home):
            raise Invalid(f"partition: row {self.row_id!r} lives in partition {home}")
        one = self.partition if home is None else home
        return list(range(count)) if one is None else [one]


def checked_words(given: Iterable[str]) -> frozenset[str]:
    """Statuses by their names, however they are cased. Raises `Invalid`."""
    known = [*(outcome.name for outcome in Outcome if outcome not in ENDS), TOMBSTONE]
    words = frozenset(word.upper() for word in given)
    if unknown := sorted(words.difference(known)):
        raise Invalid(f"status: {', '.join(unknown)}: must be one of {', '.join(known)}")
    return words


def document(told: Told) -> str:
    """One JSON document: place and time, then the status with the bytes it was published with."""
    published = told.published
    place = f'{{"partition":{published.partition},"offset":{published.offset},"time":"{published.at}",'
    if published.value is None:
        names = msgspec.json.encode({"deploymentId": told.deployment_id, "rowId": told.row_id, "tombstone": True})
        return place + names[1:].decode()
    return place + published.value.decode().lstrip()[1:]
