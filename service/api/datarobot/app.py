"""The application of this dialect, to be mounted at `PREFIX` directly below the host.

Order of the checks of a request: who asks (401), the path (404), its method (405), the object that it names (404), the
right to change it (403), the body's media type, size and syntax (415, 413, 400), its fields (422), the state of the
object (409), limits (429). The first is `Authentication`, the next two are the router's; the others follow the order
of an endpoint's parameters: `Visible` or `Writable`, further objects of the path, the body.
"""

from typing import Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.alias_generators import to_camel

from service.api.core.authentication import Authentication
from service.api.core.deps import ApiDeps
from service.api.core.request_log import RequestLog
from service.api.datarobot import (
    actuals,
    baselines,
    dataset_rows,
    datasets,
    deployment_settings,
    deployments,
    handshake,
    health_settings,
    monitoring_batch_models,
    monitoring_batches,
    prediction_inputs,
    statuses,
)
from service.api.datarobot.errors import answer_faults, refuse
from service.api.datarobot.fields import PREFIX as PREFIX
from service.api.datarobot.openapi import describe_bodies

OPENAPI: Final = "/openapi.json"
DOCS: Final = "/docs/"
_TRACE_HEADER: Final = "X-DataRobot-Api-Consumer-Trace"
_ROUTERS: Final = (
    handshake.router,
    statuses.router,
    actuals.router,
    baselines.router,
    datasets.router,
    deployment_settings.router,
    deployments.router,
    health_settings.router,
    monitoring_batches.router,
    monitoring_batch_models.router,
    prediction_inputs.router,
    dataset_rows.router,
)


def create_datarobot_app(deps: ApiDeps, *, version: str) -> FastAPI:
    app = FastAPI(
        title="Hindsight: monitoring API",
        summary="Deployments, monitoring batches, actuals and predictions, in the dialect of DataRobot's API 2.33.",
        version=version,
        openapi_url=OPENAPI,
        docs_url=DOCS,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation,
    )
    app.state.deps = deps
    for router in _ROUTERS:
        app.include_router(router)
    routes = datarobot_routes()
    describe_bodies(app, routes)
    answer_faults(app, routes)
    app.add_middleware(Authentication, access=deps.access, refuse=refuse, public=(OPENAPI, DOCS))
    app.add_middleware(RequestLog, trace_header=_TRACE_HEADER)
    return app


def datarobot_routes() -> list[APIRoute]:
    """Every operation that is served, below the prefix."""
    return [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def _operation(route: APIRoute) -> str:
    return to_camel(route.name)
