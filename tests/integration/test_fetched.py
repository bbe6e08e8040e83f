"""Records by whole batches are those that `getmany` gives, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from service.adapters.kafka.checksums import check_what_comes
from service.adapters.kafka.fetched import call_when_fetched, fetched_partitions, fetched_records
from service.adapters.kafka.topics import create_topics
from service.devstack.kafka import Kafka
from service.domain.records import Topic, topic_name
from tests.builders import RECENT_MS

pytestmark = pytest.mark.integration


class Read(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Log:
    """One partition of its own."""

    def __init__(self, options: dict[str, Any], name: str) -> None:
        self.options = options
        self.place = TopicPartition(name, 0)

    @asynccontextmanager
    async def producer(self, **more: Any) -> AsyncIterator[AIOKafkaProducer]:
        async with AIOKafkaProducer(**self.options, **more) as producer:
            yield producer

    async def send(self, producer: AIOKafkaProducer, first: int, count: int) -> None:
        """One batch of records, of which some have a header, no key or no value."""
        batch = producer.create_batch()
        for number in range(first, first + count):
            batch.append(
                key=None if number % 5 == 0 else b"key-%d" % number,
                value=None if number % 7 == 3 else b"value-%d" % number * 20,
                timestamp=RECENT_MS + number % 11,
                headers=[("name", b"%d" % number), ("empty", b"")] if number % 3 else [],
            )
        await (await producer.send_batch(batch, self.place.topic, partition=0))

    @asynccontextmanager
    async def consumer(self, isolation: str) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self.options, isolation_level=isolation, enable_auto_commit=False, auto_offset_reset="none"
        )
        async with consumer:
            check_what_comes(consumer)
            consumer.assign([self.place])
            yield consumer

    async def read(
        self, start: int, most: int, *, whole: bool, isolation: str = "read_committed"
    ) -> tuple[list[Read], int]:
        """Everything from `start` on, taken with polls of `most` records; and the position at the end."""
        found: list[Read] = []
        async with self.consumer(isolation) as consumer, asyncio.timeout(30):
            consumer.seek(self.place, start)
            end = (await consumer.end_offsets([self.place]))[self.place]
            while await consumer.position(self.place) < end:
                records = await self._poll(consumer, most, whole)
                found += [Read(one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in records]
            return found, int(await consumer.position(self.place))

    async def _poll(self, consumer: AIOKafkaConsumer, most: int, whole: bool) -> Sequence[Any]:
        if whole:
            if self.place not in fetched_partitions(consumer):
                came = asyncio.Event()
                call_when_fetched(consumer, came.set)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await came.wait()
            return fetched_records(consumer, self.place, most)
        found = await consumer.getmany(self.place, timeout_ms=200, max_records=most)
        records: Sequence[Any] = found.get(self.place, ())
        return records


@pytest.fixture
async def log(kafka: Kafka, topic_prefix: str) -> Log:
    options, prefix = {"bootstrap_servers": kafka.bootstrap_servers}, topic_prefix.rstrip(".")
    await create_topics(options, prefix, partitions=1, replication_factor=1, min_insync=1)
    return Log(options, topic_name(prefix, Topic.PREDICTIONS))


async def same(log: Log, starts: Sequence[int], isolation: str = "read_committed") -> list[Read]:
    """Checks that both ways give the same from each start, however much a poll takes; what the first of them gave."""
    firsts = []
    for start in starts:
        wanted, reached = await log.read(start, 1000, whole=False, isolation=isolation)
        for most in (1, 7, 1000):
            assert await log.read(start, most, whole=True, isolation=isolation) == (wanted, reached)
        firsts.append(wanted)
    return firsts[0]


@pytest.mark.parametrize("compression", [None, "gzip", "lz4", "zstd"])
async def test_compressed_or_not_from_the_middle_of_a_batch_too(log: Log, compression: str | None) -> None:
    async with log.producer(compression_type=compression) as producer:
        for first in range(0, 60, 20):
            await log.send(producer, first, 20)
    assert len(await same(log, [0, 1, 19, 20, 33, 59])) == 60


@pytest.mark.parametrize("isolation", ["read_committed", "read_uncommitted"])
async def test_aborted_transactions_and_markers_in_the_middle_and_at_the_end(log: Log, isolation: str) -> None:
    name = log.place.topic
    async with log.producer(transactional_id=name) as one, log.producer(transactional_id=f"{name}-other") as other:
        for number, commits in enumerate((True, False, True, False)):
            await one.begin_transaction()
            await log.send(one, number * 10, 10)
            async with other.transaction():  # its records lie among those of the first
                await log.send(other, 100 + number * 10, 10)
            await log.send(one, 200 + number * 10, 10)
            await (one.commit_transaction() if commits else one.abort_transaction())
    found = await same(log, [0, 5, 15, 33, 40, 77], isolation)
    assert len(found) == (80 if isolation == "read_committed" else 120)


async def test_a_seek_drops_what_was_fetched(log: Log) -> None:
    async with log.producer() as producer:
        for first in range(0, 60, 20):
            await log.send(producer, first, 20)
    async with log.consumer("read_committed") as consumer, asyncio.timeout(30):
        consumer.seek(log.place, 0)
        assert [one.offset for one in await log._poll(consumer, 5, True)] == list(range(20))
        consumer.seek(log.place, 7)
        assert [one.offset for one in await log._poll(consumer, 1000, True)][:3] == [7, 8, 9]


async def test_what_was_fetched_of_a_paused_partition_is_not_handed_out(log: Log) -> None:
    async with log.producer() as producer:
        for first in range(0, 60, 20):
            await log.send(producer, first, 20)
    async with log.consumer("read_committed") as consumer, asyncio.timeout(30):
        consumer.seek(log.place, 0)
        assert len(await log._poll(consumer, 5, True)) == 20
        consumer.pause(log.place)
        assert await log._poll(consumer, 5, True) == []
        consumer.resume(log.place)
        assert [one.offset for one in await log._poll(consumer, 1000, True)][0] == 20
