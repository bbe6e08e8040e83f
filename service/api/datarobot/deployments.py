"""Deployments: listed, registered, changed, given another model, deleted."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from service.api.core.authentication import Caller
from service.api.core.bodies import BadBody, JsonBody
from service.api.core.deps import ApiDeps, Deps
from service.api.datarobot.deployment_bodies import (
    ChangedDeployment,
    NewDeployment,
    NextModelPart,
    changed,
    registration,
    sent_fields,
)
from service.api.datarobot.deployment_objects import DeploymentObject, shown_deployment
from service.api.datarobot.fields import PREFIX, Json
from service.api.datarobot.gate import Removable, Visible, Writable, Writer
from service.api.datarobot.paging import Asked, Page
from service.api.datarobot.texts import Text, one_of
from service.usecases import deployment_changes, deployment_views
from service.usecases.access import Principal
from service.usecases.deployment_changes import NextModel
from service.usecases.deployment_views import Listing, Order
from service.usecases.registration import register

router = APIRouter(tags=["deployments"])
_ORDERS: Final = {
    "label": Order.LABEL,
    "createdAt": Order.CREATED_AT,
    "serviceHealth": Order.SERVICE_HEALTH,
    "modelHealth": Order.MODEL_HEALTH,
    "accuracyHealth": Order.ACCURACY_HEALTH,
}
_WORDS: Final = (*_ORDERS, *(f"-{word}" for word in _ORDERS))
OrderBy = Annotated[str, one_of(str, *_WORDS), Query(alias="orderBy", json_schema_extra={"enum": list(_WORDS)})]


@router.get("/deployments/", response_model=Page[DeploymentObject])
async def list_deployments(
    request: Request,
    caller: Caller,
    api: Deps,
    asked: Asked,
    order_by: OrderBy = "-createdAt",
    search: Annotated[
        Text | None, Query(description="Part of a label or description in any case, or a whole ID.")
    ] = None,
) -> Json:
    """Those that are open to the caller, the newest first unless asked otherwise."""
    listing = Listing(
        search=search,
        order=_ORDERS[order_by.removeprefix("-")],
        descending=order_by.startswith("-"),
        offset=asked.offset,
        limit=asked.limit,
    )
    found = await deployment_views.listed(api.deployment_views, caller, listing, now=api.clock.now())
    origin = api.origins.of(request)
    return Json(asked.page([shown_deployment(view, caller, origin) for view in found.views], found.total))


@router.get("/deployments/{deploymentId}/", response_model=DeploymentObject)
async def get_deployment(request: Request, deployment_id: Visible, caller: Caller, api: Deps) -> Json:
    """What it is, how much it is used, and how it fares."""
    return await _shown(request, api, caller, deployment_id)


@router.post("/deployments/", response_model=DeploymentObject, status_code=201)
async def register_deployment(
    request: Request, writer: Writer, api: Deps, body: Annotated[NewDeployment, Depends(JsonBody(NewDeployment))]
) -> Json:
    """Rows are accepted as soon as the answer is sent. An ID is taken for good, in all organisations."""
    settings = await register(api.deployments, api.retention, writer, registration(body))
    shown = await _shown(request, api, writer, settings.id, status=201)
    shown.headers["Location"] = f"{api.origins.of(request)}{PREFIX}/deployments/{settings.id}/"
    return shown


@router.patch("/deployments/{deploymentId}/", response_model=DeploymentObject)
async def update_deployment(
    request: Request,
    deployment_id: Writable,
    caller: Caller,
    api: Deps,
    body: Annotated[ChangedDeployment, Depends(JsonBody(ChangedDeployment))],
) -> Json:
    """Label, description, features and the flag of aggregation. A deployment that events made takes target name,
    classes, positive class and threshold once.
    """
    if "label" in body.model_fields_set and body.label is None:
        raise BadBody(422, "Invalid field data.", {"label": "Has no default and can not be null."})
    await deployment_changes.update(api.deployments, deployment_id, lambda old: changed(old, body), sent_fields(body))
    return await _shown(request, api, caller, deployment_id)


@router.delete("/deployments/{deploymentId}/", status_code=204, response_class=Response)
async def delete_deployment(deployment_id: Removable, api: Deps) -> Response:
    """It is gone at once, with all its rows; its ID is never free again."""
    await deployment_changes.delete(api.deployments, deployment_id)
    return Response(status_code=204)


@router.post("/deployments/{deploymentId}/models/", response_model=DeploymentObject, status_code=201)
async def replace_model(
    request: Request,
    deployment_id: Writable,
    caller: Caller,
    api: Deps,
    body: Annotated[NextModelPart, Depends(JsonBody(NextModelPart))],
) -> Json:
    """From the answer on, rows that name no model belong to this one; earlier rows keep theirs."""
    model = NextModel(id=body.id, name=body.name, threshold=body.threshold, reason=body.reason)
    await deployment_changes.replace_model(api.deployments, deployment_id, model)
    return await _shown(request, api, caller, deployment_id, status=201)


async def _shown(request: Request, api: ApiDeps, caller: Principal, deployment_id: str, *, status: int = 200) -> Json:
    view = await deployment_views.view(api.deployment_views, caller, deployment_id, now=api.clock.now())
    return Json(shown_deployment(view, caller, api.origins.of(request)), status)
