"""Reads what a timed run has published, as any reader does: committed records only."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.expected import Expected
from bench.statuses import Judge, Published
from bench.workloads import PARTITIONS
from service.domain.records import Topic, topic_name
from service.wire.status import HEADER_STATE, HEADER_VERSION

_FETCH_BYTES: Final = 16 << 20
_AT_ONCE: Final = 20_000


@asynccontextmanager
async def reader(servers: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def read_partition(consumer: AIOKafkaConsumer, partition: TopicPartition) -> AsyncIterator[Sequence[Any]]:
    """All records of a partition that nobody writes any more."""
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    end = (await consumer.end_offsets([partition]))[partition]
    while await consumer.position(partition) < end:
        found = await consumer.getmany(timeout_ms=1000, max_records=_AT_ONCE)
        yield found.get(partition, ())


async def judge_statuses(servers: str, prefix: str, expected: Expected) -> Judge:
    """Judge the whole status topic. Raises `WrongStatus`."""
    judge = Judge(expected, prefix)
    async with reader(servers) as consumer:
        for number in range(PARTITIONS):
            of_partition = judge.partition(number)
            async for records in read_partition(consumer, TopicPartition(topic_name(prefix, Topic.STATUS), number)):
                of_partition.take([_published(record) for record in records])
            of_partition.close()
    judge.close()
    return judge


def _published(record: Any) -> Published:
    headers = dict(record.headers)
    version = int(headers.get(HEADER_VERSION, b"-1"))
    return Published(record.offset, record.key, record.value, headers.get(HEADER_STATE, b""), version)
