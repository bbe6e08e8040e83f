"""What the intake of rows reads and writes on Postgres."""

from datetime import datetime, timedelta
from typing import Final

import asyncpg

from service.adapters.postgres.catalog import deployment_of
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.ids import is_object_id
from service.domain.monitoring_batch import MonitoringBatch
from service.usecases.intake import Claim, IntakeFacts, IntakeKind

_FACTS: Final = statement("intake_facts")
_TAKE: Final = statement("intake_take")
_CLAIMED: Final = statement("idempotency_key_find")
_CLAIM: Final = statement("idempotency_key_claim")
_REOPEN: Final = statement("task_reopen")


class PostgresIntake:
    """`service.usecases.intake.IntakeStore` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def facts(self, deployment_id: str, batch_id: str | None) -> IntakeFacts | None:
        wanted = batch_id if batch_id is not None and is_object_id(batch_id) else None
        with translating():
            row = await self._pool.fetchrow(_FACTS, deployment_id, wanted)
        return None if row is None else _facts(row)

    async def take(self, deployment_id: str, kind: IntakeKind, hour: datetime, records: int, most: int) -> bool:
        with translating():
            return await self._pool.fetchval(_TAKE, deployment_id, kind.value, hour, records, most) is not None

    async def claimed(self, user_id: str, key: str) -> Claim | None:
        with translating():
            row = await self._pool.fetchrow(_CLAIMED, user_id, key)
        return None if row is None else Claim(**dict(row))

    async def claim(self, user_id: str, key: str, claim: Claim) -> Claim:
        with translating():
            if await self._pool.fetchval(_CLAIM, user_id, key, *claim) is not None:
                return claim
        # it was found there a moment ago, and is kept for a day
        return await self.claimed(user_id, key) or claim

    async def reopen(self, task_id: str, held_for: timedelta) -> int | None:
        with translating():
            acknowledged: int | None = await self._pool.fetchval(_REOPEN, task_id, held_for)
        return acknowledged


def _facts(row: asyncpg.Record) -> IntakeFacts:
    batch = None
    if row["batch_id"] is not None:
        batch = MonitoringBatch(
            deployment_id=row["id"],
            id=row["batch_id"],
            version=row["batch_version"],
            name=row["batch_name"],
            is_locked=row["is_locked"],
        )
    return IntakeFacts(
        deployment=deployment_of(row),
        association_columns=row["association_columns"],
        ids_generated=row["ids_generated"],
        batch=batch,
    )
