"""Status tasks on Postgres. Every look ends what is done or was given up, so all processes see the same."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import asyncpg

from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.usecases.access import Principal
from service.usecases.status_tasks import KEPT_FOR, StatusTask, Submitted, TaskKind, TaskStatus

_ADD: Final = statement("task_add")
_ADD_SUBMISSION: Final = statement("submission_add")
_COMPLETE: Final = statement("task_complete_counted")
_GIVE_UP: Final = statement("task_give_up_silent")
_FIND: Final = statement("task_find")
_UNENDED: Final = statement("task_unended")
_COUNT: Final = statement("task_count_unended")
_DESTROY: Final = statement("task_destroy")
_HOLD: Final = statement("task_hold")
_PROGRESS: Final = statement("submission_progress")
_PRODUCED: Final = statement("submission_produced")
_RELEASE: Final = statement("task_release")
_END: Final = statement("task_end")
_FORGET: Final = statement("task_forget")
_FORGET_COUNTS: Final = statement("submission_counts_forget")


class PostgresStatusTasks:
    """`service.usecases.status_tasks.StatusTasks` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add(
        self,
        task_id: str,
        principal: Principal,
        *,
        kind: TaskKind,
        deployment_id: str,
        description: str,
        held_for: timedelta,
        with_records: bool,
    ) -> None:
        columns = (task_id, principal.user_id, deployment_id, kind, description, held_for)
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_ADD, *columns)
                if with_records:
                    await connection.execute(_ADD_SUBMISSION, task_id, deployment_id)

    async def find(self, task_id: str, user_id: str) -> StatusTask | None:
        with translating():
            async with self._pool.acquire() as connection:
                row = await connection.fetchrow(_FIND, task_id, user_id)
                if row is not None and _may_end(row):
                    await _settle(connection, task_id, user_id)
                    row = await connection.fetchrow(_FIND, task_id, user_id)
        return None if row is None else _task(row)

    async def unended(self, user_id: str, *, offset: int, limit: int | None) -> tuple[Sequence[StatusTask], int]:
        with translating():
            async with self._pool.acquire() as connection:
                await _settle(connection, None, user_id)
                rows = await connection.fetch(_UNENDED, user_id, offset, limit)
                total = await connection.fetchval(_COUNT, user_id)
        return [_task(row) for row in rows], total

    async def destroy(self, task_id: str, user_id: str) -> bool:
        with translating():
            return await self._pool.fetchval(_DESTROY, task_id, user_id) is not None

    async def hold(self, task_id: str, held_for: timedelta, *, acknowledged: int, invalid: int) -> bool:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_PROGRESS, task_id, acknowledged, invalid)
                return await connection.fetchval(_HOLD, task_id, held_for) is not None

    async def produced(self, task_id: str, *, records: int, invalid: int, invalid_told: str = "") -> None:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_PRODUCED, task_id, records, invalid, invalid_told)
                await connection.execute(_RELEASE, task_id)

    async def end(self, task_id: str, status: TaskStatus, *, code: int, message: str | None) -> None:
        with translating():
            await self._pool.execute(_END, task_id, status, code, message)

    async def settle(self) -> None:
        with translating():
            async with self._pool.acquire() as connection:
                await _settle(connection, None, None)
                await connection.execute(_FORGET, KEPT_FOR)
                await connection.execute(_FORGET_COUNTS)


async def _settle(connection: asyncpg.Connection, task_id: str | None, user_id: str | None) -> None:
    await connection.execute(_COMPLETE, task_id, user_id)
    await connection.execute(_GIVE_UP, task_id, user_id)


def _may_end(row: Mapping[str, Any]) -> bool:
    """Whether it goes on, as far as is written, though it is done or was given up."""
    if row["status"] not in (TaskStatus.INITIALIZED, TaskStatus.RUNNING):
        return False
    records = row["records"]
    return bool(row["is_silent"]) or (records is not None and sum((row["counted"] or {}).values()) >= records)


def _task(row: Mapping[str, Any]) -> StatusTask:
    submitted = None
    if row["acknowledged"] is not None:
        submitted = Submitted(
            records=row["records"],
            acknowledged=row["acknowledged"],
            invalid=row["invalid"],
            invalid_told=row["invalid_told"],
            counted=row["counted"] or {},
        )
    return StatusTask(
        id=row["id"],
        user_id=row["user_id"],
        deployment_id=row["deployment_id"],
        kind=TaskKind(row["kind"]),
        description=row["description"],
        status=TaskStatus(row["status"]),
        code=row["code"],
        message=row["message"],
        created_at=row["created_at"],
        submitted=submitted,
    )
