"""Figures, read from the cells that the pipeline writes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg

from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.outcomes import Outcome
from service.domain.stats.accuracy import PAIR_STRIDE
from service.usecases.statistics import AccuracySums, Confused, Figures, Grouping

_KNOWN: Final = statement("deployment_known")
_TRAFFIC: Final = statement("statistics_traffic")
_ACCURACY: Final = statement("statistics_accuracy")


class PostgresStatistics:
    """`service.usecases.statistics.Statistics` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def figures(
        self, deployment_id: str, *, by: Grouping, start: datetime | None, end: datetime | None
    ) -> list[Figures] | None:
        """Traffic and accuracy are of one snapshot."""
        asked = (deployment_id, by.value, start, end)
        with translating():
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
                known = await connection.fetchrow(_KNOWN, deployment_id)
                traffic = await connection.fetch(_TRAFFIC, *asked)
                accuracy = await connection.fetch(_ACCURACY, *asked)
        if known is None:
            return None
        sums = {row["bucket"]: _sums(row, known["class_names"]) for row in accuracy}
        rows = {row["bucket"]: row for row in traffic}
        return [_figures(group, rows.get(group), sums.get(group)) for group in sorted(rows.keys() | sums.keys())]


def _figures(group: str, row: Mapping[str, Any] | None, sums: AccuracySums | None) -> Figures:
    if row is None:
        return Figures(group=group, accuracy=sums)
    return Figures(
        group=group,
        predictions=row["predictions"],
        first_at=row["first_at"],
        last_at=row["last_at"],
        closed=row["closed"],
        final_at=row["final_at"],
        outcomes={Outcome(code).name: records for code, records in enumerate(row["outcomes"]) if records},
        accuracy=sums,
    )


def _sums(row: Mapping[str, Any], classes: Sequence[str]) -> AccuracySums:
    return AccuracySums(
        matched=row["matched"],
        error=row["error"],
        absolute_error=row["absolute_error"],
        squared_error=row["squared_error"],
        actual=row["actual"],
        actual_square=row["actual_square"],
        log_loss_rows=row["log_loss_rows"],
        log_loss=row["log_loss"],
        confusion=[
            Confused(actual=classes[pair // PAIR_STRIDE], predicted=classes[pair % PAIR_STRIDE], rows=rows)
            for pair, rows in zip(row["pairs"], row["counts"], strict=True)
        ],
    )
