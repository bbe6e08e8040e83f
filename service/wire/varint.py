"""Integers as Kafka's records hold them: zigzag, seven bits a byte, the lowest first."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def varint(value: int) -> bytes:
    """One integer of up to 64 bits."""
    rest = value << 1 if value >= 0 else ~value << 1 | 1
    if rest < 0x80:
        return bytes((rest,))
    found = bytearray()
    while rest >= 0x80:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


_SMALL = 1 << 13
_TABLE: NDArray[np.object_] = np.array([*map(varint, range(_SMALL)), varint(-1)], dtype=object)
"""Of one or two bytes; the last, which index -1 finds, is that of -1."""


def varints(values: NDArray[np.int64]) -> list[bytes]:
    """Of lengths: none is less than -1."""
    if len(values) and int(values.max()) >= _SMALL:
        return list(map(varint, values.tolist()))
    found: list[bytes] = _TABLE[values].tolist()
    return found


def varint_sizes(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bytes that each takes. Of lengths: none is less than -1."""
    sizes = np.ones(len(values), dtype=np.int64)
    for bits in (6, 13, 20, 27):
        if not len(values) or int(values.max()) < 1 << bits:
            break
        sizes += values >= 1 << bits
    return sizes


class VarintReader:
    """Reads integers and counted bytes, one after the other."""

    def __init__(self, buffer: bytes) -> None:
        self._buffer = buffer
        self._at = 0

    def varint(self) -> int:
        buffer, at = self._buffer, self._at
        byte = buffer[at]
        found, shift = byte & 0x7F, 7
        while byte >= 0x80:
            at += 1
            byte = buffer[at]
            found |= (byte & 0x7F) << shift
            shift += 7
        self._at = at + 1
        return (found >> 1) ^ -(found & 1)

    def sized(self) -> bytes | None:
        """Bytes after their count; None where that is -1."""
        size = self.varint()
        if size < 0:
            return None
        start, self._at = self._at, self._at + size
        return self._buffer[start : self._at]

    def skip(self, size: int) -> None:
        self._at += size


def lengths(column: Sequence[bytes | None]) -> tuple[NDArray[np.int64], bool]:
    """Length of each, -1 for None; and whether there is any None."""
    try:
        return np.fromiter(map(len, column), np.int64, len(column)), False  # type: ignore[arg-type]
    except TypeError:
        return np.fromiter([-1 if one is None else len(one) for one in column], np.int64, len(column)), True
