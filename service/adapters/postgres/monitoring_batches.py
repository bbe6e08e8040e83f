"""Monitoring batches as people change them: row, event and deletion in one transaction, under the batch's lock."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import asyncpg

from service.adapters.postgres.any_case import any_case
from service.adapters.postgres.batch_changes import announce, open_batch
from service.adapters.postgres.locks import batch_lock, batch_name_lock, deployment_lock, lock_exclusive
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.errors import Conflict, NotFound
from service.usecases.monitoring_batches import (
    KEEP,
    BatchChange,
    BatchDraft,
    BatchPage,
    BatchQuestion,
    BatchSummary,
    unknown_batch,
)
from service.usecases.object_ids import new_object_id

_LIST: Final = statement("batch_list")
_FIND: Final = statement("batch_find")
_COUNT_CREATED: Final = statement("batch_count_created")
_ROOM: Final = statement("batch_room")
_NAMESAKES: Final = statement("batch_namesakes")
_FOR_CHANGE: Final = statement("batch_for_change")
_CHANGE: Final = statement("batch_change")
_OUTRANK: Final = statement("batch_outrank")
_DELETE: Final = statement("batch_delete")
_NEXT_DELETION: Final = statement("deletion_next")
_ADD_DELETION: Final = statement("deletion_of_batch")


class PostgresMonitoringBatches:
    """`service.usecases.monitoring_batches.MonitoringBatches` on Postgres."""

    def __init__(self, pool: asyncpg.Pool, new_id: Callable[[], str] = new_object_id) -> None:
        self._pool = pool
        self._new_id = new_id

    async def page(self, question: BatchQuestion) -> BatchPage | None:
        with translating():
            rows = await self._pool.fetch(_LIST, *_columns(question))
        if not rows:
            return None
        return BatchPage(batches=[_summary(row) for row in rows if row["id"] is not None], total=rows[0]["total"])

    async def find(self, deployment_id: str, batch_id: str) -> BatchSummary | None:
        with translating():
            row = await self._pool.fetchrow(_FIND, deployment_id, batch_id)
        return _summary(row) if row else None

    async def asked_for(self, deployment_id: str) -> int:
        with translating():
            count: int = await self._pool.fetchval(_COUNT_CREATED, deployment_id)
        return count

    async def open(
        self, deployment_id: str, draft: BatchDraft, *, author: Mapping[str, str], limit: int
    ) -> BatchSummary:
        """Its name is locked too: whoever opens a batch by that name at the same time finds this one, or is older."""
        named = [] if draft.name is None else [batch_name_lock(deployment_id, draft.name)]
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_exclusive(connection, [deployment_lock(deployment_id), *named])
                room = await connection.fetchrow(_ROOM, deployment_id)
                if room is None:
                    raise NotFound(f"there is no deployment {deployment_id!r}")
                _require_on(deployment_id, room)
                if room["created"] >= limit:
                    raise Conflict(f"deployment {deployment_id!r} has {limit:,} monitoring batches; delete one first")
                batch_id = self._new_id()
                await open_batch(
                    connection,
                    deployment_id,
                    batch_id,
                    draft.name,
                    origin="api",
                    description=draft.description,
                    external_context_url=draft.external_context_url,
                    is_locked=draft.is_locked,
                    created_by=author,
                )
                return _summary(await connection.fetchrow(_FIND, deployment_id, batch_id))

    async def change(
        self, deployment_id: str, batch_id: str, change: BatchChange, *, even_where_off: bool = False
    ) -> BatchSummary:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await _lock(connection, deployment_id, batch_id, change)
                row = await connection.fetchrow(_FOR_CHANGE, deployment_id, batch_id)
                if row is None:
                    raise unknown_batch(deployment_id, batch_id)
                if not even_where_off:
                    _require_on(deployment_id, row)
                await _change(connection, deployment_id, row, change)
                return _summary(await connection.fetchrow(_FIND, deployment_id, batch_id))

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


async def _lock(connection: asyncpg.Connection, deployment_id: str, batch_id: str, change: BatchChange) -> None:
    """What a worker must see is changed under locks: whether rows may join, and which batch a name means.

    With a name its lock comes first, so that no other batch gets that name in between. Nobody holds the lock of a batch
    and waits for that of a name, hence no circle.
    """
    batches = []
    if change.name is not KEEP:
        await lock_exclusive(connection, [batch_name_lock(deployment_id, change.name)])
        batches = [row["id"] for row in await connection.fetch(_NAMESAKES, deployment_id, change.name)]
    if change.name is not KEEP or change.is_locked is not KEEP:
        await lock_exclusive(connection, [batch_lock(deployment_id, one) for one in (batch_id, *batches)])


async def _change(
    connection: asyncpg.Connection, deployment_id: str, row: Mapping[str, Any], change: BatchChange
) -> None:
    name = row["name"] if change.name is KEEP else change.name
    is_locked = row["is_locked"] if change.is_locked is KEEP else change.is_locked
    is_renamed, is_turned = name != row["name"], is_locked != row["is_locked"]
    at = await connection.fetchval(
        _CHANGE,
        deployment_id,
        row["id"],
        name,
        row["description"] if change.description is KEEP else change.description,
        row["external_context_url"] if change.external_context_url is KEEP else change.external_context_url,
        is_locked,
        int(is_renamed or is_turned),
    )
    if is_renamed:
        await connection.execute(_OUTRANK, deployment_id, row["id"], name)
    if is_turned:
        await announce(connection, deployment_id, row["id"], name, "LOCKED" if is_locked else "UNLOCKED", at)


def _require_on(deployment_id: str, row: Mapping[str, Any]) -> None:
    if not row["batch_enabled"]:
        raise Conflict(f"batch monitoring is off for deployment {deployment_id!r}")


def _columns(question: BatchQuestion) -> tuple[Any, ...]:
    """In the order of `batch_list`."""
    search = question.search
    return (
        question.deployment_id,
        question.created_by,
        search,
        None if search is None else any_case(search),
        question.created_after,
        question.created_before,
        question.start_after,
        question.end_before,
        question.order,
        question.descending,
        question.limit,
        question.offset,
    )


def _summary(row: Mapping[str, Any]) -> BatchSummary:
    return BatchSummary(**{name: row[name] for name in BatchSummary.__dataclass_fields__})
