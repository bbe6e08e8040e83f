"""The surface file says what is served: it and the routes name the same operations."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.routing import APIRoute

from service.api.datarobot.app import PREFIX, datarobot_routes
from service.api.datarobot.errors import STATUS
from service.domain import errors

FILE = Path(__file__).parents[3] / "schemas/datarobot/surface.yaml"
SURFACE: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVED = [entry for entry in SURFACE if entry["served"]]


def identity(route: APIRoute) -> tuple[str, str, str]:
    (method,) = route.methods or {""}
    return method, PREFIX + route.path_format, re.sub(r"_(\w)", lambda found: found[1].upper(), route.name)


def test_the_routes_are_those_that_are_said_to_be_served() -> None:
    said = {(entry["method"], entry["path"], entry["operation"]) for entry in SERVED}
    assert {identity(route) for route in datarobot_routes()} == said


@pytest.mark.parametrize("entry", SERVED, ids=lambda entry: entry["operation"])
def test_query_parameters_are_those_of_the_surface(entry: dict[str, Any]) -> None:
    route = next(one for one in datarobot_routes() if identity(one)[2] == entry["operation"])
    assert _query_names(route.dependant) == {parameter["name"] for parameter in entry["query"]}


def _query_names(dependant: Any) -> set[str]:
    own = {parameter.alias for parameter in dependant.query_params}
    return own.union(*(_query_names(dependency) for dependency in dependant.dependencies))


def test_every_domain_error_has_a_status() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DomainError)}
    assert kinds - {errors.DomainError} == set(STATUS)
