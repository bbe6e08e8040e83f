"""The models whose rows are in a monitoring batch, and the bounds that people set in the place of the observed ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.errors import Invalid, NotFound
from service.domain.ids import is_object_id


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchModel:
    """The rows of one model in one batch. Bounds that were set win over those of the rows."""

    batch_id: str
    model_id: str
    predictions: int
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchModelPage:
    models: Sequence[BatchModel]
    total: int


class BatchModels(Protocol):
    """Where they are kept. Every method may raise `Unavailable`."""

    async def page(
        self, deployment_id: str, batch_id: str, model_id: str | None, *, limit: int, offset: int
    ) -> BatchModelPage:
        """Models with rows in the batch, or that one only, by start and id."""

    async def set_bounds(
        self, deployment_id: str, batch_id: str, model_id: str, *, start: datetime | None, end: datetime | None
    ) -> BatchModel | None:
        """The model as it is told from here on; None where it has no rows in the batch, or there is no such batch. A
        bound of None stays as it is. Raises `Disordered`; of changes at once each sees the one before."""


class Disordered(Exception):
    """The start would lie after the end."""


async def page(
    models: BatchModels, deployment_id: str, batch_id: str, model_id: str | None, *, limit: int, offset: int
) -> BatchModelPage:
    """The batch must be there."""
    return await models.page(deployment_id, batch_id, model_id, limit=limit, offset=offset)


async def show(models: BatchModels, deployment_id: str, batch_id: str, model_id: str) -> BatchModel:
    """Raises `NotFound`."""
    named = is_object_id(batch_id) and is_object_id(model_id)
    found = await models.page(deployment_id, batch_id, model_id, limit=1, offset=0) if named else None
    if found is None or not found.models:
        raise _unknown(batch_id, model_id)
    return found.models[0]


async def set_bounds(
    models: BatchModels,
    deployment_id: str,
    batch_id: str,
    model_id: str,
    *,
    start: datetime | None,
    end: datetime | None,
) -> BatchModel:
    """The model with its new bounds; its rows and all statistics stay as they are. Raises `Invalid`, `NotFound`."""
    try:
        found = await models.set_bounds(deployment_id, batch_id, model_id, start=start, end=end)
    except Disordered:
        first = "startTime" if start is not None else "endTime"
        rule = "must not lie after endTime" if start is not None else "must not lie before startTime"
        raise Invalid(f"{first}: {rule}") from None
    if found is None:
        raise _unknown(batch_id, model_id)
    return found


def _unknown(batch_id: str, model_id: str) -> NotFound:
    return NotFound(f"monitoring batch {batch_id[:128]!r} has no rows of model {model_id[:128]!r}")
