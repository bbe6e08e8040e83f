"""Opening a monitoring batch, and telling of its changes: what the pipeline and the use cases both do."""

from datetime import datetime
from typing import Any, Final

import asyncpg

from service.adapters.postgres.queries import statement
from service.domain.ids import murmur2
from service.wire.batch_event import Change, MonitoringBatchEvent, batch_event_key, encode_batch_event, instant

_OPEN: Final = statement("batch_open")
_OUTBOX: Final = statement("outbox_add")


async def open_batch(
    connection: asyncpg.Connection,
    deployment_id: str,
    batch_id: str,
    name: str,
    *,
    origin: str,
    description: str | None = None,
) -> Any:
    """The row of a new batch. Row and event are written together: the connection must be in a transaction."""
    row = await connection.fetchrow(_OPEN, deployment_id, batch_id, name, description, origin)
    await announce(connection, deployment_id, batch_id, name, "CREATED", row["created_at"])
    return row


async def announce(
    connection: asyncpg.Connection, deployment_id: str, batch_id: str, name: str, event: Change, at: datetime
) -> None:
    """Leave the event for the batch's home task. The connection must be in the transaction of the change."""
    key = batch_event_key(deployment_id, batch_id)
    value = MonitoringBatchEvent(
        deployment_id=deployment_id, batch_id=batch_id, batch_name=name, event=event, at=instant(at)
    )
    await connection.execute(_OUTBOX, murmur2(key), key, encode_batch_event(value))
