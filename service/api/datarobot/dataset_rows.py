"""Sending actuals and predictions from data sets."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from service.api.core.authentication import Caller
from service.api.core.bodies import JsonBody
from service.api.core.deps import ApiDeps, Deps
from service.api.datarobot.columns import Columns
from service.api.datarobot.fields import Body, Json
from service.api.datarobot.gate import Writable
from service.api.datarobot.renaming import renaming
from service.api.datarobot.statuses import Accepted, accepted
from service.usecases import data_set_submissions as cases
from service.usecases.data_set_rows import ActualColumns
from service.usecases.data_set_submissions import AskedActuals, AskedPredictions, Source, Stores

router = APIRouter(tags=["data sets"])
_ID: Final = "66a0fa0000000000000000a1"


class ActualsFromDataset(Body):
    """Which columns of a data set are what. Texts of CSV are read as what they are to be."""

    dataset_id: str = Field(examples=[_ID])
    dataset_version_id: str | None = None
    """Without it, the newest."""
    actual_value_column: str = Field(examples=["y"])
    association_id_column: str = Field(examples=["id"])
    timestamp_column: str | None = None
    """Of dates and times; without it, actuals are of the time of the request."""
    was_acted_on_column: str | None = None
    """Of `true` and `false`."""
    keep_actuals_without_predictions: bool = True
    """Whether an actual that is here before its prediction waits for it."""
    user: str | None = None
    """Needed for no data set that is kept here; neither stored nor logged."""
    password: str | None = None
    """Needed for no data set that is kept here; neither stored nor logged."""


class PredictionsFromDataset(Body):
    """Which columns of a data set are what; all others are features."""

    dataset_id: str = Field(examples=[_ID])
    dataset_version_id: str | None = None
    """Without it, the newest."""
    predictions_columns: Columns
    association_id_column: str | None = Field(None, examples=["id"])
    timestamp_column: str | None = None
    """Of dates and times; without it, predictions are of the time of the request."""
    monitoring_batch_id: str | None = None
    skip_drift_tracking: bool = False
    """Leave these rows out of feature drift."""


@router.post("/deployments/{deploymentId}/actuals/fromDataset/", status_code=202, response_model=Accepted)
async def submit_actuals_from_dataset(
    request: Request,
    deployment_id: Writable,
    caller: Caller,
    api: Deps,
    body: Annotated[ActualsFromDataset, Depends(JsonBody(ActualsFromDataset))],
) -> Json:
    """Answered before the rows are read; the status tells what became of them."""
    asked = AskedActuals(
        source=Source(data_set_id=body.dataset_id, version_id=body.dataset_version_id),
        columns=ActualColumns(
            body.association_id_column, body.actual_value_column, body.timestamp_column, body.was_acted_on_column
        ),
        keep_without_prediction=body.keep_actuals_without_predictions,
    )
    with renaming():
        task_id = await cases.send_actuals(_stores(api), caller, deployment_id, asked)
    return accepted(request, api, task_id)


@router.post("/deployments/{deploymentId}/predictionInputs/fromDataset/", status_code=202, response_model=Accepted)
async def submit_predictions_from_dataset(
    request: Request,
    deployment_id: Writable,
    caller: Caller,
    api: Deps,
    body: Annotated[PredictionsFromDataset, Depends(JsonBody(PredictionsFromDataset))],
) -> Json:
    """Answered before the rows are read; the status tells what became of them."""
    asked = AskedPredictions(
        source=Source(data_set_id=body.dataset_id, version_id=body.dataset_version_id),
        predictions=body.predictions_columns,
        association_id=body.association_id_column,
        timestamp=body.timestamp_column,
        batch_id=body.monitoring_batch_id,
        skip_drift=body.skip_drift_tracking,
    )
    with renaming():
        task_id = await cases.send_predictions(_stores(api), caller, deployment_id, asked)
    return accepted(request, api, task_id)


def _stores(api: ApiDeps) -> Stores:
    return Stores(
        intake=api.intake, data_sets=api.data_sets, files=api.files, deployments=api.deployments, work=api.work
    )
