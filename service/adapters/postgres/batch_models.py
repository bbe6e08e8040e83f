"""The models of monitoring batches: sums over cells, and the bounds that were set."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import asyncpg

from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.usecases.batch_models import BatchModel, BatchModelPage, Disordered

_LIST: Final = statement("batch_models")
_HOLD: Final = statement("batch_hold")
_SET: Final = statement("batch_model_set")


class PostgresBatchModels:
    """`service.usecases.batch_models.BatchModels` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def page(
        self, deployment_id: str, batch_id: str, model_id: str | None, *, limit: int, offset: int
    ) -> BatchModelPage:
        with translating():
            rows = await self._pool.fetch(_LIST, deployment_id, batch_id, model_id, limit, offset)
        found = [_model(row) for row in rows if row["model_id"] is not None]
        return BatchModelPage(models=found, total=rows[0]["total"])

    async def set_bounds(
        self, deployment_id: str, batch_id: str, model_id: str, *, start: datetime | None, end: datetime | None
    ) -> BatchModel | None:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                held = await connection.fetchrow(_HOLD, deployment_id, batch_id)
                (row,) = await connection.fetch(_LIST, deployment_id, batch_id, model_id, 1, 0)
                if held is None or row["model_id"] is None:
                    return None
                wanted = dict(row) | {"start_at": start or row["start_at"], "end_at": end or row["end_at"]}
                if wanted["start_at"] > wanted["end_at"]:
                    raise Disordered
                if start is not None or end is not None:
                    await connection.execute(_SET, deployment_id, batch_id, model_id, start, end)
                return _model(wanted)


def _model(row: Mapping[str, Any]) -> BatchModel:
    return BatchModel(
        batch_id=row["batch_id"],
        model_id=row["model_id"],
        predictions=row["predictions"],
        start_at=row["start_at"],
        end_at=row["end_at"],
    )
