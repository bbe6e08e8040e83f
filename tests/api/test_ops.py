"""Probes and metrics over HTTP."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api.ops import Probe, ProbeResult, Probes, create_ops_app, ops_router
from service.telemetry import Telemetry

GOOD = ProbeResult(ok=True, detail={"tasks": 4})
BAD = ProbeResult(ok=False, detail={"database": "cannot be reached", "paused_tasks": 1, "migrated": False})


def answering(result: ProbeResult) -> Probe:
    async def probe() -> ProbeResult:
        return result

    return probe


async def never() -> ProbeResult:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def probes(*, live: Probe | None = None, ready: Probe | None = None, started: Probe | None = None) -> Probes:
    good = answering(GOOD)
    return Probes(live=live or good, ready=ready or good, started=started or good)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ops")


@pytest.fixture
async def scraper() -> AsyncIterator[httpx.AsyncClient]:
    telemetry = Telemetry(CollectorRegistry(), version="1.2.3")
    telemetry.records_total.labels("predictions").inc(5)
    telemetry.event_to_status_seconds.observe_all([0.04, 0.2])
    async with client_of(create_ops_app(telemetry.registry, probes())) as client:
        yield client


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz"])
async def test_a_good_probe_answers_200_with_its_facts(path: str) -> None:
    async with client_of(create_ops_app(CollectorRegistry(), probes())) as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.json() == {"ok": True, "detail": {"tasks": 4}}


@pytest.mark.parametrize("failed", ["live", "ready", "started"])
async def test_a_bad_probe_answers_503_and_says_why_and_only_it(failed: str) -> None:
    app = create_ops_app(CollectorRegistry(), probes(**{failed: answering(BAD)}))
    async with client_of(app) as client:
        answers = {
            name: await client.get(path)
            for name, path in (("live", "/livez"), ("ready", "/readyz"), ("started", "/startupz"))
        }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "live": 200,
        "ready": 200,
        "started": 200,
        failed: 503,
    }
    assert answers[failed].json() == {"ok": False, "detail": dict(BAD.detail)}


async def test_a_probe_without_an_answer_fails_in_time() -> None:
    app = FastAPI()
    app.include_router(ops_router(CollectorRegistry(), probes(ready=never), deadline=0.01))
    async with client_of(app) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ok": False, "detail": {"probe": "no answer within 0.01 s"}}


async def test_metrics_are_shown_as_text(scraper: httpx.AsyncClient) -> None:
    answer = await scraper.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'hindsight_records_total{topic="predictions"} 5.0' in answer.text
    assert 'hindsight_event_to_status_seconds_bucket{le="0.05"} 1.0' in answer.text
    assert "hindsight_event_to_status_seconds_count 2.0" in answer.text


async def test_metrics_are_shown_as_openmetrics_to_whom_asks(scraper: httpx.AsyncClient) -> None:
    answer = await scraper.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_nothing_else_is_served(scraper: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/openapi.json"):
        assert (await scraper.get(path)).status_code == 404
