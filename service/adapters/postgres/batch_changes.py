"""Opening a monitoring batch, and telling of its changes: what the pipeline and the use cases both do."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import asyncpg

from service.adapters.postgres.queries import statement
from service.domain.ids import murmur2
from service.wire.batch_event import Change, MonitoringBatchEvent, batch_event_key, encode_batch_event, instant

_OPEN: Final = statement("batch_open")
_OUTBOX: Final = statement("outbox_add")
_SERVICE: Final = {"id": "0" * 24, "name": "service"}


async def open_batch(
    connection: asyncpg.Connection,
    deployment_id: str,
    batch_id: str,
    name: str | None,
    *,
    origin: str,
    description: str | None = None,
    external_context_url: str | None = None,
    is_locked: bool = False,
    created_by: Mapping[str, str] = _SERVICE,
) -> Any:
    """The row of a new batch; without a name it is named by its creation. Row and events are written together: the
    connection must be in a transaction."""
    row = await connection.fetchrow(
        _OPEN, deployment_id, batch_id, name, description, origin, external_context_url, is_locked, dict(created_by)
    )
    await announce(connection, deployment_id, batch_id, row["name"], "CREATED", row["created_at"])
    if is_locked:
        await announce(connection, deployment_id, batch_id, row["name"], "LOCKED", row["created_at"])
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
