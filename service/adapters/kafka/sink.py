"""`RecordSink` on aiokafka: one transactional producer per task."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced, UnknownError

from service.adapters.kafka.connection import translating
from service.adapters.kafka.last_publish import position_of, published_version
from service.adapters.kafka.ready_batch import ReadyBatch
from service.domain.records import Batch, Topic, topic_name
from service.ports import Fenced, Unavailable

_CLOSE_WITHIN_S = 5.0
_POSITIONS_EVERY_S = 1.0
"""A transaction with positions takes five requests, one without takes three."""


class KafkaPublisher:
    """The producer of one task. After a fault it is of no more use: open another."""

    def __init__(self, producer: AIOKafkaProducer, task: int, prefix: str, group_id: str, transactions: bool) -> None:
        self._producer = producer
        self._task = task
        self._prefix = prefix
        self._group_id = group_id
        self._transactions = transactions
        self._told = 0
        """Version of the positions that this publisher has committed last."""
        self._told_at = -math.inf

    async def publish(self, batches: Sequence[Batch], positions: Mapping[str, int], version: int) -> int:
        try:
            if self._transactions:
                await self._producer.begin_transaction()
            end = await send_batches(self._producer, self._prefix, batches, transactional=self._transactions)
            if self._transactions:
                await self._commit(positions, version, told_by_statuses=end > 0)
            return end
        except ProducerFenced as error:
            raise Fenced(f"task {self._task}: another producer has its transactional ID") from error
        except (TimeoutError, KafkaError, OSError) as error:
            raise Unavailable(f"Kafka: the publish of version {version} is in doubt: {error!r}") from error

    async def settle(self, positions: Mapping[str, int], version: int) -> None:
        if self._transactions and version != self._told:
            await self.publish([], positions, version)

    async def _commit(self, positions: Mapping[str, int], version: int, *, told_by_statuses: bool) -> None:
        """After the batches: a broker puts those off that come while it adds offsets to their transaction."""
        now = asyncio.get_running_loop().time()
        if told_by_statuses and now - self._told_at < _POSITIONS_EVERY_S:
            await self._producer.commit_transaction()
            return
        offsets = {
            TopicPartition(topic_name(self._prefix, role), self._task): position_of(offset, version)
            for role, offset in positions.items()
        }
        await self._producer.send_offsets_to_transaction(offsets, self._group_id)
        await self._producer.commit_transaction()
        self._told, self._told_at = version, now

    async def close(self) -> None:
        await stop_producer(self._producer)


async def send_batches(
    producer: AIOKafkaProducer, prefix: str, batches: Sequence[Batch], *, transactional: bool
) -> int:
    """Send batches in order; returns when the broker has them.

    Returns the offset after the last status among them, 0 where there is none. Raises the `KafkaError` of the first
    batch that was refused: where the transaction ends while batches are added, it and not the state that it left.
    """
    sent: list[asyncio.Future[Any]] = []
    try:
        for batch in batches:
            ready, name = ReadyBatch(batch, transactional=transactional), topic_name(prefix, batch.topic)
            sent.append(await producer.send_batch(ready, name, partition=batch.partition))
    except IllegalOperation as error:
        await asyncio.gather(*sent)
        raise UnknownError(f"the transaction ended for no known reason: {error}") from error
    placed = await asyncio.gather(*sent)
    ends = [
        at.offset + batch.record_count for batch, at in zip(batches, placed, strict=True) if batch.topic == Topic.STATUS
    ]
    return max(ends, default=0)


class KafkaSink:
    """Opens publishers. Use `open_sink`."""

    def __init__(
        self,
        options: Mapping[str, Any],
        admin: AIOKafkaAdminClient,
        *,
        prefix: str,
        group_id: str,
        transactions: bool,
    ) -> None:
        self._options = options
        self._admin = admin
        self._prefix = prefix
        self._group_id = group_id
        self._transactions = transactions

    async def open(self, task: int) -> KafkaPublisher:
        transactional = {"transactional_id": f"{self._group_id}-{task}"} if self._transactions else {}
        producer = await start_producer(self._options, **transactional)
        return KafkaPublisher(producer, task, self._prefix, self._group_id, self._transactions)

    async def published_version(self, task: int) -> int | None:
        if not self._transactions:
            return None
        with translating():
            return await published_version(self._options, self._admin, self._group_id, self._prefix, task)


async def start_producer(options: Mapping[str, Any], **more: Any) -> AIOKafkaProducer:
    """A producer for `send_batches`. May raise `Unavailable`."""
    producer = AIOKafkaProducer(**options, **more, acks="all", linger_ms=0)
    try:
        with translating():
            await producer.start()
    except BaseException:
        await stop_producer(producer)
        raise
    return producer


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Close, even where the broker is silent: an open transaction is ended by its time-out or by the next open."""
    try:
        await asyncio.wait_for(producer.stop(), _CLOSE_WITHIN_S)
    except (KafkaError, OSError, TimeoutError):
        return


@asynccontextmanager
async def open_sink(
    options: Mapping[str, Any], *, prefix: str, group_id: str, transactions: bool
) -> AsyncIterator[KafkaSink]:
    """A sink with one connection for what is not publishing."""
    admin = AIOKafkaAdminClient(**options)
    try:
        with translating():
            await admin.start()
        yield KafkaSink(options, admin, prefix=prefix, group_id=group_id, transactions=transactions)
    finally:
        await admin.close()
