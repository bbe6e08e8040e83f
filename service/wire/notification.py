"""What receivers of notifications get, and how it is read from a record of `monitoring.batches.v1`.

Words and fields that are not known here are passed on as they are: the topic gains both with time.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw

from service.wire.batch_event import instant

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HEADER_REASON = "hindsight.reason"
HEADER_DETAIL = "hindsight.detail"
HEADER_STATUS = "hindsight.status"
HEADER_ATTEMPTS = "hindsight.attempts"
HEADER_SOURCE = "hindsight.source"


class Notification(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a webhook is told: the latest change of a thing, and how many changes that sums up."""

    schema_version: Literal[1] = 1
    """Rises only with a change that a receiver must know of; fields may be added without."""
    id: str
    """The same on every retry and repeat of a notification: drop what you have seen."""
    deployment_id: str
    """The deployment."""
    batch_id: str | None
    """Names the monitoring batch within its deployment; null where the deployment as a whole is meant."""
    batch_name: str | None
    """The name that people gave the batch, or that its policy did."""
    event: str
    """What happened: CREATED, LOCKED, UNLOCKED, DELETED, or a word that was added later."""
    at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    """When it happened, as the event says: RFC 3339."""
    changes: Annotated[int, Meta(ge=1)]
    """Changes of this thing since it was told last, this one included; above 1 the others were held back."""
    details: dict[str, Raw]
    """The further fields of the event, as they came."""


class Source(NamedTuple):
    """The record that a notification comes from."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Unreadable(ValueError):
    """The record is no event: which field breaks which rule."""


encode_notification = msgspec.json.Encoder().encode
decode_notification = msgspec.json.Decoder(Notification).decode

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str | None).decode
_KNOWN = ("deploymentId", "batchId", "batchName", "event", "at")


def notification_of(value: bytes, source: Source) -> Notification:
    """What this event has to tell, as one change. Raises `Unreadable`."""
    try:
        fields = _decode_fields(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreadable(f"not a JSON object: {error}") from None
    deployment, batch, name, event, at = (_text(fields, field) for field in _KNOWN)
    if not deployment:
        raise Unreadable("deploymentId: required, a text that is not empty")
    if not event:
        raise Unreadable("event: required, a text that is not empty")
    return Notification(
        id=hashlib.sha256(f"{source} {source.timestamp_ms}".encode()).hexdigest()[:32],
        deployment_id=deployment,
        batch_id=batch,
        batch_name=name,
        event=event,
        at=at if at is not None else instant(_EPOCH + timedelta(milliseconds=source.timestamp_ms)),
        changes=1,
        details=fields,
    )


def dead_letter_headers(
    source: Source, *, reason: str, detail: str, status: int | None = None, attempts: int = 0
) -> Sequence[tuple[str, bytes]]:
    """Why a notification, or a record that is none, was not delivered."""
    headers = {
        HEADER_REASON: reason,
        HEADER_DETAIL: detail,
        HEADER_SOURCE: str(source),
        HEADER_ATTEMPTS: str(attempts),
    }
    if status is not None:
        headers[HEADER_STATUS] = str(status)
    return [(name, text.encode(errors="replace")) for name, text in headers.items()]


def _text(fields: dict[str, Raw], name: str) -> str | None:
    """Takes the field out."""
    if name not in fields:
        return None
    try:
        text: str | None = _decode_text(fields.pop(name))
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Unreadable(f"{name}: must be a text") from None
    return text
