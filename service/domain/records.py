"""Topics by role, and a record on its way out. Names of topics are an adapter's business."""

from collections.abc import Sequence
from typing import NamedTuple


class Topic:
    """Roles of topics; offsets and slots are stored by role."""

    PREDICTIONS = "predictions"
    ACTUALS = "actuals"
    REKEY = "rekey"
    STATUS = "status"
    BATCHES = "batches"
    DLQ = "dlq"


INPUT_TOPICS = (Topic.PREDICTIONS, Topic.ACTUALS, Topic.REKEY)


class OutRecord(NamedTuple):
    """One record to publish. `timestamp` is in milliseconds since 1970."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    timestamp: int


def topic_name(prefix: str, role: str) -> str:
    """Name of a topic on the broker, such as `monitoring.status.v1`."""
    return f"{prefix}.{role}.v1"
