"""The life of a monitoring batch, `monitoring.batches.v1`: opened, locked, unlocked, deleted."""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Change = Literal["CREATED", "LOCKED", "UNLOCKED", "DELETED"]


class MonitoringBatchEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One change of one monitoring batch. The events of a batch come in the order in which they happened."""

    deployment_id: str
    """The deployment of the batch."""
    batch_id: str
    """Names the batch within its deployment."""
    batch_name: str
    """The name that people gave it, or that its policy did (such as its day)."""
    event: Change
    """What happened to the batch."""
    at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    """When it happened: RFC 3339, UTC, with microseconds."""


encode_batch_event = msgspec.json.Encoder().encode
decode_batch_event = msgspec.json.Decoder(MonitoringBatchEvent).decode


def batch_event_key(deployment_id: str, batch_id: str) -> bytes:
    """Record key: the events of a batch stay together, and compaction keeps its last."""
    return f"{deployment_id}/{batch_id}".encode()


def instant(at: datetime) -> str:
    """RFC 3339 text of an aware instant."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
