"""Posted rows when the broker is away, when the process dies, and when a request is repeated."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.devstack.java import KafkaSoftware
from service.devstack.kafka import Kafka
from service.devstack.processes import Command, start_child
from tests.integration.posting import ACTUALS, PREDICTIONS, Posting, open_posting
from tests.integration.test_worker_outages import site_with_kafka
from tests.integration.worker import Site, until

AT = "2026-01-01T10:17:00Z"
SHARES = [{"className": "late", "value": 0.8}, {"className": "on_time", "value": 0.2}]


def rows(count: int, prefix: str = "r", **more: Any) -> list[dict[str, Any]]:
    """With figures of their own: what is sent is the same each time."""
    named = [{"associationId": f"{prefix}{number}", "timestamp": AT, "prediction": SHARES} for number in range(count)]
    return [row | {"service": {"outcome": "ok"}} | more for row in named]


async def predictions(site: Site) -> int:
    counted: int = await site.pool.fetchval("SELECT coalesce(sum(predictions), 0)::bigint FROM prediction_cells")
    return counted


@pytest.fixture
async def posting(site: Site) -> AsyncIterator[Posting]:
    async with open_posting(site) as opened:
        await opened.connected()
        yield opened


@asynccontextmanager
async def silent(kafka: Kafka) -> AsyncIterator[None]:
    """The broker takes connections and says nothing."""
    assert kafka.pid is not None
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(kafka.pid, signal.SIGCONT)


# ------------------------------------------------------------------------------------------- repeated requests


async def test_a_repeated_request_is_answered_with_the_first_and_sends_nothing(site: Site, posting: Posting) -> None:
    first = await posting.taken(PREDICTIONS, rows(3), key="k 1")
    sent = await posting.records()
    assert await posting.taken(PREDICTIONS, rows(3), key="k 1") == first
    assert await posting.records() == sent == 3
    others = (
        await posting.post(PREDICTIONS, rows(4), key="k 1"),
        await posting.post(ACTUALS, [{"associationId": "r1", "actualValue": "late"}], key="k 1"),
    )
    for other in others:
        assert (other.status_code, set(other.json()["errors"])) == (422, {"Idempotency-Key"}), other.text
    assert await posting.taken(PREDICTIONS, rows(3), key="k 2") != first
    assert await posting.records() == 6
    async with posting.api.client(await posting.api.token(username="bob")) as bob:
        answer = await bob.post(
            f"/deployments/flights/{PREDICTIONS}/", json={"data": rows(4)}, headers={"Idempotency-Key": "k 1"}
        )
    assert answer.status_code == 202, "a key is the user's own"
    await site.pool.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
    assert await posting.taken(PREDICTIONS, rows(3), key="k 1") != first, "a key is kept for a day"


async def test_of_requests_at_once_one_sends_its_rows(site: Site, posting: Posting) -> None:
    tasks = await asyncio.gather(*(posting.taken(PREDICTIONS, rows(50), key="same") for _ in range(6)))
    assert len(set(tasks)) == 1
    assert await posting.records() == 50
    async with site.worker():
        assert await posting.counted(tasks[0]) == "counted 50: PROCESSED 50"


# ------------------------------------------------------------------------------------------- the broker


async def test_check_06_the_broker_falls_silent(
    kafka_software: KafkaSoftware, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    """The request waits, is refused, and its task is an error; repeated, its rows count once."""
    async with (
        site_with_kafka(kafka_software, database, topic_prefix, tmp_path) as (kafka, site),
        open_posting(site) as posting,
    ):
        await posting.connected()
        async with silent(kafka):
            answer = await posting.post(PREDICTIONS, rows(500), key="k")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), answer.text
            at_once = await posting.post(PREDICTIONS, rows(500), key="other")
            assert at_once.status_code == 503
            assert (await posting.client.get("/status/")).status_code == 200
        task = await site.pool.fetchval("SELECT task_id FROM idempotency_keys WHERE key = 'k'")
        shown = (await posting.client.get(f"/status/{task}/")).json()
        assert (shown["status"], shown["code"]) == ("ERROR", 503)
        assert shown["message"].startswith("the broker has acknowledged 0 of 500 rows")
        await posting.connected()
        assert await posting.taken(PREDICTIONS, rows(500), key="k") == task
        async with site.worker() as worker:
            await posting.counted(task)
            await site.processed(worker)
            assert await predictions(site) == 500
        metric = posting.api.deps.telemetry.intake_rows_total
        assert metric.labels("predictions", "unacknowledged")._value.get() == 500
        assert metric.labels("predictions", "accepted")._value.get() == 500


async def test_without_a_broker_reads_go_on_and_rows_are_refused_at_once(site: Site) -> None:
    async with open_posting(site, KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:9") as posting:
        answer = await posting.post(PREDICTIONS, rows(3), key="k")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert set(answer.json()) == {"message", "errors"}
        assert (await posting.client.get("/status/")).json()["data"] == []
        assert (await posting.client.get("/version/")).status_code == 200
        assert await site.pool.fetchval("SELECT count(*) FROM intake_hours") == 0, "an outage uses no limit up"
    async with open_posting(site) as posting:
        await posting.connected()
        await posting.taken(PREDICTIONS, rows(3), key="k")


async def test_a_topic_is_never_made_by_a_request(site: Site) -> None:
    async with open_posting(site, KAFKA__TOPIC_PREFIX="nobody-made-these") as posting:
        assert (await posting.post(PREDICTIONS, rows(3))).status_code == 503
        said = await site.said("topics", "check", KAFKA__TOPIC_PREFIX="nobody-made-these")
        assert "nobody-made-these.predictions.v1 does not exist" in said.out + said.err


# ------------------------------------------------------------------------------------------- the process


async def test_check_06_the_process_that_sends_is_killed(
    kafka_software: KafkaSoftware, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Nobody is told that its rows are in; its task ends as an error, and its rows count once when it is repeated."""
    async with (
        site_with_kafka(kafka_software, database, topic_prefix, tmp_path) as (kafka, site),
        open_posting(site) as posting,
    ):
        log = tmp_path / "api.log"
        command = Command(argv=(sys.executable, "-m", "service", "api"), environment=site.settings(API__PORT="0"))
        child = await start_child(command, output=log)
        try:
            base = await _address(log)
            headers = dict(posting.client.headers) | {"Idempotency-Key": "k"}
            async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as client, silent(kafka):
                path = f"/api/v2/deployments/flights/{PREDICTIONS}/"
                sending = asyncio.create_task(client.post(path, json={"data": rows(2_000)}))
                task = await _begun(site)
                await child.kill()
                with pytest.raises(httpx.TransportError):
                    await sending
        finally:
            await child.kill()
        assert (await posting.client.get(f"/status/{task}/")).json()["status"] == "RUNNING", "it may still be alive"
        await site.pool.execute("UPDATE status_tasks SET held_until = held_until - interval '60 seconds'")
        shown = (await posting.client.get(f"/status/{task}/")).json()
        assert (shown["status"], shown["code"]) == ("ERROR", 503)
        assert shown["message"].startswith("the process that worked on it has died")
        await posting.connected()
        assert await posting.taken(PREDICTIONS, rows(2_000), key="k") == task
        async with site.worker() as worker:
            await posting.counted(task)
            await site.processed(worker)
            assert await predictions(site) == 2_000


async def _address(log: Path) -> str:
    """Once it takes rows."""
    found: dict[str, dict[str, Any]] = {}

    async def is_up() -> bool:
        found.update(_events(log))
        return {"api is up", "rows are taken"} <= found.keys()

    await until(is_up, what="an API that takes rows")
    return f"http://127.0.0.1:{found['api is up']['port']}"


def _events(log: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return {line["event"]: line for line in lines}


async def _begun(site: Site) -> str:
    """The task that a key stands for by now."""
    tasks: list[str] = []

    async def begun() -> bool:
        tasks.extend(await _keys(site))
        return bool(tasks)

    await until(begun, what="a task")
    return tasks[0]


async def _keys(site: Site) -> list[str]:
    return [row["task_id"] for row in await site.pool.fetch("SELECT task_id FROM idempotency_keys")]
