"""How patiently a notification is delivered; on a real server and with short pauses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from service.alerts.webhook import Delivery, Interrupted, Webhook, WebhookSpec, open_webhook, signature
from service.wire.notification import Source, notification_of
from tests.integration.alerts import Receiver, open_receiver, until

NOW = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
TOLD = notification_of(b'{"deploymentId":"d","event":"E"}', Source("t", 0, 0, 0))


def spec_of(url: str, *, patience: float = 30.0, longest_pause: float = 0.01) -> WebhookSpec:
    return WebhookSpec(
        url=url,
        bearer_token=None,
        signing_key=None,
        timeout=5.0,
        longest_pause=longest_pause,
        patience=patience,
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver(Receiver()) as opened:
        yield opened


@asynccontextmanager
async def webhook_of(spec: WebhookSpec) -> AsyncIterator[Webhook]:
    async with open_webhook(spec, lambda: NOW) as webhook:
        yield webhook


async def deliver(spec: WebhookSpec) -> Delivery:
    async with webhook_of(spec) as webhook:
        return await webhook.deliver(TOLD, asyncio.Event())


@pytest.mark.parametrize("status", [408, 429, 500, 503, 599])
async def test_what_may_pass_is_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answers.extend([status, status])
    assert await deliver(spec_of(receiver.url)) == Delivery(result="delivered", status=200, attempts=3)
    assert len({body for _, body in receiver.requests}) == 1


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 422])
async def test_what_does_not_pass_is_refused(receiver: Receiver, status: int) -> None:
    receiver.answers.append(status)
    receiver.headers = {"Location": receiver.url}
    delivery = await deliver(spec_of(receiver.url))
    assert (delivery.result, delivery.status, delivery.attempts) == ("refused", status, 1)
    assert len(receiver.requests) == 1


async def test_nobody_is_there() -> None:
    delivery = await deliver(spec_of("http://127.0.0.1:1/secret", patience=0.05))
    assert delivery.result == "gave_up" and delivery.status is None and delivery.attempts > 1
    assert "secret" not in delivery.detail


@pytest.mark.parametrize("after", ["3600", "Fri, 01 May 2026 01:00:00 GMT"])
async def test_a_pause_that_is_asked_for_is_kept(receiver: Receiver, after: str) -> None:
    """An hour, which is longer than the patience lasts: it is not tried in between."""
    receiver.always, receiver.headers = 429, {"Retry-After": after}
    delivery = await deliver(spec_of(receiver.url))
    assert (delivery.result, delivery.status, delivery.attempts) == ("gave_up", 429, 1)


async def test_a_retry_after_that_nobody_understands_is_none(receiver: Receiver) -> None:
    receiver.answers.append(503)
    receiver.headers = {"Retry-After": "soon"}
    assert (await deliver(spec_of(receiver.url))).result == "delivered"


async def test_it_stops_between_attempts(receiver: Receiver) -> None:
    receiver.always = 503
    stop = asyncio.Event()
    async with webhook_of(spec_of(receiver.url, longest_pause=30.0)) as webhook:
        delivering = asyncio.create_task(webhook.deliver(TOLD, stop))
        await until(lambda: webhook.trouble is not None, what="a failed attempt")
        assert webhook.trouble == "HTTP 503 Service Unavailable"
        stop.set()
        with pytest.raises(Interrupted):
            await delivering
        assert webhook.trouble is None


def test_the_signature_is_the_one_of_the_standard() -> None:
    # RFC 4231, test case 2
    assert signature("Jefe", b"what do ya want for nothing?") == (
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
