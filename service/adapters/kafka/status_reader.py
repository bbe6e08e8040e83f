"""Reads the status topic for people: partitions are assigned by hand, no group is joined and nothing is committed."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.adapters.kafka.connection import translating
from service.adapters.kafka.topics import partition_count
from service.domain.errors import NotFound
from service.domain.records import Topic, topic_name
from service.usecases.status_stream import Published

_FETCH_BYTES = 4 << 20
_CHUNK = 5_000
_WAIT_MS = 500
Progress = Callable[[int, int], None]
"""Called with the number of offsets that were read, and of all."""


class StatusReader:
    """Use `open_status_reader`. Each call has a connection of its own. Any may raise `Unavailable`."""

    def __init__(self, options: dict[str, Any], topic: str, partitions: int) -> None:
        self._options = options
        self._topic = topic
        self.partitions = partitions

    async def follow(
        self, partitions: Collection[int], since_ms: int | None
    ) -> AsyncGenerator[Sequence[Published], None]:
        """Chunks of what is there since an instant (0: everything, None: from now on) and of what comes, for ever."""
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        async with reading(self._options, places) as consumer:
            for place, offset in (await _offsets(consumer, places, since_ms)).items():
                consumer.seek(place, offset)
            while True:
                found = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=_CHUNK)
                for records in found.values():
                    yield [published_of(record) for record in records]

    async def history(self, partition: int, key: bytes, keep: Callable[[Published], None], progress: Progress) -> None:
        """Hand on every record of this key that the partition holds now, in its order; holds a chunk at a time."""
        place = TopicPartition(self._topic, partition)
        async with reading(self._options, [place]) as consumer:
            begin = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
            consumer.seek(place, begin)
            position = begin
            while position < end:
                found = await consumer.getmany(place, timeout_ms=_WAIT_MS, max_records=_CHUNK)
                for record in found.get(place, ()):
                    if record.key == key and record.offset < end:
                        keep(published_of(record))
                position = await consumer.position(place)
                progress(min(position, end) - begin, end - begin)


@asynccontextmanager
async def reading(
    options: Mapping[str, Any], places: Sequence[TopicPartition], isolation: str = "read_committed"
) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of these partitions. Faults inside are translated, too."""
    consumer = AIOKafkaConsumer(
        **options,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation,
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=100,
    )
    consumer.assign(places)
    with translating():
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()


async def _offsets(
    consumer: AIOKafkaConsumer, places: Sequence[TopicPartition], since_ms: int | None
) -> dict[TopicPartition, int]:
    if since_ms == 0:
        return dict(await consumer.beginning_offsets(places))
    ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
    if since_ms is None:
        return ends
    found = await consumer.offsets_for_times(dict.fromkeys(places, since_ms))
    return {place: ends[place] if at is None else at.offset for place, at in found.items()}


def published_of(record: Any) -> Published:
    return Published(
        record.partition, record.offset, record.timestamp, record.key or b"", record.value, tuple(record.headers)
    )


async def open_status_reader(options: dict[str, Any], prefix: str) -> StatusReader:
    """Raises `Unavailable`, or `NotFound` where there is no status topic."""
    topic = topic_name(prefix, Topic.STATUS)
    partitions = await partition_count(options, prefix, Topic.STATUS)
    if partitions is None:
        raise NotFound(f"there is no topic {topic}: `hindsight topics create` makes it")
    return StatusReader(options, topic, partitions)
