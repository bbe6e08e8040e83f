"""What the short commands of the command line do, once their arguments are read: open, do one thing, close."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from service.adapters.kafka import topics
from service.adapters.kafka.connection import client_options
from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.feature_counts import PostgresFeatureCounts
from service.adapters.postgres.migrate import assert_migrated, migrate, schema_revision
from service.adapters.postgres.monitoring_batches import PostgresMonitoringBatches
from service.adapters.postgres.pool import open_pool
from service.config import KafkaSettings, PostgresSettings
from service.usecases import deployments as deployment_cases
from service.usecases import drift as drift_cases
from service.usecases import monitoring_batches as batch_cases
from service.usecases.baselines import Baseline
from service.usecases.deployment_description import DeploymentDescription, InvalidDescription, parse_description
from service.usecases.deployments import Applied
from service.usecases.drift import DriftQuestion
from service.usecases.monitoring_batches import BatchSummary

POOL_SIZE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    before: str | None
    after: str | None


async def migrate_database(settings: PostgresSettings) -> Migrated:
    dsn = settings.dsn.get_secret_value()
    before = await schema_revision(dsn)
    await migrate(dsn)
    return Migrated(before=before, after=await schema_revision(dsn))


async def create_topics(
    settings: KafkaSettings, *, partitions: int, replication_factor: int | None, min_insync: int | None
) -> topics.Creation:
    return await topics.create_topics(
        client_options(settings),
        settings.topic_prefix,
        partitions=partitions,
        replication_factor=replication_factor,
        min_insync=min_insync,
    )


async def check_topics(settings: KafkaSettings, *, partitions: int | None) -> list[str]:
    return await topics.check_topics(client_options(settings), settings.topic_prefix, partitions=partitions)


async def apply_deployment(settings: PostgresSettings, file: Path) -> Applied:
    """The baseline's file is found from where the description is."""
    description = _read_description(file)
    async with _migrated_pool(settings) as pool:
        return await deployment_cases.apply(PostgresDeployments(pool), description, file.parent)


async def list_deployments(settings: PostgresSettings) -> list[dict[str, Any]]:
    async with _migrated_pool(settings) as pool:
        return [deployment_cases.summarise(one) for one in await PostgresDeployments(pool).all()]


async def show_deployment(settings: PostgresSettings, deployment_id: str) -> dict[str, Any]:
    async with _migrated_pool(settings) as pool:
        return deployment_cases.describe(await deployment_cases.show(PostgresDeployments(pool), deployment_id))


async def fix_baseline(
    settings: PostgresSettings, deployment_id: str, *, start: datetime, end: datetime, model_id: str | None
) -> Baseline:
    async with _migrated_pool(settings) as pool:
        return await drift_cases.fix_period(
            PostgresDeployments(pool),
            PostgresFeatureCounts(pool),
            deployment_id,
            start=start,
            end=end,
            model_id=model_id,
        )


async def show_drift(settings: PostgresSettings, asked: DriftQuestion) -> dict[str, Any]:
    async with _migrated_pool(settings) as pool:
        drift = await drift_cases.drift(PostgresDeployments(pool), PostgresFeatureCounts(pool), asked)
        return drift_cases.describe(drift, asked.by)


async def list_batches(settings: PostgresSettings, deployment_id: str) -> list[dict[str, Any]]:
    """All of them, page by page."""
    found: list[BatchSummary] = []
    async with _migrated_pool(settings) as pool:
        batches = PostgresMonitoringBatches(pool)
        while True:
            page = await batch_cases.page(batches, deployment_id, offset=len(found))
            found += page.batches
            if not page.batches or len(found) >= page.total:
                return [batch_cases.describe(batch) for batch in found]


async def lock_batch(settings: PostgresSettings, deployment_id: str, batch_id: str) -> None:
    async with _migrated_pool(settings) as pool:
        await batch_cases.lock(PostgresMonitoringBatches(pool), deployment_id, batch_id)


async def unlock_batch(settings: PostgresSettings, deployment_id: str, batch_id: str) -> None:
    async with _migrated_pool(settings) as pool:
        await batch_cases.unlock(PostgresMonitoringBatches(pool), deployment_id, batch_id)


async def delete_batch(settings: PostgresSettings, deployment_id: str, batch_id: str) -> None:
    async with _migrated_pool(settings) as pool:
        await batch_cases.delete(PostgresMonitoringBatches(pool), deployment_id, batch_id)


def _read_description(file: Path) -> DeploymentDescription:
    try:
        return parse_description(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InvalidDescription([f"{file}: {reason}"]) from None


@asynccontextmanager
async def _migrated_pool(settings: PostgresSettings) -> AsyncIterator[asyncpg.Pool]:
    dsn = settings.dsn.get_secret_value()
    await assert_migrated(dsn)
    async with open_pool(dsn, size=POOL_SIZE, application_name="hindsight-cli") as pool:
        yield pool
