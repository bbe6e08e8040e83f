"""Where a record lives: MurmurHash2 of its key as Java's producers compute it, without numpy (`domain/ids.py` has it
by columns; a law holds the two together)."""

from struct import unpack_from
from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_MASK: Final = 0xFFFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    return _murmur2(key) % partitions


def _murmur2(key: bytes) -> int:
    """Without the sign bit."""
    length = len(key)
    hashed = _SEED ^ length
    for word in unpack_from(f"<{length >> 2}I", key):
        mixed = word * _M & _MASK
        hashed = (hashed * _M ^ (mixed ^ mixed >> 24) * _M) & _MASK
    if rest := key[length & ~3 :]:
        hashed = (hashed ^ int.from_bytes(rest, "little")) * _M & _MASK
    hashed = (hashed ^ hashed >> 13) * _M & _MASK
    return (hashed ^ hashed >> 15) & 0x7FFFFFFF
