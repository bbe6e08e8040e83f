"""`DeadLetterLog` on aiokafka: reads the topic of dead letters, and sends letters again."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from service.adapters.kafka.connection import translating
from service.adapters.kafka.sink import send_batches, start_producer, stop_producer
from service.adapters.kafka.topics import partition_count
from service.domain.errors import Conflict, NotFound
from service.domain.records import Codec, OutRecord, Topic, topic_name
from service.ports import Record, Unavailable
from service.usecases.dead_letters import Replayer, Span
from service.wire.record_batch import encode

_PAGE = 2_000
_WAIT_MS = 500
_PATIENCE_S = 90.0
"""Longer than a transaction that nobody ends stays open: a minute, as clients come configured."""
_TRANSACTION_MS = 15_000
"""After a kill the broker gives up what was begun: until then readers of committed records wait behind it."""


class KafkaDeadLetters:
    """Use `open_dead_letters`."""

    def __init__(
        self,
        options: Mapping[str, Any],
        consumer: AIOKafkaConsumer,
        *,
        prefix: str,
        group_id: str,
        transactions: bool,
        partitions: int,
    ) -> None:
        self.topics = {topic_name(prefix, role): role for role in (Topic.PREDICTIONS, Topic.ACTUALS)}
        self.partitions = partitions
        self._options = options
        self._consumer = consumer
        self._prefix = prefix
        self._group_id = group_id
        self._transactions = transactions

    async def span(self, partition: int) -> Span:
        return await _span(self._consumer, self._on(partition))

    async def settled(self, partition: int) -> Span:
        async with _consumer(self._options, "read_uncommitted") as everything:
            written = await _span(everything, self._on(partition))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while (await self.span(partition)).end < written.end:  # noqa: ASYNC110 - the broker can not tell
                    await asyncio.sleep(0.05)
        except TimeoutError:
            name = self._on(partition).topic
            raise Unavailable(f"Kafka: a transaction stays open on {name}, partition {partition}; try again") from None
        return written

    async def read(self, partition: int, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        consumer, on = self._consumer, self._on(partition)
        with translating():
            consumer.assign([on])
            consumer.seek(on, start)
            moved_at = asyncio.get_running_loop().time()
            position = start
            while position < end:
                found = await consumer.getmany(on, timeout_ms=_WAIT_MS, max_records=_PAGE)
                reached = await consumer.position(on)
                if reached > position:
                    position, moved_at = reached, asyncio.get_running_loop().time()
                elif asyncio.get_running_loop().time() - moved_at > _PATIENCE_S:
                    raise Unavailable(f"Kafka: no records of {on.topic}, partition {partition}, from {position} on")
                if page := [record for record in found.get(on, ()) if record.offset < end]:
                    yield page

    @asynccontextmanager
    async def replaying(self, partition: int) -> AsyncIterator[Replayer]:
        transactional = {
            "transactional_id": f"{self._group_id}-dlq-replay-{partition}",
            "transaction_timeout_ms": _TRANSACTION_MS,
        }
        producer = await start_producer(self._options, **(transactional if self._transactions else {}))
        try:
            yield _KafkaReplayer(producer, partition, self._prefix, self._transactions)
        finally:
            await stop_producer(producer)

    def _on(self, partition: int) -> TopicPartition:
        return TopicPartition(topic_name(self._prefix, Topic.DLQ), partition)


class _KafkaReplayer:
    def __init__(self, producer: AIOKafkaProducer, partition: int, prefix: str, transactions: bool) -> None:
        self._producer = producer
        self._partition = partition
        self._prefix = prefix
        self._transactions = transactions

    async def send(self, records: Sequence[OutRecord]) -> None:
        batches = encode([records], Codec.NONE)
        try:
            async with AsyncExitStack() as stack:
                if self._transactions:
                    await stack.enter_async_context(self._producer.transaction())
                await send_batches(self._producer, self._prefix, batches, transactional=self._transactions)
        except ProducerFenced as error:
            raise Conflict(f"another replay of partition {self._partition} has begun; this one has ended") from error
        except (TimeoutError, KafkaError, OSError) as error:
            raise Unavailable(
                f"Kafka: it is in doubt whether the last letters were sent: {error!r}. Run the command again: "
                "what is out is known then"
            ) from error


@asynccontextmanager
async def open_dead_letters(
    options: dict[str, Any], *, prefix: str, group_id: str, transactions: bool
) -> AsyncIterator[KafkaDeadLetters]:
    """Raises `NotFound` where there is no such topic, `Unavailable`."""
    partitions = await partition_count(options, prefix, Topic.DLQ)
    inputs = {await partition_count(options, prefix, role) for role in (Topic.PREDICTIONS, Topic.ACTUALS)}
    if partitions is None or inputs != {partitions}:
        raise NotFound("the topics are not as they must be; see: hindsight topics check")
    async with _consumer(options, "read_committed") as consumer:
        yield KafkaDeadLetters(
            options, consumer, prefix=prefix, group_id=group_id, transactions=transactions, partitions=partitions
        )


@asynccontextmanager
async def _consumer(options: Mapping[str, Any], isolation: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **options,
        enable_auto_commit=False,
        isolation_level=isolation,
        auto_offset_reset="earliest",  # what retention takes while it is read is passed over
    )
    try:
        with translating():
            await consumer.start()
            await asyncio.sleep(0)  # stopping it before its tasks have begun would be a cancellation of ours
        yield consumer
    finally:
        await consumer.stop()


async def _span(consumer: AIOKafkaConsumer, partition: TopicPartition) -> Span:
    with translating():
        begins = await consumer.beginning_offsets([partition])
        ends = await consumer.end_offsets([partition])
    return Span(int(begins[partition]), int(ends[partition]))
