"""Deployments as people describe them: everything is written in one transaction, under the lock of the deployment."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from service.adapters.postgres.catalog import join_spec
from service.adapters.postgres.layouts import layout_from_json, layout_to_json
from service.adapters.postgres.locks import deployment_lock, lock_exclusive
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.deployment import BatchPolicy, TargetType
from service.usecases.baselines import Baseline, BaselineCounts
from service.usecases.deployments import (
    DeploymentSettings,
    DeploymentSummary,
    Feature,
    StoredDeployment,
    VersionMoved,
)

_FIND: Final = statement("deployment_find")
_LIST: Final = statement("deployment_list")
_VERSION: Final = statement("deployment_version")
_SAVE: Final = statement("deployment_save")
_SAVE_MODEL: Final = statement("model_save")
_SAVE_BASELINE: Final = statement("baseline_save")


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
        return _stored(row) if row else None

    async def save(self, settings: DeploymentSettings, baseline: Baseline | None, expected_version: int | None) -> int:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_exclusive(connection, [deployment_lock(settings.id)])
                if await connection.fetchval(_VERSION, settings.id) != expected_version:
                    raise VersionMoved(settings.id)
                version: int = await connection.fetchval(_SAVE, *_columns(settings))
                await connection.execute(_SAVE_MODEL, settings.id, settings.model_id, settings.model_name)
                if baseline is not None:
                    await connection.execute(_SAVE_BASELINE, *baseline_columns(settings.id, baseline))
                return version

    async def all(self) -> list[DeploymentSummary]:
        with translating():
            rows = await self._pool.fetch(_LIST)
        return [_summary(row) for row in rows]


def _columns(settings: DeploymentSettings) -> tuple[Any, ...]:
    """In the order of `deployment_save`."""
    join = settings.join
    return (
        settings.id,
        settings.label,
        settings.description,
        settings.target_name,
        settings.target_type,
        list(settings.class_names),
        settings.positive_class,
        settings.threshold,
        settings.model_id,
        [{"name": feature.name, "type": feature.type} for feature in settings.features],
        list(settings.association_columns),
        settings.association_required,
        join.window,
        join.grace,
        join.allowed_lateness,
        join.early_ttl,
        join.idle_timeout,
        join.max_future_skew,
        join.late_policy,
        join.actual_order,
        settings.batch_enabled,
        settings.batch_policy,
    )


def baseline_columns(deployment_id: str, baseline: Baseline) -> tuple[Any, ...]:
    """In the order of `baseline_save`."""
    counted = baseline.counted
    return (
        deployment_id,
        baseline.model_id,
        baseline.kind,
        baseline.method,
        counted.rows,
        layout_to_json(counted.layout),
        list(counted.counts),
        baseline.start,
        baseline.end,
    )


def _stored(row: Mapping[str, Any]) -> StoredDeployment:
    models = {model["id"]: model["name"] for model in row["models"] or ()}
    return StoredDeployment(
        settings=_settings(row, models),
        version=row["version"],
        origin=row["origin"],
        created_at=row["created_at"],
        is_deleted=row["deleted_at"] is not None,
        models=models,
        baselines=[_baseline(stored) for stored in row["baselines"] or ()],
    )


def _settings(row: Mapping[str, Any], models: Mapping[str, str]) -> DeploymentSettings:
    return DeploymentSettings(
        id=row["id"],
        label=row["label"],
        description=row["description"],
        target_name=row["target_name"],
        target_type=TargetType(row["target_type"]) if row["target_type"] else None,
        class_names=tuple(row["class_names"]),
        positive_class=row["positive_class"],
        threshold=row["threshold"],
        model_id=row["current_model_id"],
        model_name=models[row["current_model_id"]],
        features=tuple(Feature(name=feature["name"], type=feature["type"]) for feature in row["features"]),
        association_columns=tuple(row["association_columns"]),
        association_required=row["association_required"],
        join=join_spec(row),
        batch_enabled=row["batch_enabled"],
        batch_policy=BatchPolicy(row["batch_policy"]),
    )


def _baseline(stored: Mapping[str, Any]) -> Baseline:
    counted = BaselineCounts(
        rows=stored["rows"], layout=layout_from_json(stored["layout"]), counts=tuple(stored["counts"])
    )
    return Baseline(
        model_id=stored["model_id"],
        kind=stored["kind"],
        counted=counted,
        start=_instant(stored["start_at"]),
        end=_instant(stored["end_at"]),
        version=stored["version"],
        method=stored["method"],
    )


def _instant(text: str | None) -> datetime | None:
    """As JSON of the database tells it, in the time zone of the session."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


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
