"""Baselines by themselves: written under the lock of their deployment, whose version rises."""

from typing import Final

import asyncpg

from service.adapters.postgres.deployment_rows import baseline_columns
from service.adapters.postgres.holdouts import holdout_from_json, holdout_to_json
from service.adapters.postgres.locks import deployment_lock, lock_exclusive
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.usecases.baselines import Baseline
from service.usecases.deployments import VersionMoved
from service.usecases.holdout import Holdout
from service.usecases.model_baselines import HoldoutFacts

_VERSION: Final = statement("deployment_version")
_KEEP: Final = statement("baseline_keep")
_MOVED: Final = statement("deployment_moved")
_HOLDOUT: Final = statement("baseline_holdout")


class PostgresBaselines:
    """`service.usecases.model_baselines.Baselines` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def holdout(self, deployment_id: str, model_id: str) -> HoldoutFacts:
        with translating():
            row = await self._pool.fetchrow(_HOLDOUT, deployment_id, model_id)
        fixed = None if row["holdout"] is None else holdout_from_json(row["holdout"])
        return HoldoutFacts(threshold=row["threshold"], fixed=fixed)

    async def keep(
        self, deployment_id: str, baseline: Baseline, holdout: Holdout | None, expected_version: int
    ) -> None:
        columns = baseline_columns(deployment_id, baseline)
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_exclusive(connection, [deployment_lock(deployment_id)])
                if await connection.fetchval(_VERSION, deployment_id) != expected_version:
                    raise VersionMoved(deployment_id)
                await connection.execute(_KEEP, *columns, None if holdout is None else holdout_to_json(holdout))
                await connection.execute(_MOVED, deployment_id)
