"""Dead letters, `monitoring.dlq.v1`: the record as it came, and why it was refused, in headers.

The `__connect.errors.*` names follow Kafka Connect's KIP-298, so that tools which know them can read ours.
"""

from collections.abc import Sequence

import xxhash

HEADER_REASON = "hindsight.reason"
HEADER_DETAIL = "hindsight.detail"
HEADER_TRUNCATED = "hindsight.truncated"
_KEPT = 64 * 1024
_STAGE = "hindsight"


def dead_letter_headers(
    topic: str, partition: int, offset: int, reason: str, detail: str, original: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """The record's own headers, then ours."""
    return [
        *original,
        ("__connect.errors.topic", topic.encode()),
        ("__connect.errors.partition", str(partition).encode()),
        ("__connect.errors.offset", str(offset).encode()),
        ("__connect.errors.stage", _STAGE.encode()),
        ("__connect.errors.exception.message", detail.encode(errors="replace")),
        (HEADER_REASON, reason.encode()),
        (HEADER_DETAIL, detail.encode(errors="replace")),
    ]


def truncated(value: bytes) -> tuple[bytes, tuple[str, bytes]]:
    """The beginning of a value too large to publish, and the header that says its length and hash (xxh3, 64 bits)."""
    note = f"length={len(value)};xxh3_64={xxhash.xxh3_64_hexdigest(value)}"
    return value[:_KEPT], (HEADER_TRUNCATED, note.encode())
