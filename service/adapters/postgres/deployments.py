"""Deployments as people describe them: everything is written in one transaction, under the lock of the deployment."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import asyncpg

from service.adapters.postgres.deployment_rows import (
    baseline_columns,
    model_columns,
    settings_columns,
    stored_deployment,
)
from service.adapters.postgres.locks import deployment_lock, lock_exclusive, settings_lock, try_lock_exclusive
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.deployment import TargetType
from service.usecases.baselines import Baseline
from service.usecases.deployments import (
    Associated,
    BeingChanged,
    DeploymentSettings,
    DeploymentSummary,
    StoredDeployment,
    VersionMoved,
)

_FIND: Final = statement("deployment_find")
_LIST: Final = statement("deployment_list")
_VERSION: Final = statement("deployment_version")
_SAVE: Final = statement("deployment_save")
_SAVE_MODEL: Final = statement("model_save")
_SAVE_BASELINE: Final = statement("baseline_save")
_ASSOCIATED: Final = statement("deployment_is_associated")
_DELETE: Final = statement("deployment_delete")
_ADD_DELETION: Final = statement("deletion_of_deployment")


class PostgresDeployments:
    """`service.usecases.deployments.Deployments` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def longest_row(self) -> timedelta | None:
        """How long a row of any deployment may live; None while there is none."""
        with translating():
            longest: timedelta | None = await self._pool.fetchval(statement("deployments_longest_row"))
        return longest

    async def find(self, deployment_id: str) -> StoredDeployment | None:
        with translating():
            row = await self._pool.fetchrow(_FIND, deployment_id)
        return stored_deployment(row) if row else None

    async def save(self, settings: DeploymentSettings, baseline: Baseline | None, expected_version: int | None) -> int:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                return await _save(connection, settings, baseline, expected_version)

    async def save_settings(
        self, settings: DeploymentSettings, expected_version: int, *, moves_association: bool
    ) -> int:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                if not await try_lock_exclusive(connection, settings_lock(settings.id)):
                    raise BeingChanged(settings.id)
                version = await _save(connection, settings, None, expected_version)
                if moves_association and await connection.fetchval(_ASSOCIATED, settings.id):
                    raise Associated(settings.id)
                return version

    async def delete(self, deployment_id: str) -> bool:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_exclusive(connection, [deployment_lock(deployment_id)])
                number = await connection.fetchval(_DELETE, deployment_id)
                if number is None:
                    return False
                await connection.execute(_ADD_DELETION, deployment_id, number)
                return True

    async def all(self) -> list[DeploymentSummary]:
        with translating():
            rows = await self._pool.fetch(_LIST)
        return [_summary(row) for row in rows]


async def _save(
    connection: asyncpg.Connection, settings: DeploymentSettings, baseline: Baseline | None, expected: int | None
) -> int:
    """The connection must be in a transaction."""
    await lock_exclusive(connection, [deployment_lock(settings.id)])
    if await connection.fetchval(_VERSION, settings.id) != expected:
        raise VersionMoved(settings.id)
    version: int = await connection.fetchval(_SAVE, *settings_columns(settings))
    await connection.execute(_SAVE_MODEL, *model_columns(settings))
    if baseline is not None:
        await connection.execute(_SAVE_BASELINE, *baseline_columns(settings.id, baseline))
    return version


def _summary(row: Mapping[str, Any]) -> DeploymentSummary:
    return DeploymentSummary(
        id=row["id"],
        label=row["label"],
        origin=row["origin"],
        target_type=TargetType(row["target_type"]) if row["target_type"] else None,
        model_id=row["current_model_id"],
        version=row["version"],
        created_at=row["created_at"],
        batches=row["batches"],
    )
