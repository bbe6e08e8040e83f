"""Single records of the input topics, by place; for people, so slow is good enough."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.adapters.kafka.status_reader import reading
from service.usecases.row_life import Arrived, Place

_WAIT_MS = 1_000
_WITHIN_S = 15.0


async def read_sources(options: dict[str, Any], places: Collection[Place]) -> dict[Place, Arrived]:
    """The records at these places; those that retention has removed are left out, and those too slow to come.

    Raises `Unavailable`.
    """
    found: dict[Place, Arrived] = {}
    by_partition: dict[TopicPartition, list[Place]] = {}
    for place in sorted(places):
        by_partition.setdefault(TopicPartition(place.topic, place.partition), []).append(place)
    if not by_partition:
        return found
    try:
        async with asyncio.timeout(_WITHIN_S), reading(options, list(by_partition)) as consumer:
            begins = await consumer.beginning_offsets(list(by_partition))
            ends = await consumer.end_offsets(list(by_partition))
            consumer.pause(*by_partition)
            for partition, wanted in by_partition.items():
                consumer.resume(partition)
                for place in wanted:
                    if begins[partition] <= place.offset < ends[partition]:
                        await _read_one(consumer, partition, place, found)
                consumer.pause(partition)
    except TimeoutError:
        return found
    return found


async def _read_one(
    consumer: AIOKafkaConsumer, partition: TopicPartition, place: Place, found: dict[Place, Arrived]
) -> None:
    consumer.seek(partition, place.offset)
    while await consumer.position(partition) <= place.offset:
        for record in (await consumer.getmany(partition, timeout_ms=_WAIT_MS, max_records=1)).get(partition, ()):
            if record.offset == place.offset:
                found[place] = Arrived(record.timestamp, record.value, tuple(record.headers))
