"""Delivery of one notification: POST until the receiver has it, refuses it, or has been away for too long.

Tried again: connection faults, time-outs, 408, 429 (after its Retry-After) and 5xx, after pauses that double up to a
cap and are jittered. Refused: every other answer; redirects are not followed, since they would carry the token away.
"""

import asyncio
import hashlib
import hmac
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp

from service.wire.notification import Notification, encode_notification

SIGNATURE: Final = "X-Hindsight-Signature"
_FIRST_PAUSE_S: Final = 0.5
_TRIED_AGAIN: Final = frozenset({408, 429})
_HTTP_OK: Final = range(200, 300)
_SERVER_FAULTS: Final = range(500, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSpec:
    """Where to, how it is signed, and how patiently. All spans in seconds."""

    url: str
    bearer_token: str | None
    signing_key: str | None
    timeout: float
    longest_pause: float
    patience: float
    """From the first attempt until a notification is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How it went: `delivered`, `refused` or `gave_up`."""

    result: str
    detail: str = ""
    status: int | None = None
    attempts: int


class Interrupted(Exception):
    """Told to stop in between: whether the receiver has the notification is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int | None
    detail: str
    retry_after: float | None = None

    @property
    def again(self) -> bool:
        return self.status is None or self.status in _TRIED_AGAIN or self.status in _SERVER_FAULTS


class Webhook:
    """One receiver. Not for use by several at once: who waits for it keeps the order."""

    def __init__(self, spec: WebhookSpec, session: aiohttp.ClientSession, epoch: Callable[[], float]) -> None:
        self._spec = spec
        self._session = session
        self._epoch = epoch
        self.trouble: str | None = None
        """Why the notification under way is tried again."""

    async def deliver(self, notification: Notification, stop: asyncio.Event) -> Delivery:
        """Raises `Interrupted` once `stop` is set, after the attempt under way."""
        body = encode_notification(notification)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._spec.patience
        attempts = 0
        try:
            while True:
                if stop.is_set():
                    raise Interrupted
                answer = await self._attempt(body)
                attempts += 1
                if answer.status in _HTTP_OK:
                    return Delivery(result="delivered", status=answer.status, attempts=attempts)
                if not answer.again:
                    return Delivery(result="refused", detail=answer.detail, status=answer.status, attempts=attempts)
                pause = self._pause(attempts, answer)
                if loop.time() + pause > give_up_at:
                    return Delivery(result="gave_up", detail=answer.detail, status=answer.status, attempts=attempts)
                self.trouble = answer.detail
                await _wait(stop, pause)
        finally:
            self.trouble = None

    def _pause(self, attempts: int, answer: _Answer) -> float:
        """Half of it is chance, so that several do not come back at once."""
        doubled = min(self._spec.longest_pause, _FIRST_PAUSE_S * 2.0 ** min(attempts - 1, 30))
        jittered: float = doubled * random.uniform(0.5, 1.0)
        return max(jittered, answer.retry_after or 0.0)

    async def _attempt(self, body: bytes) -> _Answer:
        try:
            async with self._session.post(
                self._spec.url, data=body, headers=self._headers(body), allow_redirects=False
            ) as response:
                retry_after = _seconds(response.headers.get("Retry-After"), self._epoch())
                reason = f"HTTP {response.status} {response.reason or ''}".rstrip()
                return _Answer(status=response.status, detail=reason, retry_after=retry_after)
        except TimeoutError:
            return _Answer(status=None, detail=f"no answer within {self._spec.timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            # the class only where the text could hold the address, which may hold a secret
            told = str(error) if isinstance(error, OSError) else ""
            return _Answer(status=None, detail=f"{type(error).__name__} {told}".rstrip())

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "hindsight"}
        if self._spec.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self._spec.bearer_token}"
        if self._spec.signing_key is not None:
            headers[SIGNATURE] = signature(self._spec.signing_key, body)
        return headers


def signature(key: str, body: bytes) -> str:
    """What a receiver compares the header with, in constant time."""
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


@asynccontextmanager
async def open_webhook(spec: WebhookSpec, epoch: Callable[[], float]) -> AsyncIterator[Webhook]:
    """`epoch` tells the wall time, in seconds since 1970."""
    timeout = aiohttp.ClientTimeout(total=spec.timeout)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Webhook(spec, session, epoch)


async def _wait(stop: asyncio.Event, pause: float) -> None:
    try:
        async with asyncio.timeout(pause):
            await stop.wait()
    except TimeoutError:
        return
    raise Interrupted


def _seconds(retry_after: str | None, now: float) -> float | None:
    """Of a Retry-After, which is a number of seconds or a date."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except ValueError:
        return None
