"""Topics by role, and a record on its way out. Names of topics are an adapter's business."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple


class Topic:
    """Roles of topics; offsets and slots are stored by role."""

    PREDICTIONS = "predictions"
    ACTUALS = "actuals"
    REKEY = "rekey"
    STATUS = "status"
    BATCHES = "batches"
    DLQ = "dlq"
    ALERTS_CHANGELOG = "alerts.changelog"
    ALERTS_DLQ = "alerts.dlq"


INPUT_TOPICS = (Topic.PREDICTIONS, Topic.ACTUALS, Topic.REKEY)


class OutRecord(NamedTuple):
    """One record to publish. `timestamp` is in milliseconds since 1970."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int


class Pieces(NamedTuple):
    """Texts of records (n,) that begin, go on and end with these pieces: one for each record, or the same for all."""

    pieces: Sequence[bytes | Sequence[bytes]]


class RecordColumns(NamedTuple):
    """Records of one partition by columns, each as long as `keys`. A header is its name and one value per record; None:
    this record lacks it. `timestamp` is in milliseconds since 1970, one per record or the same for all."""

    topic: str
    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None] | Pieces
    headers: Sequence[tuple[str, Sequence[bytes | None] | Pieces]]
    timestamp: Sequence[int] | int


class Codec(IntEnum):
    """How the records of a batch are compressed, by Kafka's numbers."""

    NONE = 0
    LZ4 = 3
    ZSTD = 4


class Batch(NamedTuple):
    """Records of one partition, encoded and compressed as Kafka takes them: `payload` is all of a record batch but its
    header. Timestamps are in milliseconds since 1970; those in the payload count from `first_ms`."""

    topic: str
    partition: int
    record_count: int
    first_ms: int
    """Of the first record."""
    latest_ms: int
    """The greatest of all."""
    codec: Codec
    payload: bytes


MAX_RECORD_BYTES = 900_000
"""What we publish is no larger (key, value and headers), so that every broker takes it as it comes configured."""


def size_of(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    """Bytes of a record's key, value and headers."""
    return len(key or b"") + len(value or b"") + sum(len(name) + len(content or b"") for name, content in headers)


def topic_name(prefix: str, role: str) -> str:
    """Name of a topic on the broker, such as `monitoring.status.v1`."""
    return f"{prefix}.{role}.v1"
