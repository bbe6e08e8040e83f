"""What consumers read of the topics, and the key that producers take."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from service.adapters.memory import MemoryRecord

TOMBSTONE = "(tombstone)"


class Status(NamedTuple):
    """One record of the status topic, as a consumer reads it."""

    task: int
    key: bytes
    fields: dict[str, Any]
    """The JSON object; empty for a tombstone."""
    headers: dict[str, bytes]
    timestamp: int

    @property
    def word(self) -> str:
        return str(self.fields.get("status", TOMBSTONE))

    @property
    def reason(self) -> str | None:
        return self.fields.get("reason")

    @property
    def source(self) -> tuple[str, int, int] | None:
        """None where time brought it about."""
        source = self.fields.get("source")
        return (source["topic"], source["partition"], source["offset"]) if source else None

    @property
    def state(self) -> bytes:
        return self.headers["hindsight-state"]


class DeadLetter(NamedTuple):
    """One record of the dead-letter topic."""

    reason: str
    detail: str
    source: tuple[str, int, int]
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]
    timestamp: int


def words(statuses: Iterable[Status]) -> list[str]:
    """The status words."""
    return [status.word for status in statuses]


def only(statuses: Sequence[Status]) -> Status:
    """The only status."""
    (status,) = statuses
    return status


def key_of(value: bytes) -> bytes | None:
    """The record key that a producer takes: the association ID in its canonical form."""
    try:
        event = json.loads(value)
        given = event.get("data", event).get("associationId")
    except (ValueError, AttributeError):
        return None
    if given is None or isinstance(given, str):
        return given.encode() if given else None
    return json.dumps(given, separators=(",", ":"), ensure_ascii=False).encode()


def dead_letter(record: MemoryRecord) -> DeadLetter:
    headers = dict(record.headers)
    source = (
        headers["__connect.errors.topic"].decode(),
        int(headers["__connect.errors.partition"]),
        int(headers["__connect.errors.offset"]),
    )
    reason, detail = headers["hindsight.reason"].decode(), headers["hindsight.detail"].decode()
    return DeadLetter(reason, detail, source, record.key, record.value, headers, record.timestamp)
