"""`InputLog` on aiokafka: one producer for all requests of a process, connected beside them.

The process starts and answers without Kafka; only `append` needs it. A producer that has failed or fallen silent is
given up at once, so that what it still holds does not come out long after its request was refused, and another is
connected. An idempotent producer tries again by itself until then, and writes nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from service.adapters.kafka.sink import start_producer, stop_producer
from service.adapters.kafka.topics import partition_count
from service.domain.records import OutRecord, topic_name
from service.ports import Unavailable
from service.usecases.intake import IntakeKind, Unacknowledged

_log = structlog.get_logger(__name__)
ACKNOWLEDGED_WITHIN_S: Final = 15.0
"""Longer than a partition is without a leader when one of several brokers dies."""
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_CLOSE_WITHIN_S: Final = 2.0


@dataclass(slots=True)
class _Connected:
    producer: AIOKafkaProducer
    partitions: Mapping[IntakeKind, int]
    given_up: asyncio.Event = field(default_factory=asyncio.Event)


class KafkaInputLog:
    """Use `open_input_log`."""

    def __init__(self, options: dict[str, Any], prefix: str, within_s: float, **producer: Any) -> None:
        self._options = options
        self._prefix = prefix
        self._within_s = within_s
        self._producer = producer
        self._connected: _Connected | None = None

    def partitions(self, kind: IntakeKind) -> int:
        return self._now().partitions[kind]

    async def append(self, records: Sequence[OutRecord]) -> None:
        if not records:
            return
        connected = self._now()
        sent: list[tuple[int, asyncio.Future[Any]]] = []
        fault: BaseException | None = None
        try:
            async with asyncio.timeout(self._within_s):
                for topic, partition, batch in self._batches(connected.producer, records):
                    future = await connected.producer.send_batch(batch, topic, partition=partition)
                    sent.append((batch.record_count(), future))
                await _first_of(asyncio.gather(*(future for _, future in sent), return_exceptions=True), connected)
        except (TimeoutError, KafkaError, OSError) as error:
            fault = error
        acknowledged, refusal = _settled(sent)
        if acknowledged < len(records) and fault is None:
            fault = refusal or TimeoutError("the connection was given up")
        if fault is not None:
            self._give_up(connected)
            text = f"Kafka: {acknowledged} of {len(records)} records were acknowledged: {fault!r}"
            raise Unacknowledged(text, acknowledged) from fault

    async def keep_connected(self) -> None:
        """Never returns."""
        pause, told = _FIRST_PAUSE_S, ""
        while True:
            try:
                connected = await self._connect()
            except (Unavailable, KafkaError) as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("rows are refused: the broker is away", detail=told)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                continue
            pause, told = _FIRST_PAUSE_S, ""
            self._connected = connected
            _log.info("rows are taken", partitions=connected.partitions[IntakeKind.PREDICTIONS])
            try:
                await connected.given_up.wait()
            except asyncio.CancelledError:
                await stop_producer(connected.producer)
                raise
            await _abandon(connected.producer)

    async def _connect(self) -> _Connected:
        found = {kind: await partition_count(self._options, self._prefix, kind.value) for kind in IntakeKind}
        if missing := [kind for kind, partitions in found.items() if partitions is None]:
            names = ", ".join(topic_name(self._prefix, kind.value) for kind in missing)
            raise Unavailable(f"Kafka: there is no topic {names}; create it: hindsight topics create")
        producer = await start_producer(self._options, **self._producer)
        return _Connected(producer, {kind: partitions or 0 for kind, partitions in found.items()})

    def _now(self) -> _Connected:
        if self._connected is None:
            raise Unavailable("Kafka: not connected")
        return self._connected

    def _give_up(self, connected: _Connected) -> None:
        if self._connected is connected:
            self._connected = None
        connected.given_up.set()

    def _batches(self, producer: AIOKafkaProducer, records: Sequence[OutRecord]) -> Iterator[tuple[str, int, Any]]:
        """With topic and partition; records lie together by both."""
        for (role, partition), group in groupby(records, key=lambda record: record[:2]):
            topic, batch = topic_name(self._prefix, role), producer.create_batch()
            for record in group:
                if not _append(batch, record):
                    yield topic, partition, batch
                    batch = producer.create_batch()
                    if not _append(batch, record):
                        raise ValueError("a record does not fit into an empty batch")
            yield topic, partition, batch


def _append(batch: Any, record: OutRecord) -> bool:
    _, _, key, value, headers, timestamp = record
    return batch.append(key=key, value=value, headers=headers, timestamp=timestamp) is not None


async def _first_of(all_of_them: asyncio.Future[Any], connected: _Connected) -> None:
    """Until all are settled, or another request has found the producer to be of no use."""
    given_up = asyncio.create_task(connected.given_up.wait())
    try:
        await asyncio.wait([all_of_them, given_up], return_when=asyncio.FIRST_COMPLETED)
    finally:
        given_up.cancel()


def _settled(sent: Sequence[tuple[int, asyncio.Future[Any]]]) -> tuple[int, BaseException | None]:
    """How many records are acknowledged, and why one was refused; nobody waits for the others any more."""
    acknowledged, refusal = 0, None
    for records, future in sent:
        if not future.done():
            future.cancel()
        elif future.cancelled():
            continue
        elif (error := future.exception()) is not None:
            refusal = refusal or error
        else:
            acknowledged += records
    return acknowledged, refusal


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Without sending what it still holds: its connections go first, then the task that would try again.

    The library's own way to close would send the rest, for as long as that takes.
    """
    with suppress(TimeoutError, KafkaError, OSError):
        await asyncio.wait_for(producer.client.close(), _CLOSE_WITHIN_S)
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
        await asyncio.wait([sender], timeout=_CLOSE_WITHIN_S)
    producer._message_accumulator.fail_all(KafkaConnectionError("the connection was given up"))
    await stop_producer(producer)


@asynccontextmanager
async def open_input_log(
    options: dict[str, Any],
    *,
    prefix: str,
    idempotent: bool,
    compression: str | None,
    within_s: float = ACKNOWLEDGED_WITHIN_S,
) -> AsyncIterator[KafkaInputLog]:
    """At once, whether or not the broker is there."""
    log = KafkaInputLog(options, prefix, within_s, enable_idempotence=idempotent, compression_type=compression)
    keeping = asyncio.create_task(log.keep_connected(), name="input log")
    try:
        yield log
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
