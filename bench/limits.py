"""What this machine and these clients can do at most, one thing at a time: consume, decode, produce, COPY.

Each is one Python process as lean as we know how, over the records of a run that is over. No join can be faster than
its consume and produce together. Run in a process of its own by `bench.suite`, with the worker's settings in the
environment; prints JSON.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.published import reader
from bench.workloads import PARTITIONS
from service.config import Settings, settings_from_environment
from service.domain.records import Topic, topic_name
from service.wire.events import ActualEvent, PredictionEvent

_AT_ONCE: Final = 20_000
_BATCH_BYTES: Final = 900_000
_COPIED: Final = 10_000
"""Rows of one COPY, in a transaction of its own."""


class _Stretch:
    """Wall and CPU time of a stretch of work, and how many events it was about."""

    def __init__(self, events: int) -> None:
        self.events = events
        self._started, self._cpu = time.monotonic(), time.process_time()

    def figures(self) -> dict[str, float]:
        took, used = time.monotonic() - self._started, time.process_time() - self._cpu
        return {
            "events": self.events,
            "events_per_s": round(self.events / took),
            "cpu_s_per_million": round(used / self.events * 1e6, 3),
        }


async def measure(settings: Settings, most: int) -> dict[str, dict[str, float]]:
    """By name, over so many events at most, half of them predictions."""
    kafka = settings.kafka
    inputs = [topic_name(kafka.topic_prefix, role) for role in (Topic.PREDICTIONS, Topic.ACTUALS)]
    async with reader(kafka.bootstrap_servers) as consumer:
        consumed, found = await _consume(consumer, inputs, most)
        _, statuses = await _consume(consumer, [topic_name(kafka.topic_prefix, Topic.STATUS)], most)
    values = [[record.value for record in records] for records in found]
    return {
        "consume": consumed,
        "decode": _decode(*values),
        "produce": await _produce(kafka.bootstrap_servers, f"{kafka.topic_prefix}.limit", statuses[0]),
        "copy": await _copy(settings.postgres.dsn.get_secret_value(), [record.key for record in statuses[0]]),
    }


async def _consume(
    consumer: AIOKafkaConsumer, topics: Sequence[str], most: int
) -> tuple[dict[str, float], list[list[Any]]]:
    """Fetched and parsed by the client, nothing else; the records are kept by topic, as many of each."""
    partitions = [TopicPartition(name, number) for name in topics for number in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    left = sum((await consumer.end_offsets(partitions)).values())
    stretch = _Stretch(0)
    kept: dict[str, list[Any]] = {name: [] for name in topics}
    enough = most // len(topics)
    while left > 0 and any(len(records) < enough for records in kept.values()):
        found = await consumer.getmany(timeout_ms=500, max_records=_AT_ONCE)
        if not found:
            break
        for partition, records in found.items():
            kept[partition.topic] += records
            stretch.events += len(records)
            if len(kept[partition.topic]) >= enough:
                consumer.pause(partition)
        left -= sum(map(len, found.values()))
    figures = stretch.figures()
    consumer.resume(*consumer.paused())
    return figures, [records[:enough] for records in kept.values()]


def _decode(predictions: list[bytes], actuals: list[bytes]) -> dict[str, float]:
    """The typed decode of the envelope, features left as they are."""
    decoders = (msgspec.json.Decoder(PredictionEvent).decode, msgspec.json.Decoder(ActualEvent).decode)
    stretch = _Stretch(len(predictions) + len(actuals))
    for decode, values in zip(decoders, (predictions, actuals), strict=True):
        for start in range(0, len(values), _COPIED):
            list(map(decode, values[start : start + _COPIED]))
    return stretch.figures()


async def _produce(servers: str, topic: str, statuses: Sequence[Any]) -> dict[str, float]:
    """The statuses of the run once more, in transactions as large as a micro-batch."""
    async with _scratch(servers, topic):
        producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            transactional_id=topic,
            acks="all",
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=_BATCH_BYTES + (100 << 10),
        )
        await producer.start()
        try:
            stretch = _Stretch(len(statuses))
            for start in range(0, len(statuses), _COPIED):
                async with producer.transaction():
                    await _send(producer, topic, start // _COPIED % PARTITIONS, statuses[start : start + _COPIED])
            return stretch.figures()
        finally:
            await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[Any]) -> None:
    batch = producer.create_batch()
    sent = []
    for record in records:
        headers = list(record.headers)
        fields = {"key": record.key, "value": record.value, "timestamp": record.timestamp, "headers": headers}
        if batch.append(**fields) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(**fields)
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)


@asynccontextmanager
async def _scratch(servers: str, topic: str) -> AsyncIterator[None]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        yield
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def _copy(dsn: str, keys: Sequence[bytes]) -> dict[str, float]:
    """A row of three columns for each event: what a system would do that keeps events, not sums, in Postgres."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [(key.decode(), at, 1.5) for key in keys]
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("CREATE TABLE bench_limit (key text, at timestamptz, value double precision)")
        stretch = _Stretch(len(rows))
        for start in range(0, len(rows), _COPIED):
            await connection.copy_records_to_table("bench_limit", records=rows[start : start + _COPIED])
        figures = stretch.figures()
        await connection.execute("DROP TABLE bench_limit")
    finally:
        await connection.close()
    return figures


def main() -> None:
    figures = asyncio.run(measure(settings_from_environment(), int(sys.argv[1])))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
