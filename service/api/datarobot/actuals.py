"""Sending actuals."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from msgspec import Meta
from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.api.core.authentication import Caller
from service.api.core.deps import Deps
from service.api.core.row_bodies import RowsBody, RowsRead
from service.api.datarobot.fields import Body, InstantIn, Json
from service.api.datarobot.gate import Writable
from service.api.datarobot.posted_rows import MOST_ROWS, IdempotencyKey, take_rows
from service.api.datarobot.statuses import Accepted
from service.usecases.actuals_intake import ActualRow
from service.usecases.submissions import PostedActuals

router = APIRouter(tags=["actuals"])


def _number_or_label(value: object) -> object:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return value
    raise PydanticCustomError(
        "actual", "must be a number or the label of a class (an actual is withdrawn by event only)"
    )


NumberOrLabel = Annotated[
    Any, BeforeValidator(_number_or_label), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]


class ActualIn(Body):
    """What turned out to be true of a prediction."""

    association_id: str = Field(examples=["a1"])
    """That of the prediction: 1 to 128 characters that do not begin with `job:`, `submission:` or `record:`."""
    actual_value: NumberOrLabel = Field(examples=["True"])
    """A number for a regression, else the label of a class; labels that are numbers are compared as text."""
    was_acted_on: bool | None = None
    """Whether someone acted on the prediction."""
    timestamp: InstantIn | None = None
    """When it became known; without it, when it was received."""


class ActualsIn(Body):
    """Actuals: all are taken, or none."""

    data: Annotated[list[ActualIn], Field(min_length=1, max_length=MOST_ROWS)]
    keep_actuals_without_predictions: bool = True
    """Whether an actual that is here before its prediction waits for it."""


class _Actual(msgspec.Struct, gc=False, rename="camel"):
    association_id: str
    actual_value: int | float | str
    was_acted_on: bool | None = None
    timestamp: datetime | None = None


class _Actuals(msgspec.Struct, rename="camel"):
    data: Annotated[list[_Actual], Meta(min_length=1, max_length=MOST_ROWS)]
    keep_actuals_without_predictions: bool = True


_decode: Final = msgspec.json.Decoder(_Actuals).decode


def aware(at: datetime | None) -> datetime | None:
    """An instant without an offset is meant in UTC."""
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)


def _quickly(raw: bytes) -> tuple[PostedActuals, int]:
    body = _decode(raw)
    rows = [
        (number, ActualRow(row.association_id, row.actual_value, aware(row.timestamp), row.was_acted_on))
        for number, row in enumerate(body.data)
    ]
    return PostedActuals(rows=rows, keep_without_prediction=body.keep_actuals_without_predictions), len(rows)


def _carefully(body: ActualsIn, numbers: Sequence[int]) -> PostedActuals:
    rows = [
        (number, ActualRow(row.association_id, row.actual_value, row.timestamp, row.was_acted_on))
        for number, row in zip(numbers, body.data, strict=True)
    ]
    return PostedActuals(rows=rows, keep_without_prediction=body.keep_actuals_without_predictions)


_BODY: Final = RowsBody(ActualsIn, quickly=_quickly, carefully=_carefully)


@router.post("/deployments/{deploymentId}/actuals/fromJSON/", status_code=202, response_model=Accepted)
async def submit_actuals_from_json(
    request: Request,
    caller: Caller,
    api: Deps,
    deployment_id: Writable,
    key: IdempotencyKey = None,
    *,
    read: Annotated[RowsRead[PostedActuals], Depends(_BODY)],
) -> Json:
    """Answered once all are with the broker; the status tells what became of them."""
    return await take_rows(request, caller, api, deployment_id, key, read)
