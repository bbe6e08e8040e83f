"""What lies in Kafka, for `hindsight verify`: the statuses of a task, and the input records that they name."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.adapters.kafka.connection import open_admin, translating
from service.adapters.kafka.last_publish import published_version
from service.adapters.kafka.status_reader import published_of, reading
from service.domain.records import Topic, topic_name
from service.usecases.row_life import Arrived, Place
from service.usecases.status_stream import Published

_CHUNK = 5_000
_WAIT_MS = 500
_PATIENCE_S = 20.0
"""What was published becomes readable a moment later, unless a killed producer has left a transaction open."""


class KafkaStatuses:
    """`service.usecases.verification.Statuses` on aiokafka. Each call has a connection of its own."""

    def __init__(self, options: dict[str, Any], *, prefix: str, group_id: str, transactions: bool) -> None:
        self._options = options
        self._prefix = prefix
        self._group_id = group_id
        self._transactions = transactions

    async def published_version(self, task: int) -> int | None:
        if not self._transactions:
            return None
        async with open_admin(self._options) as admin:
            return await published_version(self._options, admin, self._group_id, self._prefix, task)

    async def end(self, task: int) -> int:
        place = self._place(task)
        async with reading(self._options, [place], isolation="read_uncommitted") as consumer:
            return int((await consumer.end_offsets([place]))[place])

    async def read(
        self, task: int, since_ms: int, end: int
    ) -> AsyncGenerator[tuple[Sequence[Published], int, int], None]:
        place = self._place(task)
        async with reading(self._options, [place]) as consumer:
            begin = (await consumer.beginning_offsets([place]))[place]
            if since_ms:
                found = (await consumer.offsets_for_times({place: since_ms}))[place]
                begin = max(begin, end if found is None else found.offset)
            consumer.seek(place, begin)
            position, moved_at = begin, asyncio.get_running_loop().time()
            while position < end and asyncio.get_running_loop().time() - moved_at < _PATIENCE_S:
                records = (await consumer.getmany(place, timeout_ms=_WAIT_MS, max_records=_CHUNK)).get(place, ())
                reached = await consumer.position(place)
                if reached > position:
                    position, moved_at = reached, asyncio.get_running_loop().time()
                    taken = [published_of(record) for record in records if record.offset < end]
                    yield taken, min(position, end) - begin, end - begin
            if begin < end:
                yield [], min(position, end) - begin, end - begin

    def _place(self, task: int) -> TopicPartition:
        return TopicPartition(topic_name(self._prefix, Topic.STATUS), task)


class KafkaInputs:
    """`service.usecases.verification.Inputs` on aiokafka. What is asked for rises from call to call, mostly, so that
    each partition is read once, from front to end. Use `open_inputs`."""

    def __init__(self, consumer: AIOKafkaConsumer, places: Collection[TopicPartition]) -> None:
        self._consumer = consumer
        self._places = frozenset(places)
        self._begins: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        consumer.pause(*places)

    async def find(self, places: Collection[Place]) -> dict[Place, Arrived]:
        found: dict[Place, Arrived] = {}
        by_partition: dict[TopicPartition, set[int]] = {}
        for place in places:
            by_partition.setdefault(TopicPartition(place.topic, place.partition), set()).add(place.offset)
        for partition, offsets in by_partition.items():
            if partition in self._places:
                with translating():
                    await self._find(partition, offsets, found)
        return found

    async def _find(self, partition: TopicPartition, offsets: set[int], found: dict[Place, Arrived]) -> None:
        begin, end = await self._bounds(partition, max(offsets))
        wanted = {offset for offset in offsets if begin <= offset < end}
        if not wanted:
            return
        first, last = min(wanted), max(wanted)
        if not first - _CHUNK <= await self._consumer.position(partition) <= first:
            self._consumer.seek(partition, first)
        self._consumer.resume(partition)
        try:
            await self._scan(partition, wanted, last, found)
        finally:
            self._consumer.pause(partition)

    async def _scan(self, partition: TopicPartition, wanted: set[int], last: int, found: dict[Place, Arrived]) -> None:
        clock = asyncio.get_running_loop().time
        moved_at = clock()
        while (position := await self._consumer.position(partition)) <= last and clock() - moved_at < _PATIENCE_S:
            room = min(_CHUNK, last - position + 1)
            records = await self._consumer.getmany(partition, timeout_ms=_WAIT_MS, max_records=room)
            for record in records.get(partition, ()):
                moved_at = clock()
                if record.offset in wanted:
                    place = Place(partition.topic, partition.partition, record.offset)
                    found[place] = Arrived(record.timestamp, record.value, tuple(record.headers))

    async def _bounds(self, partition: TopicPartition, last: int) -> tuple[int, int]:
        if partition not in self._begins or last >= self._ends[partition]:
            self._begins[partition] = (await self._consumer.beginning_offsets([partition]))[partition]
            self._ends[partition] = (await self._consumer.end_offsets([partition]))[partition]
        return self._begins[partition], self._ends[partition]


@asynccontextmanager
async def open_inputs(options: dict[str, Any], prefix: str, partitions: int) -> AsyncIterator[KafkaInputs]:
    """The predictions. May raise `Unavailable`."""
    places = [TopicPartition(topic_name(prefix, Topic.PREDICTIONS), number) for number in range(partitions)]
    async with reading(options, places) as consumer:
        yield KafkaInputs(consumer, places)
