"""Monitoring batches as people change them: row, event and deletion in one transaction, under the batch's lock."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import asyncpg

from service.adapters.postgres.batch_changes import announce, open_batch
from service.adapters.postgres.catalog import new_object_id
from service.adapters.postgres.locks import batch_lock, deployment_lock, lock_exclusive
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.errors import NotFound
from service.usecases.monitoring_batches import BatchPage, BatchSummary
from service.wire.batch_event import Change

_LIST: Final = statement("batch_list")
_COUNT: Final = statement("batch_count")
_COUNT_CREATED: Final = statement("batch_count_created")
_EXISTS: Final = statement("batch_exists")
_SET_LOCKED: Final = statement("batch_set_locked")
_DELETE: Final = statement("batch_delete")
_NEXT_DELETION: Final = statement("deletion_next")
_ADD_DELETION: Final = statement("deletion_of_batch")
_KNOWN: Final = statement("deployment_known")


class PostgresMonitoringBatches:
    """`service.usecases.monitoring_batches.MonitoringBatches` on Postgres."""

    def __init__(self, pool: asyncpg.Pool, new_id: Callable[[], str] = new_object_id) -> None:
        self._pool = pool
        self._new_id = new_id

    async def page(self, deployment_id: str, *, limit: int, offset: int) -> BatchPage | None:
        with translating():
            async with self._pool.acquire() as connection:
                if await connection.fetchrow(_KNOWN, deployment_id) is None:
                    return None
                rows = await connection.fetch(_LIST, deployment_id, limit, offset)
                total = await connection.fetchval(_COUNT, deployment_id)
        return BatchPage(batches=[_summary(row) for row in rows], total=total)

    async def open(self, deployment_id: str, name: str, *, description: str | None, limit: int) -> str | None:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_exclusive(connection, [deployment_lock(deployment_id)])
                if await connection.fetchrow(_KNOWN, deployment_id) is None:
                    raise NotFound(f"there is no deployment {deployment_id!r}")
                if await connection.fetchval(_COUNT_CREATED, deployment_id) >= limit:
                    return None
                batch_id = self._new_id()
                await open_batch(connection, deployment_id, batch_id, name, origin="api", description=description)
                return batch_id

    async def set_locked(self, deployment_id: str, batch_id: str, *, locked: bool) -> bool:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_exclusive(connection, [batch_lock(deployment_id, batch_id)])
                changed = await connection.fetchrow(_SET_LOCKED, deployment_id, batch_id, locked)
                if changed is None:
                    return bool(await connection.fetchval(_EXISTS, deployment_id, batch_id))
                event: Change = "LOCKED" if locked else "UNLOCKED"
                await announce(connection, deployment_id, batch_id, changed["name"], event, changed["at"])
                return True

    async def delete(self, deployment_id: str, batch_id: str) -> bool:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_exclusive(connection, [deployment_lock(deployment_id), batch_lock(deployment_id, batch_id)])
                deleted = await connection.fetchrow(_DELETE, deployment_id, batch_id)
                if deleted is None:
                    return False
                number = await connection.fetchval(_NEXT_DELETION, deployment_id)
                await connection.execute(_ADD_DELETION, deployment_id, number, batch_id)
                await announce(connection, deployment_id, batch_id, deleted["name"], "DELETED", deleted["at"])
                return True


def _summary(row: Mapping[str, Any]) -> BatchSummary:
    return BatchSummary(**dict(row))
