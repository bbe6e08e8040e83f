"""What a consumer has fetched, taken by whole record batches.

The library's `getmany` steps through a generator for each record and wraps each in an object of eleven fields; of what
it costs, reading the bytes is a fifth. Here the records come as the library's reader makes them, a batch at a time,
under the same rules: checksums, aborted transactions, transaction markers, records before the position. It leans on the
inside of aiokafka 0.14, for this consumer only; `tests/integration/test_fetched.py` compares it with `getmany`.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from service.adapters.kafka.checksums import Sound, found_sound
from service.ports import Record


def fetched_records(consumer: AIOKafkaConsumer, partition: TopicPartition, most: int) -> list[Record]:
    """Records of this partition that were fetched, to the end of the record batch that reaches `most`.

    None while a rebalance is under way. Raises what `getmany` would raise.
    """
    fetcher = consumer._fetcher
    result = fetcher._records.get(partition)
    if result is None or fetcher._subscriptions.reassignment_in_progress:
        return []
    if type(result) is not FetchResult:
        _forget(fetcher, partition)
        result.check_raise()
        return []
    records = _records_of(result, partition, most, found_sound(fetcher, partition))
    if not result.has_more():
        _forget(fetcher, partition)
    return records


def fetched_partitions(consumer: AIOKafkaConsumer) -> list[TopicPartition]:
    """Those of which something was fetched and not taken yet."""
    return list(consumer._fetcher._records)


def fetching(consumer: AIOKafkaConsumer) -> AbstractContextManager[None]:
    """Within it the library knows that somebody takes what it fetches; one that has not for long is made to leave."""
    context: AbstractContextManager[None] = consumer._subscription.fetch_context()
    return context


def check_group(consumer: AIOKafkaConsumer) -> None:
    """Raise what the group has against this member, and `ConsumerStoppedError` at the end."""
    if consumer._closed:
        raise ConsumerStoppedError
    consumer._coordinator.check_errors()


def call_when_fetched(consumer: AIOKafkaConsumer, call: Callable[[], object]) -> None:
    """Once, at the next answer of a broker that brings records, or when the group has something against this member."""

    def called(waiter: asyncio.Future[None]) -> None:
        if not waiter.cancelled():
            waiter.exception()  # `check_group` raises it
        call()

    consumer._fetcher._create_fetch_waiter().add_done_callback(called)


def next_position(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """Offset after the last record, or marker, that was taken of this partition; 0 where that is not known."""
    subscription = consumer._subscription
    if not subscription.is_assigned(partition):
        return 0
    state = subscription.subscription.assignment.state_value(partition)
    return int(state.position) if state.has_valid_position else 0


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
