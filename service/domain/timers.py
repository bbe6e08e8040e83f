"""Timers of rows, packed: one entry of the store per (deployment, bucket, micro-batch) holds the keys of its rows.

A timer says when to look at a row, never what to do: the row itself holds `due` and `drop`. So a timer that is no
longer true costs a look, and no row needs a timer of its own. An entry fires when its whole bucket has passed, so that
all of its rows are due then.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.domain.instants import HOUR_US
from service.domain.join_window import next_look
from service.domain.row import RowPhase, RowState

PREFIX = b"\x01"
BUCKET_US = HOUR_US
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[bytes]).decode


class Waiting(NamedTuple):
    """Rows (n,) of one deployment that time will act on: their keys, and at which watermark (microseconds)."""

    deployment: bytes
    keys: Sequence[bytes]
    looks: NDArray[np.int64]


def waiting_columns(deployments: Sequence[str], keys: Sequence[bytes], looks: NDArray[np.int64]) -> list[Waiting]:
    """Rows (n,) of any deployments."""
    if len(set(deployments)) <= 1:
        return [Waiting(name.encode(), keys, looks) for name in deployments[:1]]
    found: dict[str, list[int]] = {}
    for position, name in enumerate(deployments):
        found.setdefault(name, []).append(position)
    return [Waiting(name.encode(), [keys[i] for i in rows], looks[rows]) for name, rows in found.items()]


def next_looks(heads: NDArray[np.void]) -> NDArray[np.int64]:
    """`next_look` of rows (n,) by their heads."""
    phase = heads["phase"]
    waits = (phase == RowPhase.OPEN) | (phase == RowPhase.WITHDRAWN)
    looks: NDArray[np.int64] = np.where(waits, heads["due"], heads["drop"])
    return looks


def waiting_rows(rows: Iterable[tuple[bytes, RowState]]) -> list[Waiting]:
    """Rows (row key, row) of any deployments."""
    found: dict[bytes, list[tuple[bytes, int]]] = {}
    for key, row in rows:
        found.setdefault(key.partition(b"/")[0], []).append((key, next_look(row)))
    return [
        Waiting(name, [key for key, _ in pairs], np.array([look for _, look in pairs], dtype=np.int64))
        for name, pairs in found.items()
    ]


def packed_timers(waiting: Iterable[Waiting], stamp: bytes) -> list[tuple[bytes, bytes]]:
    """Timer entries for rows. `stamp` tells this write from every other one.

    Entry key: 0x01, deployment ID, `/`, start of the bucket (8 bytes, big endian), stamp. So those of a deployment
    lie together, and sort by time.
    """
    buckets: dict[tuple[bytes, int], list[bytes]] = {}
    for deployment, keys, looks in waiting:
        numbers = looks // BUCKET_US
        distinct, places = np.unique(numbers, return_inverse=True)
        groups = [buckets.setdefault((deployment, number), []) for number in distinct.tolist()]
        if len(groups) == 1:
            groups[0].extend(keys)
            continue
        for key, place in zip(keys, places.tolist(), strict=True):
            groups[place].append(key)
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
