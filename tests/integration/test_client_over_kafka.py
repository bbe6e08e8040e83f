"""The client on a real Kafka: what arrives, where, and what becomes of it while the broker is away."""

import asyncio
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from service.adapters.kafka.topics import create_topics
from service.client import AsyncClient, Client, Counts, Limits
from service.devstack.java import KafkaSoftware
from service.devstack.kafka import Kafka, open_kafka
from service.domain.ids import home_of
from service.wire.events import ActualEvent, PredictionEvent, decode_actual, decode_prediction
from service.wire.instants import instant_us

PARTITIONS: Final = 5
PATIENCE_S: Final = 60.0


@pytest.fixture
async def prefix(kafka: Kafka, topic_prefix: str) -> str:
    return await made(kafka, topic_prefix.rstrip("."))


async def made(kafka: Kafka, prefix: str) -> str:
    options = {"bootstrap_servers": kafka.bootstrap_servers}
    await create_topics(options, prefix, partitions=PARTITIONS, replication_factor=None, min_insync=None)
    return prefix


async def records(kafka: Kafka, topic: str) -> list[ConsumerRecord]:
    """All that is there."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest") as consumer:
        places = [TopicPartition(topic, partition) for partition in await consumer_partitions(consumer, topic)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for some in (await consumer.getmany(timeout_ms=500)).values():
                found += some
        return found


async def consumer_partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client._wait_on_metadata(topic)
    found: set[int] = consumer.partitions_for_topic(topic)
    return found


async def predictions(kafka: Kafka, prefix: str) -> list[tuple[ConsumerRecord, PredictionEvent]]:
    return [(one, decode_prediction(one.value)) for one in await records(kafka, f"{prefix}.predictions.v1")]


async def actuals(kafka: Kafka, prefix: str) -> list[tuple[ConsumerRecord, ActualEvent]]:
    return [(one, decode_actual(one.value)) for one in await records(kafka, f"{prefix}.actuals.v1")]


async def test_events_say_what_was_logged(kafka: Kafka, prefix: str) -> None:
    before = datetime.now(UTC)  # noqa: TID251 the client asks for the same time
    async with AsyncClient.over_kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=prefix) as client:
        assert await client.log_prediction(
            "d",
            {"late": np.float32(0.25), "on_time": 0.75},
            association_id=["UA", "1"],
            features={"distance": np.int64(1400), "delay": float("nan"), "rain": np.bool_(True), "origin": "EWR"},
            model_id="m",
            batch_name="May",
            service={"responseTimeMs": 12.5, "cacheHit": False},
        )
        assert await client.log_actual("d", ("UA", "1"), "late", timestamp=1_767_225_600.5, was_acted_on=False)
        assert await client.log_actual("d", "UA2", None)
        assert await client.flush(PATIENCE_S)
    after = datetime.now(UTC)  # noqa: TID251
    ((record, event),) = await predictions(kafka, prefix)
    assert record.key == b'["UA","1"]'
    assert (event.deployment_id, event.association_id, event.model_id) == ("d", ["UA", "1"], "m")
    assert (event.batch_name, event.batch_id) == ("May", None)
    assert json.loads(bytes(event.prediction)) == {"late": 0.25, "on_time": 0.75}
    assert json.loads(bytes(event.features)) == {"distance": 1400, "delay": None, "rain": True, "origin": "EWR"}
    assert event.service is not None and (event.service.response_time_ms, event.service.cache_hit) == (12.5, False)
    assert isinstance(event.timestamp, datetime) and before <= event.timestamp <= after
    told = {record.key: event for record, event in await actuals(kafka, prefix)}
    assert told[b'["UA","1"]'].actual == "late" and told[b'["UA","1"]'].was_acted_on is False
    at = told[b'["UA","1"]'].timestamp
    assert at is not None and instant_us(at) == 1_767_225_600_500_000
    assert told[b"UA2"].actual is None


async def test_many_threads_and_every_row_at_its_home(kafka: Kafka, prefix: str) -> None:
    threads, rows = 8, 1_000
    limits = Limits(batch_rows=300, linger=0.01)
    client = Client.over_kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=prefix, limits=limits)

    def log(thread: int) -> None:
        for number in range(rows):
            given = f"{thread}-{number}"
            composite = number % 3 == 0
            assert client.log_prediction("d", number, association_id=["row", given] if composite else given)
            assert client.log_actual("d", ["row", given] if composite else given, number)
        assert client.log_prediction("d", 0.5)

    running = [threading.Thread(target=log, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        await asyncio.to_thread(thread.join)
    assert await asyncio.to_thread(client.flush, PATIENCE_S)
    total = threads * (2 * rows + 1)
    assert client.counts == Counts(taken=total, sent=total)
    await asyncio.to_thread(client.close)
    arrived = await predictions(kafka, prefix)
    keyed = [(record, event) for record, event in arrived if event.association_id is not None]
    assert len(arrived) == threads * (rows + 1) and len({record.key for record, _ in keyed}) == threads * rows
    for record, _ in [*keyed, *await actuals(kafka, prefix)]:
        assert record.partition == home_of(record.key.decode(), PARTITIONS)
    assert [record.key for record, event in arrived if event.association_id is None] == [None] * threads


async def test_rows_of_a_key_keep_their_order(kafka: Kafka, prefix: str) -> None:
    limits = Limits(batch_rows=7, linger=0)
    with Client.over_kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=prefix, limits=limits) as client:
        for number in range(200):
            assert client.log_actual("d", f"row-{number % 3}", number)
        assert await asyncio.to_thread(client.flush, PATIENCE_S)
    told: dict[bytes, list[Any]] = {}
    for record, event in await actuals(kafka, prefix):
        told.setdefault(record.key, []).append(event.actual)
    assert told == {b"row-%d" % row: list(range(row, 200, 3)) for row in range(3)}


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
async def test_compressed(kafka: Kafka, prefix: str, compression: Any) -> None:
    servers = kafka.bootstrap_servers
    async with AsyncClient.over_kafka(
        bootstrap_servers=servers, topic_prefix=prefix, compression=compression
    ) as client:
        for number in range(100):
            await client.log_prediction("d", number, association_id=f"a{number}")
    assert len(await predictions(kafka, prefix)) == 100


@asynccontextmanager
async def broker(software: KafkaSoftware, directory: Path, prefix: str) -> AsyncIterator[Kafka]:
    """One of the test's own, stopped."""
    async with open_kafka(directory / "kafka", software=software) as kafka:
        await made(kafka, prefix)
        await kafka.stop()
        yield kafka


async def test_the_broker_is_away_at_first_and_again(
    kafka_software: KafkaSoftware, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing raises, the buffer holds its bounds, and all that was taken arrives, once."""
    async with broker(kafka_software, tmp_path, "p") as kafka:
        limits = Limits(buffer_rows=500, linger=0.01)
        client = Client.over_kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix="p", limits=limits)
        taken = [number for number in range(700) if client.log_prediction("d", number, association_id=f"a{number}")]
        assert taken == list(range(500)), "there was no room for the others"
        assert client.counts == Counts(taken=500, buffered=500, dropped_full=200)
        assert not await asyncio.to_thread(client.flush, 1.0)
        await kafka.start()
        assert await asyncio.to_thread(client.flush, PATIENCE_S)
        for end in (kafka.kill, kafka.stop):
            await under_way(client, taken, end)
            assert client.log_prediction("d", -1.0, association_id=f"away-{len(taken)}")
            await kafka.start()
            assert await asyncio.to_thread(client.flush, PATIENCE_S)
        counts = client.counts
        assert (counts.sent, counts.failed, counts.buffered) == (counts.taken, 0, 0)
        await asyncio.to_thread(client.close)
        arrived = Counter(event.association_id for _, event in await predictions(kafka, "p"))
        assert set(arrived.values()) == {1} and len(arrived) == counts.taken
    ours = [record for record in caplog.records if record.name == "service.client"]
    assert {"dropped", "waiting"} <= {record.args[0] for record in ours if isinstance(record.args, tuple)}


async def under_way(client: Client, taken: list[int], end: Callable[[], Awaitable[None]]) -> None:
    """Rows come all the time while the broker ends."""
    ending = asyncio.ensure_future(end())
    while not ending.done():
        if client.log_prediction("d", len(taken), association_id=f"a{len(taken) + 10_000}"):
            taken.append(len(taken))
        await asyncio.sleep(0.002)
    await ending


async def test_waiting_for_room_loses_nothing(kafka: Kafka, prefix: str) -> None:
    limits = Limits(buffer_rows=20, linger=0.005, wait_when_full=PATIENCE_S)
    options = {"bootstrap_servers": kafka.bootstrap_servers, "topic_prefix": prefix, "limits": limits}
    client = Client.over_kafka(**options)  # type: ignore[arg-type]
    assert all([await asyncio.to_thread(client.log_actual, "d", f"s{number}", number) for number in range(300)])
    await asyncio.to_thread(client.close)
    async with AsyncClient.over_kafka(**options) as other:  # type: ignore[arg-type]
        assert all(await asyncio.gather(*(other.log_actual("d", f"a{number}", number) for number in range(300))))
    assert client.counts == other.counts == Counts(taken=300, sent=300)
    assert len(await actuals(kafka, prefix)) == 600


async def test_a_client_that_is_closed_while_the_broker_is_away_says_what_it_gave_up(unused_tcp_port: int) -> None:
    client = Client.over_kafka(bootstrap_servers=f"127.0.0.1:{unused_tcp_port}")
    for number in range(3):
        assert client.log_prediction("d", number)
    await asyncio.to_thread(client.close, 0.3)
    assert not client.log_prediction("d", 1)
    assert client.counts == Counts(taken=3, failed=3, refused_closed=1)


async def test_a_topic_that_is_made_later(kafka: Kafka, topic_prefix: str) -> None:
    prefix = topic_prefix.rstrip(".")
    async with AsyncClient.over_kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=prefix) as client:
        assert await client.log_prediction("d", 1, association_id="a")
        assert not await client.flush(1.5)
        await made(kafka, prefix)
        assert await client.flush(PATIENCE_S)
    assert len(await predictions(kafka, prefix)) == 1


async def test_a_topic_with_small_messages(kafka: Kafka, admin: AIOKafkaAdminClient, topic_prefix: str) -> None:
    """Parcels are divided until they pass; a row that is too large by itself is given up, alone."""
    prefix = topic_prefix.rstrip(".")
    topic = NewTopic(f"{prefix}.predictions.v1", 1, 1, topic_configs={"max.message.bytes": "2000"})
    await admin.create_topics([topic])
    async with AsyncClient.over_kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=prefix) as client:
        for number in range(100):
            features = {"text": "x" * (5_000 if number == 50 else 50)}
            assert await client.log_prediction("d", number, association_id=f"a{number}", features=features)
        assert not await client.flush(PATIENCE_S), "one has failed"
        assert client.counts == Counts(taken=100, sent=99, failed=1)
    arrived = {event.association_id for _, event in await predictions(kafka, prefix)}
    assert arrived == {f"a{number}" for number in range(100) if number != 50}


AT_EXIT = """
import sys
from service.client import Client
client = Client.over_kafka(bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2])
for number in range(1000):
    assert client.log_prediction("d", number, association_id=f"a{number}")
"""

FORKED = """
import os, sys, threading
from service.client import Client, Counts
client = Client.over_kafka(bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2])
assert client.log_prediction("d", 1, association_id="parent")
child = os.fork()
if child == 0:
    assert not client.log_prediction("d", 1, association_id="lost")
    assert client.counts == Counts(refused_closed=1), client.counts
    client.close()
    own = Client.over_kafka(bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2])
    assert own.log_prediction("d", 1, association_id="child")
    own.close(30)
    assert own.counts == Counts(taken=1, sent=1), own.counts
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert client.log_prediction("d", 1, association_id="parent again")
client.close(30)
assert client.counts == Counts(taken=2, sent=2), client.counts
"""


async def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


async def test_a_script_that_ends_without_closing(kafka: Kafka, prefix: str) -> None:
    """By a name that has to be looked up, which the interpreter's end makes hard."""
    assert await run(AT_EXIT, kafka.bootstrap_servers.replace("127.0.0.1", "localhost"), prefix) == ""
    assert len(await predictions(kafka, prefix)) == 1_000


async def test_a_fork(kafka: Kafka, prefix: str) -> None:
    await run(FORKED, kafka.bootstrap_servers, prefix)
    arrived = {event.association_id for _, event in await predictions(kafka, prefix)}
    assert arrived == {"parent", "child", "parent again"}
