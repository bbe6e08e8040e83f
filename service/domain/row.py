"""The state of one row: what the store keeps, and what the `hindsight-state` header of its last status carries."""

from enum import IntEnum

import msgspec


class RowPhase(IntEnum):
    """Where a row stands in its life. Stored: numbers are only ever appended.

    PARKED: actual without prediction. OPEN: prediction without actual. The `WITHDRAWN` twins hold a withdrawal (an
    actual of null), which competes with other actuals by its instant as any actual does.
    """

    ABSENT = 0
    PARKED = 1
    PARKED_WITHDRAWN = 2
    OPEN = 3
    WITHDRAWN = 4
    MATCHED = 5
    UNMATCHED = 6
    UNMATCHED_WITHDRAWN = 7


class RowState(msgspec.Struct, array_like=True, gc=False, frozen=True, tag=1):
    """One row. Instants are microseconds since 1970; 0 stands for none. Encoded as a MessagePack array.

    A msgspec structure and no dataclass: rows are made, packed and unpacked once per record.
    """

    phase: int
    revision: int
    predicted_at: int
    actual_at: int
    due: int
    """When the row counts as unmatched."""
    drop: int
    """When the row is forgotten."""
    content: int
    """64-bit hash of the prediction's content."""
    label_day: int
    """UTC day (days since 1970) on which the held actual was received."""
    prediction: bytes
    """JSON text of the prediction as it came, empty when there is none."""
    actual: bytes
    """Canonical JSON text of the held actual (`null`: withdrawn), empty when there is none."""
    model: str
    batch: str
    """Monitoring batch ID, empty when there is none."""
    segments: tuple[str, ...] = ()


encode_row = msgspec.msgpack.Encoder().encode
decode_row = msgspec.msgpack.Decoder(RowState).decode
