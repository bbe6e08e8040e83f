"""The internal endpoints: what they show, and to whom."""

import dataclasses
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from service.api.app import create_app
from service.api.core.deps import ApiDeps
from service.api.ops import ProbeResult, Probes
from service.domain.deployment import TargetType
from service.domain.stats.histogram import CategoricalBins, FeatureLayout
from service.ports import Unavailable
from service.telemetry import Telemetry
from service.usecases.baselines import Baseline, BaselineCounts
from service.usecases.deployments import DeploymentSettings, DeploymentSummary, StoredDeployment
from service.usecases.drift import BucketCounts, CountsOf
from service.usecases.monitoring_batches import (
    SERVICE,
    BatchChange,
    BatchDraft,
    BatchPage,
    BatchQuestion,
    BatchSummary,
)
from service.usecases.statistics import Figures, Grouping

AT = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = DeploymentSettings(
    id="d", label="D", description=None, target_name=None, target_type=TargetType.REGRESSION, class_names=(),
    positive_class=None, threshold=0.5, model_id="m", model_name="M", features=(),
)  # fmt: skip
STORED = StoredDeployment(
    settings=SETTINGS, version=1, created_at=AT, is_deleted=False, models={"m": "M"},
    baselines=[
        Baseline(
            model_id="m", kind="training", version=1,
            counted=BaselineCounts(
                rows=2, counts=(1, 1, 0), layout=FeatureLayout(
                    features=(CategoricalBins(name="f", first_slot=0, values=("a",)),)
                ),
            ),
        )
    ],
)  # fmt: skip
SUMMARY = DeploymentSummary(
    id="d", label="D", origin="registered", target_type=None, model_id="m", version=1, created_at=AT, batches=1
)
BATCH = BatchSummary(
    deployment_id="d", id="b", name="one", description=None, origin="policy", created_by=SERVICE, is_locked=True,
    version=2, created_at=AT, predictions=3, first_at=AT, last_at=None,
)  # fmt: skip


class OneDeployment:
    """The three ports over one deployment `d`; `asked` is what they were asked last."""

    def __init__(self) -> None:
        self.asked: tuple[Any, ...] = ()
        self.down = False

    async def find(self, deployment_id: str) -> StoredDeployment | None:
        if self.down:
            raise Unavailable("Postgres: gone")
        return STORED if deployment_id == "d" else None

    async def save(self, settings: DeploymentSettings, baseline: Baseline | None, expected_version: int | None) -> int:
        raise AssertionError("read only")

    async def save_settings(
        self, settings: DeploymentSettings, expected_version: int, *, moves_association: bool
    ) -> int:
        raise AssertionError("read only")

    async def delete(self, deployment_id: str) -> bool:
        raise AssertionError("read only")

    async def all(self) -> list[DeploymentSummary]:
        return [SUMMARY]


class OneBatch:
    def __init__(self) -> None:
        self.asked: tuple[int, int] = (0, 0)

    async def page(self, question: BatchQuestion) -> BatchPage | None:
        self.asked = (question.limit, question.offset)
        return BatchPage(batches=[BATCH], total=1) if question.deployment_id == "d" else None

    async def find(self, deployment_id: str, batch_id: str) -> BatchSummary | None:
        raise AssertionError("not asked")

    async def asked_for(self, deployment_id: str) -> int:
        raise AssertionError("not asked")

    async def open(
        self, deployment_id: str, draft: BatchDraft, *, author: Mapping[str, str], limit: int
    ) -> BatchSummary:
        raise AssertionError("read only")

    async def change(
        self, deployment_id: str, batch_id: str, change: BatchChange, *, even_where_off: bool = False
    ) -> BatchSummary:
        raise AssertionError("read only")

    async def delete(self, deployment_id: str, batch_id: str) -> bool:
        raise AssertionError("read only")


class SomeFigures:
    def __init__(self) -> None:
        self.asked: tuple[Grouping, datetime | None, datetime | None] | None = None

    async def figures(
        self, deployment_id: str, *, by: Grouping, start: datetime | None, end: datetime | None
    ) -> list[Figures] | None:
        self.asked = (by, start, end)
        return [Figures(group="2026-01", predictions=3, outcomes={"ACCEPTED": 3})] if deployment_id == "d" else None


class SomeCounts:
    def __init__(self) -> None:
        self.asked: tuple[CountsOf, Grouping] | None = None

    async def counts(self, of: CountsOf, *, by: Grouping, limit: int) -> list[BucketCounts] | None:
        self.asked = (of, by)
        return [BucketCounts(bucket="2026-01", counts=[1, 1, 0])] if of.batch_id in (None, "b") else None

    async def keep(self, deployment_id: str, baseline: Baseline) -> int:
        raise AssertionError("read only")


async def fine() -> ProbeResult:
    return ProbeResult(ok=True)


class World:
    def __init__(self) -> None:
        self.deployments = OneDeployment()
        self.batches = OneBatch()
        self.statistics = SomeFigures()
        self.features = SomeCounts()
        self.telemetry = Telemetry(CollectorRegistry())
        used = {
            "telemetry": self.telemetry,
            "probes": Probes(live=fine, ready=fine, started=fine),
            "deployments": self.deployments,
            "batches": self.batches,
            "statistics": self.statistics,
            "features": self.features,
        }
        unused: dict[str, Any] = {field.name: None for field in dataclasses.fields(ApiDeps)}
        self.app = create_app(ApiDeps(**unused | used), version="0")

    def client(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 12345))
        return httpx.AsyncClient(transport=transport, base_url="http://api")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client() as opened:
        yield opened


async def test_deployments(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/internal/v1/deployments")).json()
    assert [one["id"] for one in listed["deployments"]] == ["d"]
    shown = (await client.get("/internal/v1/deployments/d")).json()
    assert (shown["id"], shown["targetType"], shown["join"]["window"]) == ("d", "Regression", "P30D")


async def test_batches(client: httpx.AsyncClient, world: World) -> None:
    page = (await client.get("/internal/v1/deployments/d/batches?limit=5&offset=2")).json()
    assert (page["total"], page["limit"], page["offset"], world.batches.asked) == (1, 5, 2, (5, 2))
    assert page["batches"][0] == {
        "id": "b",
        "batchName": "one",
        "description": None,
        "origin": "policy",
        "isLocked": True,
        "version": 2,
        "createdAt": "2026-01-01T00:00:00+00:00",
        "predictionsCount": 3,
        "earliestPredictionTimestamp": "2026-01-01T00:00:00+00:00",
        "latestPredictionTimestamp": None,
    }


async def test_statistics(client: httpx.AsyncClient, world: World) -> None:
    asked = {"by": "month", "start": "2026-01-01T00:00:00Z", "end": "2026-02-01T01:00:00+01:00"}
    shown = (await client.get("/internal/v1/deployments/d/statistics", params=asked)).json()
    assert shown["by"] == "month"
    assert (shown["groups"][0]["group"], shown["groups"][0]["outcomes"]) == ("2026-01", {"ACCEPTED": 3})
    assert world.statistics.asked == (Grouping.MONTH, AT, datetime(2026, 2, 1, tzinfo=UTC))


async def test_drift(client: httpx.AsyncClient, world: World) -> None:
    asked = {"bucket": "month", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T01:00:00+01:00", "batch": "b"}
    shown = (await client.get("/internal/v1/deployments/d/drift", params=asked | {"model": "m"})).json()
    assert (shown["modelId"], shown["by"], shown["baseline"]["kind"]) == ("m", "month", "training")
    (bucket,) = shown["buckets"]
    assert (bucket["bucket"], bucket["features"][0]["feature"], bucket["features"][0]["psi"]) == ("2026-01", "f", 0.0)
    of = CountsOf(deployment_id="d", model_id="m", start=AT, end=datetime(2026, 2, 1, tzinfo=UTC), batch_id="b")
    assert world.features.asked == (of, Grouping.MONTH)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-01-01T00:30Z", "from"),
        ("from=2026-01-01T00:00", "from"),
        ("to=yesterday", "to"),
        ("from=2026-01-02T00:00Z&to=2026-01-01T00:00Z", "to"),
        ("bucket=year", "bucket"),
        ("baseline=target", "baseline"),
        ("baseline=period", "baseline"),
        ("batch=other", "batch"),
        ("model=other", "model"),
    ],
)
async def test_questions_about_drift_that_make_no_sense(client: httpx.AsyncClient, query: str, field: str) -> None:
    answer = await client.get(f"/internal/v1/deployments/d/drift?{query}")
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    assert detail.startswith(f"{field}: ") if isinstance(detail, str) else detail[0]["loc"] == ["query", field]


@pytest.mark.parametrize("path", ["", "/batches", "/statistics", "/drift"])
async def test_what_is_not_there(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/internal/v1/deployments/other{path}")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "there is no deployment 'other'"}


@pytest.mark.parametrize(
    "query",
    [
        "batches?limit=0",
        "batches?limit=1001",
        "batches?offset=-1",
        "statistics?by=year",
        "statistics?start=2026-01-01T00:00",
    ],
)
async def test_questions_that_make_no_sense(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/internal/v1/deployments/d/{query}")).status_code == 422


async def test_a_database_that_is_down(client: httpx.AsyncClient, world: World) -> None:
    world.deployments.down = True
    assert (await client.get("/internal/v1/deployments/d")).status_code == 503


async def test_reading_is_all_there_is(client: httpx.AsyncClient) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await client.request(method, "/internal/v1/deployments/d")).status_code == 405


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_is_let_in(world: World, address: str) -> None:
    async with world.client(address) as client:
        assert (await client.get("/internal/v1/deployments")).status_code == 200


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "::ffff:10.0.0.1", "2001:db8::1", "testclient", ""])
async def test_nobody_else_is(world: World, address: str) -> None:
    async with world.client(address) as client:
        assert (await client.get("/internal/v1/deployments")).status_code == 403
        assert (await client.get("/livez")).status_code == 200


async def test_nor_a_proxy_that_speaks_for_somebody(client: httpx.AsyncClient) -> None:
    for header in ("X-Forwarded-For", "Forwarded"):
        assert (await client.get("/internal/v1/deployments", headers={header: "10.0.0.1"})).status_code == 403


async def test_requests_are_measured_by_route(client: httpx.AsyncClient, world: World) -> None:
    await client.get("/internal/v1/deployments/d")
    await client.get("/nothing/of/that/name")
    await client.request("BREW", "/internal/v1/deployments/d")

    def count(route: str, method: str, status: str) -> float | None:
        labels = {"route": route, "method": method, "status": status}
        return world.telemetry.registry.get_sample_value("hindsight_http_request_seconds_count", labels)

    template = "/internal/v1/deployments/{deployment_id}"
    assert count(template, "GET", "200") == 1
    assert count("unknown", "GET", "404") == 1
    assert count(template, "other", "405") == 1
    assert (await client.get("/metrics")).status_code == 200
