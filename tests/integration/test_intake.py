"""Rows posted over HTTP, through a real broker and a real worker, into the statistics."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.domain.ids import home_of
from tests.integration.posting import ACTUALS, PREDICTIONS, Posting, open_posting
from tests.integration.worker import Site

AT = "2026-01-01T10:17:00Z"
LATER = "2026-01-01T13:30:00Z"
BATCH = "INSERT INTO monitoring_batches (deployment_id, id, name, origin) VALUES ('flights', $1, 'B', 'api')"


@pytest.fixture
async def posting(site: Site) -> AsyncIterator[Posting]:
    async with open_posting(site) as opened:
        await opened.connected()
        yield opened


def late(association_id: str | None, share: float = 0.8, **more: Any) -> dict[str, Any]:
    shares = [{"className": "late", "value": share}, {"className": "on_time", "value": round(1 - share, 6)}]
    return {"associationId": association_id, "timestamp": AT, "prediction": shares} | more


def truth(association_id: str, value: str = "late", **more: Any) -> dict[str, Any]:
    return {"associationId": association_id, "actualValue": value, "timestamp": LATER} | more


def told(event: dict[str, Any]) -> dict[str, Any]:
    """Without figures that are null."""
    figures = event.get("service")
    return event if figures is None else event | {"service": {k: v for k, v in figures.items() if v is not None}}


async def last_statuses(site: Site) -> dict[str, dict[str, Any]]:
    return {status.json["rowId"]: status.json for status in await site.statuses() if status.value is not None}


async def test_posted_rows_are_counted_and_the_status_says_so(site: Site, posting: Posting) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        rows = [late(f"r{number}", features={"distance": number, "origin": "EWR"}) for number in range(1_000)]
        assert await posting.post_and_count(PREDICTIONS, rows) == "counted 1,000: PROCESSED 1,000"
        actuals = [truth(f"r{number}", wasActedOn=True) for number in range(900)]
        assert await posting.post_and_count(ACTUALS, actuals) == "counted 900: PROCESSED 900"
        assert await posting.post_and_count(ACTUALS, actuals[:10]) == "counted 10: DUPLICATE 10"
        await site.processed(worker)
    found = Counter(status["status"] for status in (await last_statuses(site)).values())
    assert found == {"ACCEPTED": 100, "MATCHED": 890, "DUPLICATE": 10}
    for role in ("predictions", "actuals"):
        for record in await site.read(role):
            assert record.partition == home_of((record.key or b"").decode(), site.partitions)
    assert await site.read("rekey") == []
    assert await site.read("dlq") == []


async def cells(site: Site) -> tuple[int, int]:
    """Rows with a prediction, and with an actual."""
    predicted = await site.pool.fetchval("SELECT coalesce(sum(predictions), 0)::bigint FROM prediction_cells")
    matched = await site.pool.fetchval("SELECT coalesce(sum(matched), 0)::bigint FROM accuracy_cells")
    return predicted, matched


async def test_what_is_sent_on_is_what_was_posted(site: Site, posting: Posting) -> None:
    await site.pool.execute(BATCH, "b1")
    figures = {"responseTimeMs": 12.1, "outcome": "ok", "consumerId": "shop", "cacheHit": False}
    rows = [late("a", features={"x": 1, "y": "n", "z": None}, service=figures), late("b", timestamp=None), late(None)]
    task = await posting.taken(
        PREDICTIONS, rows, modelId="m-2", monitoringBatchId="b1", skipDriftTracking=True, unknown=1
    )
    found = {record.header["hindsight-row-number"]: record for record in await site.read("predictions")}
    first, second, third = found[b"0"], found[b"1"], found[b"2"]
    assert told(first.json) == {
        "deploymentId": "flights", "associationId": "a", "timestamp": AT, "modelId": "m-2", "batchId": "b1",
        "prediction": {"late": 0.8, "on_time": 0.2}, "features": {"x": 1, "y": "n", "z": None}, "service": figures,
    }  # fmt: skip
    assert first.header == {
        "hindsight-submission-id": task.encode(),
        "hindsight-row-number": b"0",
        "hindsight-skip-drift-tracking": b"true",
    }
    assert "timestamp" not in second.json
    assert abs(second.timestamp_ms - posting.api.deps.clock.now().timestamp() * 1000) < 60_000
    assert (third.key, third.json.get("associationId")) == (f"submission:{task}:2".encode(), None)
    assert third.partition == home_of(f"submission:{task}:2", site.partitions)
    await posting.taken(ACTUALS, [truth("a", wasActedOn=False)], keepActualsWithoutPredictions=False)
    (record,) = await site.read("actuals")
    assert (record.key, record.json) == (b"a", {
        "deploymentId": "flights", "associationId": "a", "actual": "late", "timestamp": LATER, "wasActedOn": False,
        "keepWithoutPrediction": False,
    })  # fmt: skip


async def test_of_a_request_without_figures_the_first_row_tells_how_it_was_served(site: Site, posting: Posting) -> None:
    await posting.taken(PREDICTIONS, [late("a"), late("b")])
    sent = {record.key: told(record.json) for record in await site.read("predictions")}
    assert "service" not in sent[b"b"]
    figures = sent[b"a"]["service"]
    assert figures["responseTimeMs"] >= figures["executionTimeMs"] > 0
    assert figures | {"responseTimeMs": 0, "executionTimeMs": 0} == {
        "outcome": "ok", "consumerId": posting.principal.user_id, "responseTimeMs": 0, "executionTimeMs": 0,
    }  # fmt: skip


async def test_an_id_is_made_where_the_deployment_wants_that(site: Site, posting: Posting) -> None:
    settings = {"associationId": {"autoGenerateId": True}}
    assert (await posting.client.patch("/deployments/flights/settings/", json=settings)).status_code == 202
    task = await posting.taken(PREDICTIONS, [late(None), late("own")])
    keys = {record.key: record.json["associationId"] for record in await site.read("predictions")}
    assert keys == {f"{task}-0".encode(): f"{task}-0", b"own": "own"}


async def test_check_31_actuals_in_any_order(site: Site, posting: Posting) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)

        async def last(name: str, kind: str, rows: list[dict[str, Any]], expected: str, **more: Any) -> dict[str, Any]:
            """The row's last status once these rows are counted and told."""
            assert await posting.post_and_count(kind, rows, **more) == expected
            await site.processed(worker)
            return (await last_statuses(site))[name]

        one = "counted 1: PROCESSED 1"
        assert (await last("a", ACTUALS, [truth("a")], one))["status"] == "EARLY"
        both = [late("a"), late("b")]
        assert (await last("a", PREDICTIONS, both, "counted 2: PROCESSED 2"))["status"] == "MATCHED"
        newer = [truth("a", "on_time", timestamp="2026-01-01T14:00:00Z")]
        shown = await last("a", ACTUALS, newer, one)
        assert (shown["status"], shown["actual"], shown["previousActual"]) == ("CORRECTED", "on_time", "late")
        assert await cells(site) == (2, 1)
        older = [truth("a", "late", timestamp="2026-01-01T12:00:00Z")]
        shown = await last("a", ACTUALS, older, "counted 1: DUPLICATE 1")
        assert (shown["status"], shown["reason"], shown["actual"]) == ("DUPLICATE", "older_actual", "on_time")
        unwanted = [truth("nobody")]
        shown = await last(
            "nobody", ACTUALS, unwanted, "counted 1: INVALID_ACTUAL 1", keepActualsWithoutPredictions=False
        )
        assert (shown["status"], shown["reason"]) == ("ORPHAN", "not_kept")


async def test_check_31_an_actual_after_window_and_grace_is_early_then_an_orphan(site: Site, posting: Posting) -> None:
    async def time_goes_on(to: str) -> None:
        """On every task, by rows of both kinds."""
        names = [f"{to}-{number}" for number in range(40)]
        await posting.post_and_count(PREDICTIONS, [late(name, timestamp=to) for name in names])
        await posting.post_and_count(ACTUALS, [truth(name, timestamp=to) for name in names])

    async def words() -> list[str]:
        return [one.json["status"] for one in await site.statuses() if one.value and one.json["rowId"] == "a"]

    async with site.worker() as worker:
        await worker.ready(tasks=4)
        await posting.post_and_count(PREDICTIONS, [late("a")])
        await time_goes_on("2026-04-05T00:00:00Z")
        await posting.post_and_count(ACTUALS, [truth("a", timestamp="2026-04-05T00:00:00Z")])
        await site.processed(worker)
        found = await words()
        assert (found[0], found[-1]) == ("ACCEPTED", "EARLY")
        await time_goes_on("2026-07-10T00:00:00Z")

        async def is_orphan() -> bool:
            return (await words())[-1] == "ORPHAN"

        await worker.until(is_orphan, what="an orphan")


async def test_check_06_while_the_pipeline_stands_still_the_task_runs_and_tells_how_far_it_is(
    site: Site, posting: Posting
) -> None:
    rows = [late(f"r{number}") for number in range(400)]
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        await posting.post_and_count(PREDICTIONS, rows[:1])
    task = await posting.taken(PREDICTIONS, rows)
    running = await posting.client.get(f"/status/{task}/")
    assert running.status_code == 200
    assert (running.json()["status"], running.json()["message"]) == ("RUNNING", "counted 0 of 400")
    listed = (await posting.client.get("/status/", params={"offset": 0, "limit": 0})).json()
    assert [one["statusId"] for one in listed["data"]] == [task]
    async with site.worker():
        assert await posting.counted(task) == "counted 400: DUPLICATE 1, PROCESSED 399"
    done = await posting.client.get(f"/status/{task}/")
    assert done.headers["location"].endswith("/api/v2/deployments/flights/")


async def test_a_row_as_large_as_may_be_is_taken(site: Site, posting: Posting) -> None:
    """Above it the row is refused, not the broker."""
    text = "x" * 898_000
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        assert await posting.post_and_count(PREDICTIONS, [late("a", features={"t": text})]) == "counted 1: PROCESSED 1"
    refused = await posting.post(PREDICTIONS, [late("b"), late("c", features={"t": text + "x" * 2_000})])
    assert refused.status_code == 422
    assert refused.json()["errors"] == {"data.1": "Must have at most 900,000 bytes as an event."}
