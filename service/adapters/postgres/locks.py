"""Advisory locks between the workers, who count rows under the settings they know, and those who change settings.

A worker's transaction takes a shared lock for every deployment and batch that it touches, then compares versions; a
change takes the exclusive lock, then changes and raises the version. So when a change has returned, no row is counted
under the settings of before. All locks end with the transaction.

Keys are (space, bucket): the number of locks is bounded, and two names in one bucket only wait for each other.
Everybody takes all keys of a transaction at once and in sorted order, so nobody waits in a circle; only who renames a
batch takes the lock of the new name before those of the batches.
"""

import zlib
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

import asyncpg

from service.adapters.postgres.queries import statement

BUCKETS: Final = 1024

_EXCLUSIVE: Final = statement("lock_exclusive")
_TRY_EXCLUSIVE: Final = statement("lock_try_exclusive")


class LockSpace(IntEnum):
    """First half of a key, known to every process that shares the database: numbers are only ever appended."""

    DEPLOYMENTS = 1
    BATCHES = 2
    BATCH_NAMES = 3
    SETTINGS = 4


class LockKey(NamedTuple):
    space: LockSpace
    bucket: int


def deployment_lock(deployment_id: str) -> LockKey:
    return LockKey(LockSpace.DEPLOYMENTS, _bucket(deployment_id))


def batch_lock(deployment_id: str, batch_id: str) -> LockKey:
    return LockKey(LockSpace.BATCHES, _bucket(f"{deployment_id}/{batch_id}"))


def batch_name_lock(deployment_id: str, name: str) -> LockKey:
    """Held by those who open a batch by its name, so that it is opened once."""
    return LockKey(LockSpace.BATCH_NAMES, _bucket(f"{deployment_id}/{name}"))


def settings_lock(deployment_id: str) -> LockKey:
    """Held by whoever changes the settings of a deployment, so that another is told at once. Nobody waits for it."""
    return LockKey(LockSpace.SETTINGS, zlib.crc32(deployment_id.encode()) - (1 << 31))


async def lock_exclusive(connection: asyncpg.Connection, keys: Iterable[LockKey]) -> None:
    """What a change takes, before it reads what it changes. The connection must be in a transaction."""
    await connection.execute(_EXCLUSIVE, *lock_columns(keys))


async def try_lock_exclusive(connection: asyncpg.Connection, key: LockKey) -> bool:
    """Whether nobody held it, and so it is held now. The connection must be in a transaction."""
    return bool(await connection.fetchval(_TRY_EXCLUSIVE, int(key.space), key.bucket))


def _bucket(name: str) -> int:
    return zlib.crc32(name.encode()) % BUCKETS


def lock_columns(keys: Iterable[LockKey]) -> tuple[list[int], list[int]]:
    """Spaces and buckets, each key once and in the order in which everybody takes them."""
    ordered = sorted(set(keys))
    return [int(key.space) for key in ordered], [key.bucket for key in ordered]
