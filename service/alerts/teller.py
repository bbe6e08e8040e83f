"""What is done about a record, and about time: tell, hold, count, and write dead letters. One step at a time.

A step first tells, then remembers, and only then is its record's offset committed: a crash in between tells again,
under the same ID. What was remembered as done is not done again.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, NamedTuple, Protocol

import structlog

from service.alerts.flaps import FlapSpec, FlapState, Verdict, after_change, after_time, thing_key
from service.alerts.webhook import Delivery, Webhook
from service.domain.records import MAX_RECORD_BYTES
from service.telemetry import Telemetry
from service.wire.dead_letter import truncated
from service.wire.notification import (
    Notification,
    Source,
    Unreadable,
    dead_letter_headers,
    encode_notification,
    notification_of,
)

_log = structlog.get_logger(__name__)
EVENT_OUTCOMES: Final = ("told", "held", "unwanted", "repeated", "empty", "unreadable")
RESULTS: Final = ("delivered", "refused", "gave_up")


class Record(NamedTuple):
    """A record of the topic of batches."""

    source: Source
    key: bytes | None
    value: bytes | None


class Memory(Protocol):
    """What is known of the things of the partitions that this process owns. Survives it."""

    def get(self, key: bytes) -> FlapState | None:
        """The state of a thing that changed lately."""

    def all(self) -> Sequence[tuple[bytes, FlapState]]:
        """Every such thing."""

    def has_done(self, source: Source) -> bool:
        """Whether this record, or a later one of its partition, was remembered."""

    async def put(self, key: bytes, state: FlapState, stop: asyncio.Event) -> None:
        """Returns when Kafka has it. Raises `Interrupted`."""

    async def remove(self, key: bytes, source: Source, stop: asyncio.Event) -> None:
        """Returns when Kafka has it, and that the record is done. Raises `Interrupted`."""


class DeadLetters(Protocol):
    """Where goes what can not be delivered."""

    async def put(
        self, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], stop: asyncio.Event
    ) -> None:
        """Returns when Kafka has it. Raises `Interrupted`."""


class Teller:
    """Whoever calls it does so for one record, or one thing, after the other."""

    def __init__(
        self,
        *,
        spec: FlapSpec,
        wanted: frozenset[str] | None,
        memory: Memory,
        webhook: Webhook,
        dead_letters: DeadLetters,
        telemetry: Telemetry,
        epoch: Callable[[], float],
    ) -> None:
        self._spec = spec
        self._wanted = wanted
        self._memory = memory
        self._webhook = webhook
        self._dead_letters = dead_letters
        self._telemetry = telemetry
        self._epoch = epoch

    async def take(self, record: Record, stop: asyncio.Event) -> None:
        """Returns when the offset of the record may be committed. Raises `Interrupted`: then it may not."""
        outcome = await self._taken(record, stop)
        self._telemetry.alert_events_total.labels(outcome).inc()

    async def _taken(self, record: Record, stop: asyncio.Event) -> str:
        if record.value is None:
            return "empty"
        if self._memory.has_done(record.source):
            return "repeated"
        try:
            if len(record.value) > MAX_RECORD_BYTES:
                raise Unreadable(f"larger than {MAX_RECORD_BYTES:,} bytes")
            change = notification_of(record.value, record.source)
        except Unreadable as unreadable:
            headers = dead_letter_headers(record.source, reason="unreadable", detail=str(unreadable))
            await self._bury("unreadable", record.key, record.value, headers, stop)
            return "unreadable"
        if self._wanted is not None and change.event not in self._wanted:
            return "unwanted"
        thing = thing_key(change)
        if thing is None:
            await self._tell(change, record.source, stop)
            return "told"
        await self.look(thing, stop)
        verdict = after_change(self._memory.get(thing), change, record.source, self._epoch())
        await self._carry_out(thing, verdict, record.source, stop)
        return "held" if verdict.tell is None else "told"

    def due(self) -> list[bytes]:
        """The things about which something is to be done now."""
        now = self._epoch()
        return [key for key, state in self._memory.all() if after_time(self._spec, state, now).state is not state]

    async def look(self, thing: bytes, stop: asyncio.Event) -> None:
        """Do what time asks for. Raises `Interrupted`."""
        state = self._memory.get(thing)
        if state is None:
            return
        verdict = after_time(self._spec, state, self._epoch())
        if verdict.state is not state:
            await self._carry_out(thing, verdict, state.source, stop)

    async def _carry_out(self, thing: bytes, verdict: Verdict, source: Source, stop: asyncio.Event) -> None:
        if verdict.tell is not None:
            await self._tell(verdict.tell, source, stop)
        if verdict.state is not None:
            await self._memory.put(thing, verdict.state, stop)
        else:
            await self._memory.remove(thing, source, stop)
        self._telemetry.alert_changes_suppressed_total.inc(
            verdict.settled if verdict.tell is None else verdict.tell.changes - 1
        )

    async def _tell(self, notification: Notification, source: Source, stop: asyncio.Event) -> None:
        began = perf_counter()
        delivery = await self._webhook.deliver(notification, stop)
        if delivery.result != "delivered":
            await self._not_delivered(notification, source, delivery, stop)
        self._telemetry.notifications_total.labels(delivery.result).inc()
        self._telemetry.notification_seconds.observe(perf_counter() - began)

    async def _not_delivered(
        self, notification: Notification, source: Source, delivery: Delivery, stop: asyncio.Event
    ) -> None:
        _log.error(
            "notification was not delivered; it is a dead letter",
            result=delivery.result,
            detail=delivery.detail,
            attempts=delivery.attempts,
            id=notification.id,
        )
        headers = dead_letter_headers(
            source,
            reason=delivery.result,
            detail=delivery.detail,
            status=delivery.status,
            attempts=delivery.attempts,
        )
        key = f"{notification.deployment_id}/{notification.batch_id or ''}".encode()
        await self._bury(delivery.result, key, encode_notification(notification), headers, stop)

    async def _bury(
        self, reason: str, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], stop: asyncio.Event
    ) -> None:
        if len(value) > MAX_RECORD_BYTES:
            value, note = truncated(value)
            headers = [*headers, note]
        await self._dead_letters.put(key, value, headers, stop)
        self._telemetry.notification_dead_letters_total.labels(reason).inc()
