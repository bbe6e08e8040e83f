"""The models whose rows are in a monitoring batch."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.api.core.bodies import JsonBody
from service.api.core.deps import Deps
from service.api.datarobot.fields import Body, Instant, Json, Shown, parse_instant
from service.api.datarobot.gate import Visible, Writable
from service.api.datarobot.monitoring_batches import KnownBatch, Text
from service.api.datarobot.paging import Asked, Page
from service.usecases import batch_models as cases

router = APIRouter(
    prefix="/deployments/{deploymentId}/monitoringBatches/{monitoringBatchId}", tags=["monitoring batches"]
)


def _parse_bound(value: object) -> object:
    if value is None:
        raise PydanticCustomError("null", "Must be a date and time, not null")
    return parse_instant(value)


Bound = Annotated[
    datetime | None, BeforeValidator(_parse_bound), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""None only where the key is left out."""


class MonitoringBatchModel(Shown):
    batch_id: str = Field(examples=["66a0bb0000000000000000b1"])
    model_id: str = Field(examples=["66a0aa0000000000000000e2"])
    predictions_count: int = Field(examples=[1200])
    start_time: Instant
    """Of the earliest row, unless it was set."""
    end_time: Instant
    """Of the latest row, unless it was set."""


class MonitoringBatchModelUpdate(Body):
    """Bounds that win over those of the rows; a key that is left out changes nothing."""

    start_time: Bound = Field(None, examples=["2026-05-06T00:00:00Z"])
    end_time: Bound = Field(None, examples=["2026-05-07T00:00:00Z"])


def shown(model: cases.BatchModel) -> MonitoringBatchModel:
    return MonitoringBatchModel(
        batch_id=model.batch_id,
        model_id=model.model_id,
        predictions_count=model.predictions,
        start_time=model.start_at,
        end_time=model.end_at,
    )


async def _found(
    deployment_id: Visible,
    batch_id: KnownBatch,
    model_id: Annotated[str, Path(alias="modelId", description="Model ID.")],
    api: Deps,
) -> cases.BatchModel:
    return await cases.show(api.batch_models, deployment_id, batch_id, model_id)


Found = Annotated[cases.BatchModel, Depends(_found)]


async def _changeable(model: Found, _: Writable) -> cases.BatchModel:
    return model


Changeable = Annotated[cases.BatchModel, Depends(_changeable)]
Bounds = Annotated[MonitoringBatchModelUpdate, Depends(JsonBody(MonitoringBatchModelUpdate, optional=True))]


@router.get("/models/", response_model=Page[MonitoringBatchModel])
async def list_monitoring_batch_models(
    deployment_id: Visible,
    batch_id: KnownBatch,
    asked: Asked,
    api: Deps,
    model_id: Annotated[Text | None, Query(alias="modelId", description="The only model to tell of.")] = None,
) -> Json:
    """By startTime; empty while no row is counted."""
    found = await cases.page(
        api.batch_models, deployment_id, batch_id, model_id, limit=asked.limit, offset=asked.offset
    )
    return Json(asked.page([shown(model) for model in found.models], found.total))


@router.get("/models/{modelId}/", response_model=MonitoringBatchModel)
async def get_monitoring_batch_model(model: Found) -> Json:
    """Only of a model that has rows in the batch."""
    return Json(shown(model))


@router.patch("/models/{modelId}/", response_model=MonitoringBatchModel)
async def update_monitoring_batch_model(deployment_id: Visible, model: Changeable, body: Bounds, api: Deps) -> Json:
    """Neither the count nor any statistic changes."""
    changed = await cases.set_bounds(
        api.batch_models, deployment_id, model.batch_id, model.model_id, start=body.start_time, end=body.end_time
    )
    return Json(shown(changed))
