"""The version that was published last is told right, whatever the group's coordinator and the partition's end say."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from service.adapters.kafka.connection import open_admin
from service.adapters.kafka.last_publish import position_of
from service.adapters.kafka.sink import KafkaSink, open_sink
from service.adapters.kafka.topics import create_topics
from service.devstack.kafka import Kafka
from service.domain.records import OutRecord, Topic, topic_name
from service.wire.record_batch import encode
from service.wire.status import HEADER_STATE, HEADER_VERSION

TASK = 1
Opened = tuple[KafkaSink, str, dict[str, str]]


@pytest.fixture
async def opened(kafka: Kafka, topic_prefix: str) -> AsyncIterator[Opened]:
    """A sink, the name of its topics and group, and how to connect."""
    options, name = {"bootstrap_servers": kafka.bootstrap_servers}, topic_prefix.rstrip(".")
    await create_topics(options, name, partitions=2, replication_factor=1, min_insync=1)
    async with open_sink(options, prefix=name, group_id=name, transactions=True) as sink:
        yield sink, name, options


def statuses(version: int, count: int = 1) -> list[OutRecord]:
    headers = [(HEADER_STATE, b"state"), (HEADER_VERSION, b"%d" % version)]
    return [OutRecord(Topic.STATUS, TASK, b"d/%d" % number, b"{}", headers, 0) for number in range(count)]


async def publish(sink: KafkaSink, versions: dict[int, Sequence[OutRecord]]) -> None:
    publisher = await sink.open(TASK)
    for version, records in versions.items():
        await publisher.publish(encode([records]), {Topic.PREDICTIONS: version}, version)
    await publisher.close()
    await (await sink.open(TASK)).close()


@asynccontextmanager
async def coordinator_telling(version: int, name: str, options: dict[str, str]) -> AsyncIterator[None]:
    consumer = AIOKafkaConsumer(**options, group_id=name, enable_auto_commit=False)
    place = TopicPartition(topic_name(name, Topic.PREDICTIONS), TASK)
    consumer.assign([place])
    await consumer.start()
    try:
        await consumer.commit({place: position_of(version, version)})
        yield
    finally:
        await consumer.stop()


@pytest.mark.parametrize("told", [1, 6])
async def test_a_coordinator_that_tells_old_offsets(opened: Opened, told: int) -> None:
    """One version too few would publish a slot a second time; many would look like a damaged ledger."""
    sink, name, options = opened
    await publish(sink, {version: statuses(version) for version in range(1, 8)})
    async with coordinator_telling(told, name, options):
        assert await sink.published_version(TASK) == 7
        assert await sink.published_version(0) is None


async def test_positions_are_left_to_a_later_publish_where_statuses_tell_the_version(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, name, options = opened
    monkeypatch.setattr("service.adapters.kafka.sink._POSITIONS_EVERY_S", 3600.0)
    publisher = await sink.open(TASK)
    await publisher.publish(encode([statuses(1)]), {Topic.PREDICTIONS: 10}, 1)
    await publisher.publish(encode([statuses(2)]), {Topic.PREDICTIONS: 20}, 2)
    assert (await committed(name, options), await sink.published_version(TASK)) == ((10, "version=1"), 2)
    await publisher.settle({Topic.PREDICTIONS: 20}, 2)
    assert await committed(name, options) == (20, "version=2")
    await publisher.publish(encode([statuses(3)]), {Topic.PREDICTIONS: 30}, 3)
    await publisher.publish([], {Topic.PREDICTIONS: 40}, 4)  # nothing else would tell of it
    assert await committed(name, options) == (40, "version=4")
    await publisher.publish(encode([statuses(5)]), {Topic.PREDICTIONS: 50}, 5)
    await publisher.close()
    later = await sink.open(TASK)  # the former one was killed before it came to rest
    await later.settle({Topic.PREDICTIONS: 50}, 5)
    assert await committed(name, options) == (50, "version=5")
    await later.close()


async def committed(name: str, options: dict[str, str]) -> tuple[int, str]:
    """Offset and metadata that the group has of the predictions."""
    place = TopicPartition(topic_name(name, Topic.PREDICTIONS), TASK)
    async with open_admin(options) as admin:
        found = (await admin.list_consumer_group_offsets(name, partitions=[place]))[place]
    return found.offset, found.metadata


async def test_a_version_without_a_status(opened: Opened) -> None:
    sink, _, _ = opened
    await publish(sink, {1: statuses(1), 2: []})
    assert await sink.published_version(TASK) == 2


async def test_a_partition_that_ends_with_what_was_given_up(opened: Opened) -> None:
    sink, name, options = opened
    await publish(sink, {1: statuses(1), 2: statuses(2, 3)})
    producer = AIOKafkaProducer(**options, transactional_id=f"{name}-{TASK}")
    await producer.start()
    await producer.begin_transaction()
    for number in range(300):
        headers = [(HEADER_VERSION, b"3")]
        await producer.send(topic_name(name, Topic.STATUS), b"{}", b"%d" % number, TASK, headers=headers)
    await producer.flush()
    await producer.abort_transaction()
    await producer.stop()
    async with coordinator_telling(1, name, options):
        assert await sink.published_version(TASK) == 2
