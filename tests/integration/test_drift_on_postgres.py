"""Drift from cells on a real Postgres: what is summed, what is left out, and baselines made of a period."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import yaml

from service.adapters.postgres.catalog import PostgresCatalog
from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.feature_counts import PostgresFeatureCounts
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.monitoring_batches import PostgresMonitoringBatches
from service.adapters.postgres.pool import open_pool
from service.domain.errors import Conflict, Invalid
from service.usecases import deployment_apply
from service.usecases import deployments as deployment_cases
from service.usecases import monitoring_batches as batch_cases
from service.usecases.baselines import Baseline
from service.usecases.deployment_description import parse_description
from service.usecases.drift import (
    BaselineKind,
    BucketCounts,
    CountsOf,
    Drift,
    DriftQuestion,
    TooManyBuckets,
    drift,
    fix_period,
)
from service.usecases.monitoring_batches import BatchDraft
from service.usecases.statistics import Grouping
from tests.integration.test_deployments_on_postgres import DESCRIBED

LAST_OF_JANUARY = datetime(2026, 1, 31, 23, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
ALL = CountsOf(deployment_id="flights", model_id="m1")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    """With the deployment `flights`: slots EWR, JFK, other, missing; then distances, one edge."""
    await migrate(database)
    async with open_pool(database, size=4, application_name="test") as opened:
        yield opened


@pytest.fixture
async def deployments(pool: asyncpg.Pool, tmp_path: Path) -> PostgresDeployments:
    kept = PostgresDeployments(pool)
    await apply(kept, tmp_path, "origin,distance\nEWR,1\nEWR,1\nJFK,\n")
    return kept


async def apply(deployments: PostgresDeployments, directory: Path, rows: str, **changes: object) -> None:
    (directory / "baseline.csv").write_text(rows)
    await deployment_apply.apply(deployments, parse_description(yaml.safe_dump(DESCRIBED | changes)), directory)


async def put_cell(
    pool: asyncpg.Pool,
    counts: tuple[int, ...],
    hour: datetime = LAST_OF_JANUARY,
    batch_id: str = "",
    task: int = 0,
    model_id: str = "m1",
) -> None:
    await pool.execute(
        "INSERT INTO prediction_cells VALUES ($1, 'flights', $2, $3, $4, '', 1, $4, $4, NULL, '{}', $5)",
        task, model_id, batch_id, hour, list(counts),
    )  # fmt: skip


def sums(*buckets: tuple[str, list[int]]) -> list[BucketCounts]:
    return [BucketCounts(bucket=bucket, counts=counts) for bucket, counts in buckets]


async def test_counts_are_sums_over_tasks_batches_and_hours(
    deployments: PostgresDeployments, pool: asyncpg.Pool
) -> None:
    counts = PostgresFeatureCounts(pool)
    await put_cell(pool, (1, 0, 0, 0, 1, 0, 0))
    await put_cell(pool, (0, 2, 0, 0, 0, 0, 2), task=1)
    await put_cell(pool, (0, 0, 3, 0), batch_id="b")
    await put_cell(pool, (0, 0, 0, 4, 4, 0, 0), FEBRUARY)
    await put_cell(pool, (9, 9, 9, 9, 9, 9, 9), model_id="m2")
    await put_cell(pool, (), FEBRUARY + timedelta(hours=1))

    async def of(by: Grouping, limit: int = 10) -> list[BucketCounts] | None:
        return await counts.counts(ALL, by=by, limit=limit)

    assert await of(Grouping.ALL) == sums(("", [1, 2, 3, 4, 5, 0, 2]))
    assert await of(Grouping.MONTH) == sums(("2026-01", [1, 2, 3, 0, 1, 0, 2]), ("2026-02", [0, 0, 0, 4, 4, 0, 0]))
    assert await of(Grouping.BATCH) == sums(("", [1, 2, 0, 4, 5, 0, 2]), ("b", [0, 0, 3, 0]))
    assert await of(Grouping.HOUR) == sums(
        ("2026-01-31T23:00Z", [1, 2, 3, 0, 1, 0, 2]), ("2026-02-01T00:00Z", [0, 0, 0, 4, 4, 0, 0]),
        ("2026-02-01T01:00Z", []),
    )  # fmt: skip
    assert len(await of(Grouping.DAY, limit=2) or ()) == 2
    with pytest.raises(TooManyBuckets):
        await of(Grouping.DAY, limit=1)


async def test_counts_of_a_period_and_of_a_batch(deployments: PostgresDeployments, pool: asyncpg.Pool) -> None:
    counts, batches = PostgresFeatureCounts(pool), PostgresMonitoringBatches(pool)
    kept, gone = [(await batch_cases.create(batches, "flights", BatchDraft(name=n))).id for n in ("kept", "gone")]
    await put_cell(pool, (1, 0, 0, 0), batch_id=kept)
    await put_cell(pool, (0, 2, 0, 0), batch_id=gone)
    await put_cell(pool, (0, 0, 3, 0), FEBRUARY)

    async def of(**asked: object) -> list[BucketCounts] | None:
        whose = CountsOf(deployment_id="flights", model_id="m1", **asked)  # type: ignore[arg-type]
        return await counts.counts(whose, by=Grouping.ALL, limit=1)

    assert await of(end=FEBRUARY) == sums(("", [1, 2, 0, 0]))
    assert await of(start=FEBRUARY) == sums(("", [0, 0, 3, 0]))
    assert await of(start=FEBRUARY, end=FEBRUARY) == []
    assert await of(batch_id=kept) == sums(("", [1, 0, 0, 0]))
    assert await of(batch_id="never") is None
    await batch_cases.delete(batches, "flights", gone)
    assert await of() == sums(("", [1, 0, 3, 0]))
    assert await of(batch_id=gone) is None


async def test_a_period_becomes_a_baseline_beside_the_first_one(
    deployments: PostgresDeployments, pool: asyncpg.Pool
) -> None:
    await put_cell(pool, (1, 3, 0, 0, 2, 0, 2))
    await put_cell(pool, (9, 9, 9, 9, 9, 9, 18), FEBRUARY)
    version = (await deployment_cases.show(deployments, "flights")).version

    first = await january(deployments, pool)
    await put_cell(pool, (0, 1, 0, 0, 1, 0, 0), task=1)
    second = await january(deployments, pool)

    stored = await deployment_cases.show(deployments, "flights")
    period, training = stored.baselines
    assert (first.version, second.version, training.version) == (1, 2, 1)
    assert period == second
    assert (period.kind, period.start, period.end) == ("period", FEBRUARY - timedelta(days=31), FEBRUARY)
    assert (period.method, period.counted.rows) == (training.method, 5)
    assert period.counted.layout == training.counted.layout
    assert period.counted.counts == (1, 4, 0, 0, 3, 0, 2)
    assert (training.kind, training.counted.rows, training.start, training.end) == ("training", 3, None, None)
    assert stored.version == version
    shown = deployment_cases.describe(stored)["baselines"][0]
    assert (shown["from"], shown["to"]) == ("2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00")


async def test_the_bins_go_on_growing_beside_a_period(
    deployments: PostgresDeployments, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    await put_cell(pool, (2, 0, 0, 0, 2, 0, 0))
    await january(deployments, pool)
    features = [*DESCRIBED["features"], {"name": "hour", "type": "numeric"}]
    await apply(deployments, tmp_path, "origin,distance,hour\nEWR,1,5\n", features=features)
    await put_cell(pool, (0, 4, 0, 0, 4, 0, 0, 4, 0, 0), FEBRUARY)

    seen = (await PostgresCatalog(pool).deployments(["flights"]))["flights"].layouts["m1"]
    assert [bins.name for bins in seen.features] == ["origin", "distance", "hour"]
    (against_period,) = (await asked(deployments, pool, BaselineKind.PERIOD)).buckets
    (against_training,) = (await asked(deployments, pool, BaselineKind.TRAINING)).buckets
    assert [(one.feature, one.n, one.m) for one in against_period.features] == [
        ("origin", 6, 2), ("distance", 6, 2), ("hour", 4, 0),
    ]  # fmt: skip
    assert {(one.feature, one.n, one.m) for one in against_training.features} == {
        ("origin", 6, 1), ("distance", 6, 1), ("hour", 4, 1),
    }  # fmt: skip


async def test_what_a_period_can_not_be_made_of(
    deployments: PostgresDeployments, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="from, to: no features of model 'm1' were counted"):
        await january(deployments, pool)
    await apply(deployments, tmp_path, "", baseline=None, model={"id": "m2"})
    await put_cell(pool, (), model_id="m2")
    with pytest.raises(Conflict, match="model 'm2' has no bins yet"):
        await january(deployments, pool)


async def january(deployments: PostgresDeployments, pool: asyncpg.Pool) -> Baseline:
    start = FEBRUARY - timedelta(days=31)
    return await fix_period(deployments, PostgresFeatureCounts(pool), "flights", start=start, end=FEBRUARY)


async def asked(deployments: PostgresDeployments, pool: asyncpg.Pool, kind: BaselineKind) -> Drift:
    question = DriftQuestion(deployment_id="flights", baseline=kind)
    return await drift(deployments, PostgresFeatureCounts(pool), question)
