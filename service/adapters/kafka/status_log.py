"""`StatusLog` on aiokafka: reads a status partition from an offset to its end, in the thread of its caller."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.adapters.kafka.connection import translating
from service.domain.records import Topic, topic_name
from service.ports import ApplyChunk
from service.wire.status import HEADER_STATE

_CHUNK = 10_000
_FETCH_BYTES = 8 << 20
_WAIT_MS = 10
"""At the end of the log; the broker is asked once more before the consumer closes."""


class KafkaStatusLog:
    """Makes a connection for every call: restores are rare, and each runs in a thread of its own."""

    def __init__(self, options: Mapping[str, Any], prefix: str) -> None:
        self._options = options
        self._topic = topic_name(prefix, Topic.STATUS)

    def begin(self, task: int) -> int:
        return asyncio.run(self._begin(task))

    def replay(self, task: int, start: int, at_least: int, apply: ApplyChunk) -> int:
        return asyncio.run(self._replay(task, start, at_least, apply))

    async def _begin(self, task: int) -> int:
        partition = TopicPartition(self._topic, task)
        with translating():
            async with self._consumer() as consumer:
                consumer.assign([partition])
                begins = await consumer.beginning_offsets([partition])
        return int(begins[partition])

    async def _replay(self, task: int, start: int, at_least: int, apply: ApplyChunk) -> int:
        partition = TopicPartition(self._topic, task)
        with translating():
            async with self._consumer() as consumer:
                consumer.assign([partition])
                begin = (await consumer.beginning_offsets([partition]))[partition]
                end = max(at_least, (await consumer.end_offsets([partition]))[partition])
                position = max(start, begin)
                consumer.seek(partition, position)
                while position < end:
                    found = await consumer.getmany(partition, timeout_ms=1000, max_records=_CHUNK)
                    position = await consumer.position(partition)
                    apply([(record.key, _state(record)) for record in found.get(partition, ())], position, end)
        return max(int(end), start)

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            isolation_level="read_committed",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=_WAIT_MS,
        )


def _state(record: Any) -> bytes | None:
    """The row after this record; None for a tombstone and for a record that leaves no row."""
    if record.value is None:
        return None
    return next((value for name, value in record.headers if name == HEADER_STATE), None) or None
