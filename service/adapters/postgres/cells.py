"""Everything that the database says of one task, of one instant; for `hindsight verify`."""

import asyncpg

from service.adapters.postgres.catalog import deployment_of
from service.adapters.postgres.ledger_rows import (
    accuracy_cells_of,
    checkpoint_of,
    clock_of,
    micros_of,
    prediction_cells_of,
)
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.ports import LedgerMismatch
from service.usecases.cell_differences import Snapshot


class PostgresCells:
    """`service.usecases.verification.Cells` on Postgres, of one deployment or all."""

    def __init__(self, pool: asyncpg.Pool, deployment_id: str | None = None) -> None:
        self._pool = pool
        self._deployment_id = deployment_id

    async def check_identity(self, group_id: str, partitions: int) -> None:
        """Raises `LedgerMismatch` where this is not the database of the group and its topics."""
        with translating():
            identity = await self._pool.fetchrow(statement("ledger_identity"))
        if identity is None:
            raise LedgerMismatch("no worker has ever started on this database: there is nothing to verify")
        if (identity["group_id"], identity["partitions"]) != (group_id, partitions):
            raise LedgerMismatch(
                f"this database belongs to consumer group {identity['group_id']!r} with {identity['partitions']} "
                f"partitions, not to {group_id!r} with {partitions}: set HINDSIGHT_KAFKA__GROUP_ID, "
                "HINDSIGHT_KAFKA__TOPIC_PREFIX or HINDSIGHT_POSTGRES__DSN"
            )

    async def snapshot(self, task: int) -> Snapshot | None:
        with translating():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                row = await connection.fetchrow(statement("ledger_read"), task)
                clocks = await connection.fetch(statement("ledger_clocks"), task)
                traffic = await connection.fetch(statement("verify_prediction_cells"), task, self._deployment_id)
                accuracy = await connection.fetch(statement("verify_accuracy_cells"), task, self._deployment_id)
                since = await connection.fetch(statement("verify_deployments"))
                deployments = await connection.fetch(
                    statement("catalog_deployments"), list({one["id"] for one in since})
                )
                deleted = await connection.fetch(statement("verify_deleted_batches"))
        if row is None:
            return None
        checkpoint = checkpoint_of(row)
        return Snapshot(
            task=task,
            version=checkpoint.version,
            seq=checkpoint.seq,
            slot=checkpoint.slot,
            clocks={one["deployment_id"]: clock_of(one) for one in clocks},
            prediction_cells=prediction_cells_of(traffic),
            accuracy_cells=accuracy_cells_of(accuracy),
            deployments={one["id"]: deployment_of(one) for one in deployments},
            deleted_batches=frozenset((one["deployment_id"], one["id"]) for one in deleted),
            layouts_since={
                (one["id"], one["model_id"]): micros_of(one["layout_since"]) or 0 for one in since if one["model_id"]
            },
        )
