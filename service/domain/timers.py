"""Timers of rows, packed: one entry of the store per (deployment, due bucket, micro-batch) holds the keys of its rows.

A timer says when to look at a row, never what to do: the row itself holds `due` and `drop`. So a timer that is no
longer true costs a look, and no row needs a timer of its own.
"""

from collections.abc import Iterable

import msgspec

from service.domain.row import RowState

PREFIX = b"\x01"
BUCKET_US = 3_600_000_000
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


def due_at(row: RowState) -> int:
    """When to look at this row next (microseconds since 1970): at `due`, or at `drop` while its actual is parked."""
    return row.due or row.drop


def packed_timers(rows: Iterable[tuple[bytes, RowState]], stamp: bytes) -> list[tuple[bytes, bytes]]:
    """Timer entries for rows (row key, row). `stamp` tells this write from every other one.

    Entry key: 0x01, start of the bucket (8 bytes, big endian), deployment ID, `/`, stamp; they sort by time.
    """
    buckets: dict[tuple[int, bytes], list[bytes]] = {}
    for key, row in rows:
        place = ((row.due or row.drop) // BUCKET_US, key.partition(b"/")[0])
        if place in buckets:
            buckets[place].append(key)
        else:
            buckets[place] = [key]
    return [
        (PREFIX + (number * BUCKET_US).to_bytes(8, "big") + deployment + b"/" + stamp, _pack(keys))
        for (number, deployment), keys in buckets.items()
    ]


def unpacked_keys(entry: bytes) -> list[bytes]:
    """Row keys of one entry."""
    return _unpack(entry)
