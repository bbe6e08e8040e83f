"""Sending predictions that were made elsewhere."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
from fastapi import APIRouter, Depends, Request
from msgspec import Meta, Raw
from pydantic import BeforeValidator, Discriminator, Field, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.api.core.authentication import Caller
from service.api.core.deps import Deps
from service.api.core.row_bodies import HIDDEN, RowsBody, RowsRead
from service.api.datarobot.actuals import aware
from service.api.datarobot.fields import Body, InstantIn, Json
from service.api.datarobot.gate import Writable
from service.api.datarobot.posted_rows import MOST_ROWS, IdempotencyKey, take_rows
from service.api.datarobot.statuses import Accepted
from service.usecases.prediction_intake import Destination, PredictionRow
from service.usecases.submissions import PostedPredictions
from service.wire.events import ServiceFigures

router = APIRouter(tags=["prediction inputs"])
_NUMBER, _SHARES = HIDDEN + "number", HIDDEN + "shares"


def _flat(value: object) -> object:
    """Numbers too large for JSON in 64 bits become what a double makes of them."""
    try:
        if value is None:
            return {}
        if isinstance(value, dict):
            return {name: _scalar(one) for name, one in value.items()}
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError("features", "must be an object of numbers, strings, booleans and nulls")


def _scalar(value: object) -> object:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float) and math.isfinite(float(value)):
        return value if -(1 << 63) <= value < 1 << 64 else float(value)
    raise ValueError


Features = Annotated[
    dict[str, Any],
    BeforeValidator(_flat),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["number", "string", "boolean", "null"]}}),
]


class ShareIn(Body):
    """The probability of a class."""

    class_name: str = Field(examples=["True"])
    value: float = Field(examples=[0.8])
    """0 to 1."""


class ServiceIn(Body):
    """How the request was served that made the prediction."""

    response_time_ms: Annotated[float, Field(ge=0)] | None = Field(None, examples=[12.1])
    execution_time_ms: Annotated[float, Field(ge=0)] | None = Field(None, examples=[8.2])
    request_id: str | None = None
    consumer_id: str | None = Field(None, examples=["shop"])
    cache_hit: bool | None = None
    outcome: Literal["ok", "user_error", "server_error"] | None = None


def _form(value: object) -> str:
    return _SHARES if isinstance(value, list) else _NUMBER


class PredictionIn(Body):
    """A prediction."""

    association_id: str | None = Field(None, examples=["a1"])
    """What its actual will be joined by: 1 to 128 characters that do not begin with `job:`, `submission:` or `record:`.
    Required where the deployment says so."""
    timestamp: InstantIn | None = None
    """When it was made; without it, when it was received."""
    features: Features = Field(default_factory=dict, examples=[{"age": 61, "region": "n"}])
    prediction: Annotated[Annotated[float, Tag(_NUMBER)] | Annotated[list[ShareIn], Tag(_SHARES)], Discriminator(_form)]
    """A number for a regression, else classes and their probabilities."""
    service: ServiceIn | None = None


class PredictionsIn(Body):
    """Predictions: all are taken, or none."""

    data: Annotated[list[PredictionIn], Field(min_length=1, max_length=MOST_ROWS)]
    model_id: str | None = None
    """The model that made them; a new one is registered. Without it, the deployment's current model."""
    monitoring_batch_id: str | None = None
    skip_drift_tracking: bool = False
    """Leave these rows out of feature drift."""


class _Share(msgspec.Struct, gc=False, rename="camel"):
    class_name: str
    value: float


class _Prediction(msgspec.Struct, gc=False, rename="camel"):
    prediction: float | list[_Share]
    association_id: str | None = None
    timestamp: datetime | None = None
    features: Raw = Raw(b"{}")
    service: ServiceFigures | None = None


class _Predictions(msgspec.Struct, rename="camel"):
    data: Annotated[list[_Prediction], Meta(min_length=1, max_length=MOST_ROWS)]
    model_id: str | None = None
    monitoring_batch_id: str | None = None
    skip_drift_tracking: bool = False


_decode: Final = msgspec.json.Decoder(_Predictions).decode


def _quickly(raw: bytes) -> tuple[PostedPredictions, int]:
    body = _decode(raw)
    rows = [(number, _plain_row(row)) for number, row in enumerate(body.data)]
    to = Destination(body.model_id, body.monitoring_batch_id)
    return PostedPredictions(rows=rows, to=to, skip_drift=body.skip_drift_tracking), len(rows)


def _plain_row(row: _Prediction) -> PredictionRow:
    given = row.prediction
    prediction = [(share.class_name, share.value) for share in given] if isinstance(given, list) else given
    return PredictionRow(row.association_id, prediction, aware(row.timestamp), bytes(row.features), row.service)


def _carefully(body: PredictionsIn, numbers: Sequence[int]) -> PostedPredictions:
    rows = [(number, _row(row)) for number, row in zip(numbers, body.data, strict=True)]
    to = Destination(body.model_id, body.monitoring_batch_id)
    return PostedPredictions(rows=rows, to=to, skip_drift=body.skip_drift_tracking)


def _row(row: PredictionIn) -> PredictionRow:
    given = row.prediction
    prediction = [(share.class_name, share.value) for share in given] if isinstance(given, list) else given
    service = None if row.service is None else ServiceFigures(**dict(row.service))
    return PredictionRow(row.association_id, prediction, row.timestamp, orjson.dumps(row.features), service)


_BODY: Final = RowsBody(PredictionsIn, quickly=_quickly, carefully=_carefully)


@router.post("/deployments/{deploymentId}/predictionInputs/fromJSON/", status_code=202, response_model=Accepted)
async def submit_predictions_from_json(
    request: Request,
    caller: Caller,
    api: Deps,
    deployment_id: Writable,
    key: IdempotencyKey = None,
    *,
    read: Annotated[RowsRead[PostedPredictions], Depends(_BODY)],
) -> Json:
    """Answered once all are with the broker; the status tells what became of them."""
    return await take_rows(request, caller, api, deployment_id, key, read)
