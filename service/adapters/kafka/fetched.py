"""What a consumer has fetched, taken by whole record batches.

The library's `getmany` steps through a generator for each record and wraps each in an object of eleven fields; of what
it costs, reading the bytes is a fifth. Here the records come as the library's reader makes them, a batch at a time,
under the same rules: checksums, aborted transactions, transaction markers, records before the position. It leans on the
inside of aiokafka 0.14, for this consumer only; `tests/integration/test_fetched.py` compares it with `getmany`.
"""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from service.adapters.kafka.checksums import Sound, found_sound
from service.ports import Record


async def fetched_records(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], most: int, wait_s: float
) -> dict[TopicPartition, list[Record]]:
    """Records of these partitions that were fetched; where there are none, the first that come within `wait_s` seconds.

    Ends with the record batch that reaches `most`. Raises what `getmany` would raise.
    """
    if consumer._closed:
        raise ConsumerStoppedError
    consumer._coordinator.check_errors()
    fetcher, clock = consumer._fetcher, asyncio.get_running_loop().time
    until = clock() + wait_s
    with consumer._subscription.fetch_context():
        while True:
            if fetcher._subscriptions.reassignment_in_progress:
                await fetcher._subscriptions.wait_for_assignment()
            found = _taken(fetcher, partitions, most)
            if found or (left := until - clock()) <= 0:
                return found
            waiter = fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=left)
            if not done or fetcher._closed:
                waiter.cancel()
                return {}
            waiter.result()


def _taken(fetcher: Fetcher, partitions: Collection[TopicPartition], most: int) -> dict[TopicPartition, list[Record]]:
    found: dict[TopicPartition, list[Record]] = {}
    for partition in [one for one in fetcher._records if one in partitions]:
        result = fetcher._records[partition]
        if type(result) is not FetchResult:
            if not found:  # else it is raised at the next call
                _forget(fetcher, partition)
                result.check_raise()
            return found
        records = _records_of(result, partition, most, found_sound(fetcher, partition))
        if not result.has_more():
            _forget(fetcher, partition)
        if records:
            found[partition] = records
            most -= len(records)
            if most <= 0:
                break
    return found


def _forget(fetcher: Fetcher, partition: TopicPartition) -> None:
    """So that more is fetched."""
    del fetcher._records[partition]
    fetcher._notify(fetcher._wait_consume_future)


def _records_of(result: FetchResult, partition: TopicPartition, most: int, sound: Sound) -> list[Record]:
    """The next records; none of a result that a rebalance or a seek has overtaken. Moves the consumer's position."""
    if not result.has_more() or not result.check_assignment(partition):
        return []
    source, records = result._partition_records, list[Record]()
    try:
        while len(records) < most:
            if not source._records.has_next():
                result._partition_records = None
                break
            records += _next_batch(source, partition, sound)
    except Exception:
        result._partition_records = None  # what was not taken is fetched again
        if not records:
            raise
    result._assignment.state_value(partition).consumed_to(source.next_fetch_offset)
    return records


def _next_batch(source: PartitionRecords, partition: TopicPartition, sound: Sound) -> list[Any]:
    """Records of the next batch from the position on; none of an aborted transaction, and no transaction markers."""
    batch = source._records.next_batch()
    has_producer = batch.producer_id is not None  # not so before message format 2
    is_sound = has_producer and sound.get(batch.base_offset) == batch.crc
    if source._check_crcs and not is_sound and not batch.validate_crc():
        raise CorruptRecordException(f"Invalid CRC - {partition}")
    aborted = False
    if source._isolation_level == READ_COMMITTED and has_producer:
        source._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and source._contains_abort_marker(batch):
            source._aborted_producers.discard(batch.producer_id)
        aborted = batch.is_transactional and batch.producer_id in source._aborted_producers
    records = [] if aborted or batch.is_control_batch else list(batch)
    if records and records[0].offset < source.next_fetch_offset:
        records = [record for record in records if record.offset >= source.next_fetch_offset]
    source.next_fetch_offset = batch.next_offset  # also where the last records were compacted away
    return records
