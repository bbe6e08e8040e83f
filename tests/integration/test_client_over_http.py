"""The client against a real HTTP server that refuses, pauses, breaks and drops connections."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from typing import Any

import pytest

from service.adapters.clock import SystemClock
from service.api.server import serve
from service.client import AsyncClient, Client, Counts, Limits
from tests.integration.intake_api import TOKEN, IntakeApi, app_of, open_intake_api, told
from tests.integration.proxy import Proxy

PATIENCE_S = 60.0
QUICK = Limits(linger=0.005)


@asynccontextmanager
async def clients(limits: Limits = QUICK) -> AsyncIterator[tuple[AsyncClient, IntakeApi, Proxy]]:
    async with (
        open_intake_api() as (api, proxy, url),
        AsyncClient.over_http(url=url, token=TOKEN, limits=limits) as one,
    ):
        yield one, api, proxy


async def test_rows_in_the_words_of_the_api() -> None:
    async with clients() as (client, api, _):
        at = datetime(2026, 5, 6, 16, tzinfo=UTC)
        given: dict[str, Any] = {"features": {"age": 61}, "service": {"responseTimeMs": 1}, "model_id": "m"}
        assert await client.log_prediction("d", {"True": 0.8, "False": 0.2}, association_id=["a", "1"], timestamp=at)
        assert await client.log_prediction("d", "True", timestamp=at)
        assert await client.log_prediction("d", 2.5, timestamp=at, batch_id="b", **given)
        assert await client.log_actual("d", ["a", "1"], True, timestamp=at, was_acted_on=True)
        assert await client.log_actual("d", "a2", 3, timestamp=at, keep_without_prediction=False)
        assert await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=5, sent=5)
    stamp = {"timestamp": "2026-05-06T16:00:00.000000Z"}
    told_classes = [{"className": "True", "value": 0.8}, {"className": "False", "value": 0.2}]
    assert sorted(api.rows["predictions", "d"], key=str) == sorted(
        [
            {"associationId": '["a","1"]', "prediction": told_classes} | stamp,
            {"prediction": [{"className": "True", "value": 1.0}]} | stamp,
            {"prediction": 2.5, "features": {"age": 61}, "service": {"responseTimeMs": 1}} | stamp,
        ],
        key=str,
    )
    assert sorted(api.rows["actuals", "d"], key=str) == [
        {"associationId": '["a","1"]', "actualValue": "true", "wasActedOn": True} | stamp,
        {"associationId": "a2", "actualValue": 3} | stamp,
    ]
    commons = [{}, {"modelId": "m", "monitoringBatchId": "b"}, {}, {"keepActualsWithoutPredictions": False}]
    assert sorted(api.commons, key=str) == sorted(commons, key=str)


async def test_what_http_can_not_say_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with clients() as (client, api, _):
        assert not await client.log_prediction("d", 1, batch_name="May")
        assert "can not be said over HTTP; name the monitoring batch by batch_id" in caplog.text
        assert not await client.log_actual("d", "a", None)
        assert client.counts == Counts(refused_bad=2)
    assert api.requests == []


async def test_no_request_is_larger_than_the_contract_allows() -> None:
    async with clients(Limits(linger=1, batch_bytes=16 << 20)) as (client, api, _):
        for number in range(25_000):
            assert await client.log_actual("d", f"a{number}", number)
        assert await client.flush(PATIENCE_S)
    assert sum(rows for _, rows in api.requests) == 25_000
    assert max(rows for _, rows in api.requests) == 10_000
    assert [row["actualValue"] for row in api.rows["actuals", "d"]] == list(range(25_000)), "in order"


@pytest.mark.parametrize("bad", [{0}, {2, 5}, {9}, set(range(10))])
async def test_rows_that_are_named_are_left_out_and_the_others_sent_again(bad: set[int]) -> None:
    async with clients() as (client, api, _):
        for number in range(10):
            assert await client.log_actual("d", f"a{number}", "no-class" if number in bad else "class")
        assert await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=10, sent=10 - len(bad), refused_by_service=len(bad))
    taken = [row["associationId"] for row in api.rows.get(("actuals", "d"), [])]
    assert taken == [f"a{number}" for number in range(10) if number not in bad]
    assert len({key for key, _ in api.requests}) == len(api.requests), "other rows are another submission"


async def test_a_request_that_is_wrong_as_a_whole_is_refused_as_a_whole(caplog: pytest.LogCaptureFixture) -> None:
    async with clients() as (client, api, _):
        assert await client.log_prediction("d", 1, batch_id="unknown", features={"bad": True})
        assert await client.log_prediction("d", 1, batch_id="known")
        assert await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=2, sent=1, refused_by_service=1)
    assert "422, Invalid field data.; monitoringBatchId: There is no such batch." in caplog.text
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [told(503, Retry_After="1"), told(429, Retry_After="1"), told(503), told(502), told(504), told(500)],
    ids=["503", "429", "503 without Retry-After", "502", "504", "500"],
)
async def test_the_same_submission_is_repeated_until_it_passes(answer: Any) -> None:
    async with clients() as (client, api, _):
        api.next.extend([answer] * 2)
        assert await client.log_actual("d", "a", 1)
        assert await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=1, sent=1)
    assert len(api.requests) == 3 and len(set(api.requests)) == 1, "one key, and the same rows"


async def answered(api: IntakeApi) -> None:
    while api.next:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_honoured(as_date: bool) -> None:
    clock = SystemClock()
    async with clients() as (client, api, _):
        until = format_datetime(clock.now() + timedelta(seconds=3), usegmt=True) if as_date else "2"
        api.next.append(told(429, Retry_After=until))
        began = clock.monotonic()
        assert await client.log_actual("d", "a", 1)
        assert await client.flush(PATIENCE_S)
        assert clock.monotonic() - began > 1.5
        assert client.counts == Counts(taken=1, sent=1)


async def test_a_deployment_that_has_to_pause_holds_up_no_other() -> None:
    async with clients() as (client, api, _):
        api.next.append(told(429, Retry_After="3600"))
        assert await client.log_actual("paused", "a", 1)
        await answered(api)
        for number in range(20):
            assert await client.log_actual(f"d{number}", "a", 1)
        assert not await client.flush(1.0)
        while client.counts.sent < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await client.close(0.1)
        assert client.counts == Counts(taken=21, sent=20, failed=1)


async def test_a_lost_answer_does_not_double_rows() -> None:
    """The server has taken the rows, and the connection ends before its answer."""
    async with clients() as (client, api, proxy):
        api.after.extend([proxy.cut] * 3)
        for number in range(5):
            assert await client.log_actual("d", f"a{number}", number)
        assert await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=5, sent=5)
    assert len(api.requests) == 4 and len(set(api.requests)) == 1
    assert len(api.rows["actuals", "d"]) == 5


async def test_an_error_500_that_stays_is_given_up() -> None:
    async with clients() as (client, api, _):
        api.next.extend([told(500, Retry_After="0")] * 8)
        assert await client.log_actual("d", "a", 1)
        assert not await client.flush(PATIENCE_S)
        assert await client.log_actual("d", "a", 1)
        assert await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=2, sent=1, failed=1)


@pytest.mark.parametrize(
    ("token", "deployment", "cause"),
    [
        ("wrong", "d", "401, the token is not known"),
        (TOKEN, "gone", "404, there is no such deployment"),
        (TOKEN, "forbidden", "403, the token may not write to this deployment"),
        (TOKEN, "odd", "405, no"),
    ],
)
async def test_who_is_not_let_in_is_told_why_and_not_tried_again(
    caplog: pytest.LogCaptureFixture, token: str, deployment: str, cause: str
) -> None:
    async with open_intake_api() as (api, _, url), AsyncClient.over_http(url=url, token=token, limits=QUICK) as client:
        if deployment in ("forbidden", "odd"):
            api.next.append(told(403 if deployment == "forbidden" else 405))
        assert await client.log_actual(deployment, "a", 1)
        assert not await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=1, failed=1)
    assert cause in caplog.text and token not in caplog.text
    assert len(api.requests) == 1


async def test_a_redirect_is_not_followed() -> None:
    async with clients() as (client, api, _):
        api.next.append(told(307, Location="http://127.0.0.1:1/elsewhere"))
        assert await client.log_actual("d", "a", 1)
        assert not await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=1, failed=1)


async def test_too_large_requests_are_divided() -> None:
    async with clients() as (client, api, _):
        api.next.append(told(413))
        for number in range(9):
            assert await client.log_actual("d", f"a{number}", number)
        assert await client.flush(PATIENCE_S)
        assert client.counts == Counts(taken=9, sent=9)
    assert [rows for _, rows in api.requests] == [9, 4, 5]


async def test_the_api_is_away_at_first_and_again(unused_tcp_port: int) -> None:
    """From threads, while the server comes and goes: bounds hold, and every row that was taken is there once."""
    api, port = IntakeApi(), unused_tcp_port
    limits = Limits(linger=0.005, buffer_rows=200, wait_when_full=PATIENCE_S)
    client = Client.over_http(url=f"http://127.0.0.1:{port}/", token=TOKEN, limits=limits)

    enough = threading.Event()
    logged: list[str] = []

    def log(thread: int) -> None:
        for number in count():
            if enough.is_set():
                return
            assert client.log_actual(f"d{thread % 2}", f"{thread}-{number}", number)
            logged.append(f"{thread}-{number}")

    threads = [threading.Thread(target=log, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        while client.counts.buffered < 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        before = client.counts.sent
        async with serve(app_of(api), "127.0.0.1", port):
            while client.counts.sent == before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert client.counts.buffered <= 200
    async with serve(app_of(api), "127.0.0.1", port):
        enough.set()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert await asyncio.to_thread(client.flush, PATIENCE_S)
    assert client.counts == Counts(taken=len(logged), sent=len(logged))
    await asyncio.to_thread(client.close)
    arrived = [row["associationId"] for rows in api.rows.values() for row in rows]
    assert sorted(arrived) == sorted(logged)
