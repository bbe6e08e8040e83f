"""Counts of features, summed over the cells that the pipeline writes, and the baselines made of them."""

from typing import Final

import asyncpg
import numpy as np

from service.adapters.postgres.deployment_rows import baseline_columns
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.stats.drift import Counts
from service.domain.stats.histogram import added_counts
from service.usecases.baselines import Baseline
from service.usecases.drift import BucketCounts, CountsOf, TooManyBuckets
from service.usecases.statistics import Grouping

_BATCH_EXISTS: Final = statement("batch_exists")
_COUNTS: Final = statement("feature_counts")
_SAVE_BASELINE: Final = statement("baseline_save")
_PREFETCH: Final = 500
_NONE: Final[Counts] = np.empty(0, dtype=np.int64)


class PostgresFeatureCounts:
    """`service.usecases.drift.FeatureCounts` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def counts(self, of: CountsOf, *, by: Grouping, limit: int) -> list[BucketCounts] | None:
        """Batch and counts are of one snapshot; cells are read a few at a time."""
        asked = (of.deployment_id, of.model_id, by.value, of.start, of.end, of.batch_id)
        sums: dict[str, Counts] = {}
        with translating():
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                if of.batch_id is not None and not await connection.fetchval(
                    _BATCH_EXISTS, of.deployment_id, of.batch_id
                ):
                    return None
                async for cell in connection.cursor(_COUNTS, *asked, prefetch=_PREFETCH):
                    bucket = cell["bucket"]
                    sums[bucket] = added_counts(sums.get(bucket, _NONE), np.array(cell["counts"], dtype=np.int64))
                    if len(sums) > limit:
                        raise TooManyBuckets
        return [BucketCounts(bucket=bucket, counts=sums[bucket].tolist()) for bucket in sorted(sums)]

    async def keep(self, deployment_id: str, baseline: Baseline) -> int:
        with translating():
            version: int = await self._pool.fetchval(_SAVE_BASELINE, *baseline_columns(deployment_id, baseline))
        return version
