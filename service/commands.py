"""What the short commands of the command line do, once their arguments are read: open, do one thing, close."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from service.adapters.clock import SystemClock
from service.adapters.kafka import topics
from service.adapters.kafka.connection import client_options
from service.adapters.kafka.dead_letters import open_dead_letters
from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.feature_counts import PostgresFeatureCounts
from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.postgres.monitoring_batches import PostgresMonitoringBatches
from service.adapters.postgres.pool import open_pool
from service.adapters.postgres.schema import assert_migrated, schema_revision
from service.config import KafkaSettings, PostgresSettings
from service.domain.errors import Conflict
from service.domain.flood import Flood
from service.usecases import dead_letters as dead_letter_cases
from service.usecases import deployments as deployment_cases
from service.usecases import drift as drift_cases
from service.usecases import monitoring_batches as batch_cases
from service.usecases.baselines import Baseline
from service.usecases.dead_letters import DeadLetterLog, Letter, Place, Progress, Wanted
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import DeploymentDescription, InvalidDescription, parse_description
from service.usecases.deployments import Applied
from service.usecases.drift import DriftQuestion
from service.usecases.monitoring_batches import BatchSummary
from service.usecases.replay import Replay, Replayed, replay

POOL_SIZE = 2
MAY_REPEAT = (
    "without Kafka transactions (HINDSIGHT_KAFKA__TRANSACTIONS=false) letters can be sent a second time after this "
    "command was killed, or while another runs"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    before: str | None
    after: str | None


async def migrate_database(settings: PostgresSettings) -> Migrated:
    from service.adapters.postgres.migrate import migrate  # noqa: PLC0415

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
    """Those of `hindsight alerts` may be missing; what was made of them must be right."""
    options, prefix = client_options(settings), settings.topic_prefix
    problems = await topics.check_topics(options, prefix, partitions=partitions)
    of_alerts = await topics.check_alerts_topics(options, prefix, where_made=True)
    return [*problems, *(problem for problem in of_alerts if problem not in problems)]


async def apply_deployment(settings: PostgresSettings, file: Path) -> Applied:
    """The baseline's file is found from where the description is."""
    description = _read_description(file)
    async with migrated_pool(settings) as pool:
        return await apply(PostgresDeployments(pool), description, file.parent)


async def list_deployments(settings: PostgresSettings) -> list[dict[str, Any]]:
    async with migrated_pool(settings) as pool:
        return [deployment_cases.summarise(one) for one in await PostgresDeployments(pool).all()]


async def show_deployment(settings: PostgresSettings, deployment_id: str) -> dict[str, Any]:
    async with migrated_pool(settings) as pool:
        return deployment_cases.describe(await deployment_cases.show(PostgresDeployments(pool), deployment_id))


async def fix_baseline(
    settings: PostgresSettings, deployment_id: str, *, start: datetime, end: datetime, model_id: str | None
) -> Baseline:
    async with migrated_pool(settings) as pool:
        return await drift_cases.fix_period(
            PostgresDeployments(pool),
            PostgresFeatureCounts(pool),
            deployment_id,
            start=start,
            end=end,
            model_id=model_id,
        )


async def show_drift(settings: PostgresSettings, asked: DriftQuestion) -> dict[str, Any]:
    async with migrated_pool(settings) as pool:
        drift = await drift_cases.drift(PostgresDeployments(pool), PostgresFeatureCounts(pool), asked)
        return drift_cases.describe(drift, asked.by)


async def list_batches(settings: PostgresSettings, deployment_id: str) -> list[dict[str, Any]]:
    """All of them, page by page."""
    found: list[BatchSummary] = []
    async with migrated_pool(settings) as pool:
        batches = PostgresMonitoringBatches(pool)
        while True:
            page = await batch_cases.page(batches, deployment_id, offset=len(found))
            found += page.batches
            if not page.batches or len(found) >= page.total:
                return [batch_cases.describe(batch) for batch in found]


async def lock_batch(settings: PostgresSettings, deployment_id: str, batch_id: str) -> None:
    async with migrated_pool(settings) as pool:
        await batch_cases.lock(PostgresMonitoringBatches(pool), deployment_id, batch_id)


async def unlock_batch(settings: PostgresSettings, deployment_id: str, batch_id: str) -> None:
    async with migrated_pool(settings) as pool:
        await batch_cases.unlock(PostgresMonitoringBatches(pool), deployment_id, batch_id)


async def delete_batch(settings: PostgresSettings, deployment_id: str, batch_id: str) -> None:
    async with migrated_pool(settings) as pool:
        await batch_cases.delete(PostgresMonitoringBatches(pool), deployment_id, batch_id)


async def resume(settings: PostgresSettings, partition: int | None) -> dict[int, Flood]:
    """Raises `Conflict` where the partition that is named is not paused."""
    async with migrated_pool(settings) as pool:
        resumed = await PostgresLedger(pool).resume(partition)
    if partition is not None and not resumed:
        raise Conflict(f"partition {partition} is not paused")
    return resumed


async def list_dead_letters(
    settings: KafkaSettings, which: Wanted, *, tell: Callable[[Letter], None], progress: Progress
) -> None:
    """One after the other, however many there are."""
    async with _dead_letters(settings) as log:
        async for found in dead_letter_cases.letters(log, which, progress):
            tell(found)


async def show_dead_letter(settings: KafkaSettings, place: Place, progress: Progress) -> Letter:
    async with _dead_letters(settings) as log:
        return await dead_letter_cases.one_letter(log, place, progress)


async def replay_dead_letters(
    settings: KafkaSettings, which: Wanted, *, dry_run: bool, tell: Callable[[Replay], None], progress: Progress
) -> Replayed:
    now_ms = round(SystemClock().now().timestamp() * 1000)
    async with _dead_letters(settings) as log:
        return await replay(log, which, now_ms=now_ms, dry_run=dry_run, tell=tell, progress=progress)


def _dead_letters(settings: KafkaSettings) -> AbstractAsyncContextManager[DeadLetterLog]:
    return open_dead_letters(
        client_options(settings),
        prefix=settings.topic_prefix,
        group_id=settings.group_id,
        transactions=settings.transactions,
    )


def _read_description(file: Path) -> DeploymentDescription:
    try:
        return parse_description(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InvalidDescription([f"{file}: {reason}"]) from None


@asynccontextmanager
async def migrated_pool(settings: PostgresSettings) -> AsyncIterator[asyncpg.Pool]:
    dsn = settings.dsn.get_secret_value()
    await assert_migrated(dsn)
    async with open_pool(dsn, size=POOL_SIZE, application_name="hindsight-cli") as pool:
        yield pool
