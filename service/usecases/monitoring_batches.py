"""Monitoring batches as people see and change them: open, lock, unlock, delete.

The pipeline opens batches by name and policy, without limit; what somebody asks for is limited here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from service.domain.errors import Conflict, Invalid, NotFound
from service.domain.monitoring_batch import MAX_NAME

LIMIT: Final = 1_000
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """A batch with the figures of its rows. `first_at` and `last_at` are None before the first prediction."""

    deployment_id: str
    id: str
    name: str
    description: str | None
    origin: str
    is_locked: bool
    version: int
    created_at: datetime
    predictions: int
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    batches: Sequence[BatchSummary]
    total: int


class MonitoringBatches(Protocol):
    """Where batches are kept. When a change has returned, no row is counted under the state of before.

    Every method may raise `Unavailable`.
    """

    async def page(self, deployment_id: str, *, limit: int, offset: int) -> BatchPage | None:
        """Undeleted batches, oldest first; None where there is no such deployment."""

    async def open(self, deployment_id: str, name: str, *, description: str | None, limit: int) -> str | None:
        """ID of a new batch; None where `limit` batches were opened this way. Raises `NotFound`: no such deployment."""

    async def set_locked(self, deployment_id: str, batch_id: str, *, locked: bool) -> bool:
        """Whether there is such a batch; one that is so already stays as it is, without an event."""

    async def delete(self, deployment_id: str, batch_id: str) -> bool:
        """Whether there was such a batch. Its statistics are out of every figure at once."""


async def page(batches: MonitoringBatches, deployment_id: str, *, limit: int = PAGE, offset: int = 0) -> BatchPage:
    """Raises `NotFound`."""
    found = await batches.page(deployment_id, limit=limit, offset=offset)
    if found is None:
        raise NotFound(f"there is no deployment {deployment_id!r}")
    return found


async def create(batches: MonitoringBatches, deployment_id: str, name: str, description: str | None = None) -> str:
    """ID of the new batch. Raises `Invalid`, `NotFound`, or `Conflict` where the limit is reached."""
    if not 1 <= len(name) <= MAX_NAME:
        raise Invalid(f"batchName: must have 1 to {MAX_NAME} characters")
    batch_id = await batches.open(deployment_id, name, description=description, limit=LIMIT)
    if batch_id is None:
        raise Conflict(f"deployment {deployment_id!r} has {LIMIT} monitoring batches; delete one first")
    return batch_id


async def lock(batches: MonitoringBatches, deployment_id: str, batch_id: str) -> None:
    """From here on no row joins the batch. Raises `NotFound`."""
    _require(await batches.set_locked(deployment_id, batch_id, locked=True), deployment_id, batch_id)


async def unlock(batches: MonitoringBatches, deployment_id: str, batch_id: str) -> None:
    """Rows may join again. Raises `NotFound`."""
    _require(await batches.set_locked(deployment_id, batch_id, locked=False), deployment_id, batch_id)


async def delete(batches: MonitoringBatches, deployment_id: str, batch_id: str) -> None:
    """The batch and its statistics go. Raises `NotFound`."""
    _require(await batches.delete(deployment_id, batch_id), deployment_id, batch_id)


def describe(batch: BatchSummary) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "id": batch.id,
        "batchName": batch.name,
        "description": batch.description,
        "origin": batch.origin,
        "isLocked": batch.is_locked,
        "version": batch.version,
        "createdAt": batch.created_at.isoformat(),
        "predictionsCount": batch.predictions,
        "earliestPredictionTimestamp": batch.first_at.isoformat() if batch.first_at else None,
        "latestPredictionTimestamp": batch.last_at.isoformat() if batch.last_at else None,
    }


def _require(there: bool, deployment_id: str, batch_id: str) -> None:
    if not there:
        raise NotFound(f"deployment {deployment_id!r} has no monitoring batch {batch_id!r}")
