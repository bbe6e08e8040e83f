"""Timers of rows, packed: one entry of the store per (deployment, bucket, micro-batch) holds the keys of its rows.

A timer says when to look at a row, never what to do: the row itself holds `due` and `drop`. So a timer that is no
longer true costs a look, and no row needs a timer of its own. An entry fires when its whole bucket has passed, so that
all of its rows are due then.
"""

from collections.abc import Iterable

import msgspec

from service.domain.instants import HOUR_US
from service.domain.join_window import next_look
from service.domain.row import RowState

PREFIX = b"\x01"
BUCKET_US = HOUR_US
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


def packed_timers(rows: Iterable[tuple[bytes, RowState]], stamp: bytes) -> list[tuple[bytes, bytes]]:
    """Timer entries for rows (row key, row). `stamp` tells this write from every other one.

    Entry key: 0x01, deployment ID, `/`, start of the bucket (8 bytes, big endian), stamp. So those of a deployment
    lie together, and sort by time.
    """
    buckets: dict[tuple[bytes, int], list[bytes]] = {}
    for key, row in rows:
        place = (key.partition(b"/")[0], next_look(row) // BUCKET_US)
        if place in buckets:
            buckets[place].append(key)
        else:
            buckets[place] = [key]
    return [
        (timers_begin(deployment, number * BUCKET_US) + stamp, _pack(keys))
        for (deployment, number), keys in buckets.items()
    ]


def timers_begin(deployment: bytes, bucket: int = 0) -> bytes:
    """What the entries of this bucket (microseconds since 1970) begin with; none of a later one sorts before it."""
    return PREFIX + deployment + b"/" + bucket.to_bytes(8, "big")


def timers_end(deployment: bytes) -> bytes:
    """After the last entry of the deployment."""
    return PREFIX + deployment + b"0"  # the character after the slash


def passed_buckets(watermark: int) -> int:
    """Start of the first bucket that this watermark has not wholly passed."""
    return max(0, watermark // BUCKET_US * BUCKET_US)


def bucket_of(entry: bytes) -> tuple[bytes, int]:
    """Deployment ID and start of the bucket of an entry, from its key."""
    deployment, _, rest = entry[len(PREFIX) :].partition(b"/")
    return deployment, int.from_bytes(rest[:8], "big")


def packed_keys(keys: list[bytes]) -> bytes:
    """The inverse of `unpacked_keys`."""
    return _pack(keys)


def unpacked_keys(entry: bytes) -> list[bytes]:
    """Row keys of one entry."""
    return _unpack(entry)
