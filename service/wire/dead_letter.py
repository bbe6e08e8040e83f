"""Dead letters, `monitoring.dlq.v1`: the record as it came, and why it was refused, in headers.

The `__connect.errors.*` names follow Kafka Connect's KIP-298, so that tools which know them can read ours. Ours stand
behind the record's own headers, always all and in one order: so a record's own header of such a name is told from
ours. The topic also holds replay marks: which letters of their partition were sent again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import xxhash

HEADER_REASON = "hindsight.reason"
HEADER_DETAIL = "hindsight.detail"
HEADER_TRUNCATED = "hindsight.truncated"
HEADER_REPLAYED = "hindsight.replayed"
_KEPT = 64 * 1024
_STAGE = "hindsight"
_OURS: Final = (
    "__connect.errors.topic",
    "__connect.errors.partition",
    "__connect.errors.offset",
    "__connect.errors.stage",
    "__connect.errors.exception.message",
    HEADER_REASON,
    HEADER_DETAIL,
)
_ranges = msgspec.json.Decoder(list[tuple[int, int]])


class DeadLetter(NamedTuple):
    """A dead letter as it was read: where it lies, the record as it came, where that came in and why it was refused."""

    partition: int
    offset: int
    timestamp: int
    """Kafka's, of the record: milliseconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]
    topic: str
    source_partition: int
    source_offset: int
    reason: str
    detail: str
    truncated: str | None
    """Length and hash of a value that was cut; None for a whole one."""


def dead_letter_headers(
    topic: str, partition: int, offset: int, reason: str, detail: str, original: Sequence[tuple[str, bytes]]
) -> list[tuple[str, bytes]]:
    """The record's own headers, then ours."""
    told = detail.encode(errors="replace")
    contents = (topic.encode(), b"%d" % partition, b"%d" % offset, _STAGE.encode(), told, reason.encode(), told)
    return [*original, *zip(_OURS, contents, strict=True)]


def truncated(value: bytes) -> tuple[bytes, tuple[str, bytes]]:
    """The beginning of a value too large to publish, and the header that says its length and hash (xxh3, 64 bits)."""
    note = f"length={len(value)};xxh3_64={xxhash.xxh3_64_hexdigest(value)}"
    return value[:_KEPT], (HEADER_TRUNCATED, note.encode())


def read_dead_letter(
    partition: int,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> DeadLetter | None:
    """The letter that this record of the topic is; None where it is none of ours."""
    cut = headers[-1][1].decode(errors="replace") if headers and headers[-1][0] == HEADER_TRUNCATED else None
    own = len(headers) - len(_OURS) - (cut is not None)
    ours = headers[max(own, 0) : own + len(_OURS)] if own >= 0 else ()
    if tuple(name for name, _ in ours) != _OURS:
        return None
    topic, source_partition, source_offset, _, _, reason, detail = (
        (content or b"").decode(errors="replace") for _, content in ours
    )
    if not (_is_number(source_partition) and _is_number(source_offset)):
        return None
    place = (topic, int(source_partition), int(source_offset))
    return DeadLetter(partition, offset, timestamp, key, value, list(headers[:own]), *place, reason, detail, cut)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 19


def replay_mark(offsets: Iterable[int]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of the mark that says which letters of its partition were sent again; `offsets` rise."""
    ranges: list[list[int]] = []
    count = 0
    for offset in offsets:
        count += 1
        if ranges and ranges[-1][1] == offset - 1:
            ranges[-1][1] = offset
        else:
            ranges.append([offset, offset])
    return msgspec.json.encode(ranges), [(HEADER_REPLAYED, b"%d" % count)]


def replayed_ranges(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Iterator[tuple[int, int]]:
    """First and last offset of each range that a mark names; nothing where the record is no mark.

    A letter ends with our other headers, so no record that came in can pass for a mark.
    """
    if len(headers) == 1 and headers[0][0] == HEADER_REPLAYED:
        try:
            yield from _ranges.decode(value or b"")
        except msgspec.DecodeError:
            return
