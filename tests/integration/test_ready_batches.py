"""Encoded batches on a real broker: it takes them, and a consumer of the library reads what went in."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from service.adapters.kafka.sink import send_batches, start_producer, stop_producer
from service.adapters.kafka.topics import create_topics
from service.devstack.kafka import Kafka
from service.devstack.tansu import open_tansu
from service.domain.records import MAX_RECORD_BYTES, Batch, Codec, OutRecord, Topic, topic_name
from service.wire.record_batch import encode
from tests.builders import RECENT_MS

pytestmark = pytest.mark.integration


@pytest.fixture
async def prefix(kafka: Kafka, topic_prefix: str) -> str:
    name = topic_prefix.rstrip(".")
    options = {"bootstrap_servers": kafka.bootstrap_servers}
    await create_topics(options, name, partitions=2, replication_factor=1, min_insync=1)
    return name


async def send(options: dict[str, Any], prefix: str, rounds: Sequence[Sequence[Batch]], transactional: bool) -> int:
    """Each round in a transaction of its own, if in any; returns the end after the last."""
    end = 0
    producer = await start_producer(options, **({"transactional_id": prefix} if transactional else {}))
    try:
        for batches in rounds:
            if transactional:
                await producer.begin_transaction()
            end = await send_batches(producer, prefix, batches, transactional=transactional)
            if transactional:
                await producer.commit_transaction()
    finally:
        await stop_producer(producer)
    return end


async def read(options: dict[str, Any], prefix: str, topic: str, partition: int, count: int) -> list[OutRecord]:
    place = TopicPartition(topic_name(prefix, topic), partition)
    found: list[OutRecord] = []
    async with (
        AIOKafkaConsumer(**options, isolation_level="read_committed", enable_auto_commit=False) as consumer,
        asyncio.timeout(30),
    ):
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        while len(found) < count:
            for one in (await consumer.getmany(place, timeout_ms=500)).get(place, ()):
                found.append(OutRecord(topic, partition, one.key, one.value, list(one.headers), one.timestamp))
    return found


def records(count: int) -> list[OutRecord]:
    """Statuses with and without value, headers and key; their times go back and forth."""
    return [
        OutRecord(
            Topic.STATUS,
            1,
            b"d/%d" % number,
            None if number % 5 == 4 else b"value %d " % number * (number % 50),
            [("state", b"%d" % number), ("größe", b"")][: number % 3],
            RECENT_MS + number % 7 - 3,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("transactional", [True, False])
@pytest.mark.parametrize("codec", Codec)
async def test_a_consumer_reads_what_went_in(kafka: Kafka, prefix: str, codec: Codec, transactional: bool) -> None:
    options = {"bootstrap_servers": kafka.bootstrap_servers}
    sent = records(20_000)  # of several batches
    letters = [OutRecord(Topic.DLQ, 0, None, b"letter", [("empty", None)], RECENT_MS)]  # type: ignore[list-item]
    rounds = [encode([[*sent[:50], *letters]], codec), encode([sent[50:]], codec)]
    assert len(rounds[1]) > 1
    end = await send(options, prefix, rounds, transactional)
    assert end == len(sent) + (1 if transactional else 0)  # the marker of the first round
    assert await read(options, prefix, Topic.STATUS, 1, len(sent)) == sent
    assert await read(options, prefix, Topic.DLQ, 0, 1) == letters


@pytest.mark.parametrize("codec", Codec)
async def test_a_broker_takes_the_largest_that_does_not_compress(kafka: Kafka, prefix: str, codec: Codec) -> None:
    options, chance = {"bootstrap_servers": kafka.bootstrap_servers}, random.Random(7)
    sizes = [MAX_RECORD_BYTES - 3, *[90_000] * 25, MAX_RECORD_BYTES - 3, 10, 10]
    sent = [OutRecord(Topic.DLQ, 0, b"key", chance.randbytes(size), [], RECENT_MS) for size in sizes]
    await send(options, prefix, [encode([sent], codec)], True)
    assert await read(options, prefix, Topic.DLQ, 0, len(sent)) == sent


@pytest.mark.parametrize("codec", Codec)
async def test_a_broker_without_transactions_takes_them(tmp_path: Path, codec: Codec) -> None:
    async with open_tansu(tmp_path) as tansu:
        options = {"bootstrap_servers": tansu.bootstrap_servers, "security_protocol": "PLAINTEXT"}
        await create_topics(options, "monitoring", partitions=2, replication_factor=1, min_insync=None)
        sent = records(2_000)
        await send(options, "monitoring", [encode([sent], codec)], False)
        assert await read(options, "monitoring", Topic.STATUS, 1, len(sent)) == sent
