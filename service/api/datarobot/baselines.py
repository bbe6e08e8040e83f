"""Baselines: what a model's features, predictions and accuracy are compared with."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from service.api.core.authentication import Caller
from service.api.core.bodies import JsonBody
from service.api.core.deps import ApiDeps, Deps
from service.api.core.uploads import Form, FormBody
from service.api.datarobot.columns import columns_of_part
from service.api.datarobot.fields import Body, InstantIn, Json
from service.api.datarobot.gate import Writable
from service.api.datarobot.renaming import renaming
from service.api.datarobot.statuses import Accepted, accepted
from service.domain.errors import Invalid
from service.usecases import model_baselines as cases
from service.usecases.baseline_rules import Asked
from service.usecases.model_baselines import Stores
from service.usecases.prediction_columns import PredictionColumns

router = APIRouter(tags=["baselines"])


class Hours(Body):
    """Whole hours in UTC, from `start` to before `end`."""

    start: InstantIn = Field(examples=["2026-04-01T00:00:00Z"])
    end: InstantIn = Field(examples=["2026-05-01T00:00:00Z"])


class LiveBaseline(Body):
    """A baseline of the rows that came in during some hours."""

    kind: str = Field(examples=["training"])
    model_id: str | None = None
    """Without it, the current model."""
    period: Hours


_FORM: Final = FormBody(
    {
        "kind": "`training` or `holdout`.",
        "file": "CSV (UTF-8, the first line names the columns) or Parquet, told apart by content.",
        "modelId": "Without it, the current model.",
        "predictionsColumns": "Of a holdout: a column's name, or a JSON list of {className, columnName}.",
        "actualsValueColumn": "Of a holdout: the column of the actuals; without it, the one of the target's name.",
    },
    required=("kind", "file"),
    instead=JsonBody(LiveBaseline),
)


@router.post("/deployments/{deploymentId}/baselines/", status_code=202, response_model=Accepted)
async def create_baseline(
    request: Request,
    deployment_id: Writable,
    caller: Caller,
    api: Deps,
    body: Annotated[Form | LiveBaseline, Depends(_FORM)],
) -> Json:
    """Count the rows of a file, or of some hours. The first baseline of a model and kind fixes its bins."""
    stores = _stores(api)
    if isinstance(body, LiveBaseline):
        asked = Asked(deployment_id=deployment_id, kind=body.kind, model_id=body.model_id)
        with renaming():
            task_id = await cases.of_live_rows(stores, caller, asked, body.period.start, body.period.end)
    else:
        asked = _asked(deployment_id, body)
        with renaming():
            task_id = await cases.of_file(stores, caller, asked, body.files["file"].path)
    return accepted(request, api, task_id)


def _asked(deployment_id: str, form: Form) -> Asked:
    """Raises `Invalid` for what is wrong with the form itself."""
    columns = columns_of_part(form.fields.get("predictionsColumns"))
    problems = []
    if "file" not in form.files:
        problems.append("file: is required, as a part with a file name; or send JSON with a period")
    if "period" in form.fields:
        problems.append("period: must not be given with a file; send it as JSON")
    if isinstance(columns, str):
        problems.append(f"predictionsColumns: {columns}")
    if problems:
        raise Invalid("\n".join(problems))
    return Asked(
        deployment_id=deployment_id,
        kind=form.fields.get("kind"),
        model_id=form.fields.get("modelId"),
        predictions=columns if isinstance(columns, PredictionColumns) else None,
        actuals=form.fields.get("actualsValueColumn"),
    )


def _stores(api: ApiDeps) -> Stores:
    return Stores(
        deployments=api.deployments, features=api.features, baselines=api.baselines, tasks=api.tasks, work=api.work
    )
