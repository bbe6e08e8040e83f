"""The OpenAPI document, with what FastAPI can not see: bodies that are read by `JsonBody`, who may ask, and faults."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from service.api.core.bodies import JsonBody
from service.api.core.row_bodies import RowsBody
from service.api.core.uploads import MEDIA_TYPE, FormBody
from service.api.datarobot.errors import Fault

_REF: Final = "#/components/schemas/{model}"
_SECURITY: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "`Bearer <token>` or `Token <token>`."}
}


def describe_bodies(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Let the application's own `openapi()` tell the rest, too."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain(), routes)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _completed(document: dict[str, Any], routes: Sequence[APIRoute]) -> dict[str, Any]:
    parts = document.setdefault("components", {})
    parts["securitySchemes"] = _SECURITY
    document["security"] = [{"token": []}]
    schemas = parts.setdefault("schemas", {})
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    _add(schemas, "Fault", Fault.model_json_schema(by_alias=True, ref_template=_REF, mode="serialization"))
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            _tell_faults(operation)
            for body in _bodies(route.dependant):
                _tell_body(operation, body, schemas)
            for form in _forms(route.dependant):
                content = operation.setdefault("requestBody", {"required": True}).setdefault("content", {})
                content[MEDIA_TYPE] = {"schema": form.json_schema()}
                if form.instead is not None:
                    _add_model(content, form.instead, schemas)
    return document


def _bodies(dependant: Dependant) -> Iterator[JsonBody[Any] | RowsBody[Any, Any]]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, JsonBody | RowsBody):
            yield dependency.call
        yield from _bodies(dependency)


def _forms(dependant: Dependant) -> Iterator[FormBody]:
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, FormBody):
            yield dependency.call
        yield from _forms(dependency)


def _tell_body(operation: dict[str, Any], body: JsonBody[Any] | RowsBody[Any, Any], schemas: dict[str, Any]) -> None:
    operation["requestBody"] = {"required": not body.optional, "content": {}}
    _add_model(operation["requestBody"]["content"], body, schemas)


def _add_model(content: dict[str, Any], body: JsonBody[Any] | RowsBody[Any, Any], schemas: dict[str, Any]) -> None:
    name = body.model.__name__
    _add(schemas, name, body.model.model_json_schema(by_alias=True, ref_template=_REF))
    content["application/json"] = {"schema": {"$ref": _REF.format(model=name)}}


def _add(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    schemas.update(schema.pop("$defs", {}))
    schemas[name] = schema


def _tell_faults(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Fault")}}}
    responses["4XX"] = {"description": "What is wrong with the request.", "content": content}
    responses["5XX"] = {"description": "The service has failed, or can not be reached.", "content": content}
