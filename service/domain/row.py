"""The state of one row: what the store keeps, and what the `hindsight-state` header of its last status carries.

Packed, a row is a head of fixed size, then model and monitoring batch, the prediction, and the held actual. So the
numbers of many rows are read and written as columns, and an actual that comes to an open row is appended to it.
"""

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct

import msgspec
import numpy as np
from numpy.typing import NDArray


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


class RowState(msgspec.Struct, gc=False, frozen=True):
    """One row. Instants are microseconds since 1970; 0 stands for none."""

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


FORMAT = 2
"""First byte of every packed row."""
HEAD = np.dtype(
    [
        ("format", "u1"),
        ("phase", "u1"),
        ("model", "u1"),
        ("batch", "u1"),
        ("actual", "<u4"),
        ("revision", "<u4"),
        ("label_day", "<i4"),
        ("predicted_at", "<i8"),
        ("actual_at", "<i8"),
        ("due", "<i8"),
        ("drop", "<i8"),
        ("content", "<u8"),
    ]
)
"""The head of a packed row, little-endian; `model`, `batch` and `actual` are the lengths of these texts in bytes."""
HEAD_BYTES = HEAD.itemsize
_HEAD = Struct("<4B2IiqqqqQ")


def encode_row(row: RowState) -> bytes:
    """The packed row."""
    model, batch = row.model.encode(), row.batch.encode()
    head = _HEAD.pack(
        FORMAT,
        row.phase,
        len(model),
        len(batch),
        len(row.actual),
        row.revision,
        row.label_day,
        row.predicted_at,
        row.actual_at,
        row.due,
        row.drop,
        row.content,
    )
    return b"".join((head, model, batch, row.prediction, row.actual))


def decode_row(state: bytes) -> RowState:
    """The row in these bytes. Raises `ValueError` where they are none."""
    _check(state)
    _, phase, model, batch, actual, revision, day, predicted_at, actual_at, due, drop, content = _HEAD.unpack_from(
        state
    )
    after_model = HEAD_BYTES + model
    after_batch, end = after_model + batch, len(state) - actual
    return RowState(
        phase,
        revision,
        predicted_at,
        actual_at,
        due,
        drop,
        content,
        day,
        state[after_batch:end],
        state[end:],
        state[HEAD_BYTES:after_model].decode(),
        state[after_model:after_batch].decode(),
    )


def phase_of(state: bytes) -> int:
    """The `RowPhase` of a packed row. Raises `ValueError` where it is none."""
    _check(state)
    return state[1]


def batch_of(state: bytes) -> bytes:
    """The monitoring batch ID of a packed row, empty when there is none. Raises `ValueError` where it is none."""
    _check(state)
    begin = HEAD_BYTES + state[2]
    return state[begin : begin + state[3]]


def heads_of(states: Iterable[bytes]) -> NDArray[np.void]:
    """Heads (n,) of packed rows, writable. Raises `ValueError` where one is none."""
    heads = np.frombuffer(bytearray().join([state[:HEAD_BYTES] for state in states]), dtype=HEAD)
    if (heads["format"] != FORMAT).any():
        raise ValueError(f"not a packed row of format {FORMAT}")
    return heads


def packed_heads(heads: NDArray[np.void]) -> list[bytes]:
    """The bytes of every head (n,)."""
    packed: list[bytes] = heads.view(f"V{HEAD_BYTES}").tolist()
    return packed


def _check(state: bytes) -> None:
    if len(state) < HEAD_BYTES or state[0] != FORMAT:
        raise ValueError(f"not a packed row of format {FORMAT}: {state[:HEAD_BYTES]!r}")
