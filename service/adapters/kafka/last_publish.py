"""Which version of the ledger was published last, asked of the two places that a publish writes at once.

A publish commits the group's offsets, with the version beside them, and the statuses, with the version in a header, in
one transaction. A coordinator that has just come up may tell offsets of long ago; the status partition does not. But a
version need not have a status. So the later of both holds.
"""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from service.adapters.kafka.status_reader import reading
from service.domain.records import INPUT_TOPICS, Topic, topic_name
from service.ports import Unavailable
from service.wire.status import HEADER_VERSION

_MARK = "version="
_LOOK_BACK = 100
"""Offsets from the end of the partition; ten times as many whenever there was no status among them."""


def position_of(offset: int, version: int) -> OffsetAndMetadata:
    """What a publish commits for an input topic."""
    return OffsetAndMetadata(offset, f"{_MARK}{version}")


async def published_version(
    options: Mapping[str, Any], admin: AIOKafkaAdminClient, group_id: str, prefix: str, task: int
) -> int | None:
    """As `RecordSink.published_version`, where there are transactions. May raise `Unavailable`."""
    committed = await _committed_version(admin, group_id, prefix, task)
    if committed is None:
        return None
    return max(committed, await _last_status_version(options, TopicPartition(topic_name(prefix, Topic.STATUS), task)))


async def _committed_version(admin: AIOKafkaAdminClient, group_id: str, prefix: str, task: int) -> int | None:
    partitions = [TopicPartition(topic_name(prefix, role), task) for role in INPUT_TOPICS]
    offsets = await admin.list_consumer_group_offsets(group_id, partitions=partitions)
    if len(offsets) < len(partitions):
        # the library swallows the fault of a whole group: nothing is known then, which is not that nothing is out
        raise Unavailable(f"Kafka: the coordinator of group {group_id} does not tell its offsets yet")
    versions = [
        int(committed.metadata.removeprefix(_MARK))
        for committed in offsets.values()
        if committed.metadata.startswith(_MARK)
    ]
    return max(versions, default=None)


async def _last_status_version(options: Mapping[str, Any], place: TopicPartition) -> int:
    """0 where the partition holds no status."""
    async with reading(options, [place]) as consumer:
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        start, back = end, _LOOK_BACK
        while start > begin:
            start, back = max(begin, end - back), back * 10
            versions = []
            consumer.seek(place, start)
            while await consumer.position(place) < end:
                found = await consumer.getmany(place, timeout_ms=1000)
                versions += [int(value) for record in found.get(place, ()) for value in _versions(record)]
            if versions:
                return max(versions)
    return 0


def _versions(record: Any) -> list[bytes]:
    return [value for name, value in record.headers if name == HEADER_VERSION]
