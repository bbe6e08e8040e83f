"""Generated requests, from the OpenAPI document that the API itself tells: none may make it fail."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.api.core.deps import ApiDeps
from service.api.datarobot.app import create_datarobot_app
from service.devstack.kafka import Kafka
from tests.integration.api_process import ApiProcess, open_api
from tests.integration.worker import open_site

unused: Any = {field.name: None for field in dataclasses.fields(ApiDeps)}
CHECKS = (
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
)  # fmt: skip
schema = schemathesis.openapi.from_dict(create_datarobot_app(ApiDeps(**unused), version="0").openapi())


@pytest.fixture(scope="module")
async def running(kafka: Kafka, module_database: str, tmp_path_factory: Any) -> AsyncIterator[ApiProcess]:
    """Without a worker: what is sent stays in the topics."""
    directory: Path = tmp_path_factory.mktemp("fuzzing")
    opening = open_site(
        bootstrap_servers=kafka.bootstrap_servers, dsn=module_database, prefix="fuzzing", directory=directory
    )
    async with opening as site, open_api(site) as process:
        yield process


@schema.parametrize()
@settings(max_examples=15, suppress_health_check=list(HealthCheck), deadline=None)
def test_no_request_makes_it_fail(case: Any, running: ApiProcess) -> None:
    """No 5xx, a body as the document says, and faults always in the envelope; but a full house says 429 or 503."""
    if case.path_parameters and "deploymentId" in case.path_parameters:
        case.path_parameters["deploymentId"] = "flights"
    answer = case.call(
        base_url=f"{running.url}/api/v2", headers={"Authorization": f"Bearer {running.token}"}, allow_redirects=False
    )
    assume("/api/v2/" in answer.request.url)  # the client has resolved `..` before it asked
    case.validate_response(answer, checks=list(CHECKS))
