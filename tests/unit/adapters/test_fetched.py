"""A damaged batch: what is before it is taken, then it is refused, and nothing is skipped."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from service.adapters.kafka.checksums import sound_batches
from service.adapters.kafka.fetched import _records_of

PLACE = TopicPartition("predictions", 0)
SIZE = 5


def batch(base: int) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000)
    for number in range(SIZE):
        builder.append(number, 0, b"key", b"value", [])
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


def fetched(log: bytes, position: int) -> tuple[FetchResult, Any]:
    state = SimpleNamespace(paused=False, position=position)
    state.consumed_to = lambda reached: setattr(state, "position", reached)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    records = PartitionRecords(PLACE, MemoryRecords(log), [], position, None, None, True, READ_COMMITTED)
    return FetchResult(PLACE, assignment=assignment, partition_records=records, backoff=0), state


def test_a_batch_with_a_wrong_checksum_is_not_passed() -> None:
    sound, damaged = batch(0), bytearray(batch(SIZE))
    damaged[-1] ^= 1
    log = sound + bytes(damaged) + batch(2 * SIZE)
    result, state = fetched(log, 2)
    assert [record.offset for record in _records_of(result, PLACE, 1000, {})] == [2, 3, 4]
    assert state.position == SIZE
    assert not result.has_more()
    result, state = fetched(log[len(sound) :], SIZE)
    with pytest.raises(CorruptRecordException):
        _records_of(result, PLACE, 1000, {})
    assert state.position == SIZE
    assert not result.has_more()


def test_a_call_ends_with_the_batch_that_reaches_what_was_asked_for() -> None:
    result, state = fetched(b"".join(batch(SIZE * number) for number in range(4)), 0)
    assert len(_records_of(result, PLACE, SIZE + 1, {})) == 2 * SIZE
    assert state.position == 2 * SIZE
    assert len(_records_of(result, PLACE, 1000, {})) == 2 * SIZE
    assert not result.has_more()


def test_nothing_of_a_position_that_was_left() -> None:
    result, state = fetched(batch(0), 0)
    state.position = 1
    assert _records_of(result, PLACE, 1000, {}) == []
    assert not result.has_more()


def test_what_is_sound_is_found_as_it_comes() -> None:
    log, damaged = b"".join(batch(SIZE * number) for number in range(3)), bytearray(batch(3 * SIZE))
    damaged[-1] ^= 1
    sound = sound_batches(log + damaged + batch(4 * SIZE) + batch(5 * SIZE)[:-1])
    assert list(sound) == [0, SIZE, 2 * SIZE, 4 * SIZE]
    assert sound_batches(log[:20]) == sound_batches(b"") == sound_batches(bytes(100)) == {}


def test_what_was_not_found_sound_is_looked_at_again() -> None:
    damaged = bytearray(batch(0))
    damaged[-1] ^= 1
    log = bytes(damaged)
    for sound in ({}, sound_batches(log), sound_batches(batch(SIZE))):
        result, _ = fetched(log, 0)
        with pytest.raises(CorruptRecordException):
            _records_of(result, PLACE, 1000, sound)


def test_records_of_an_old_message_format() -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 10_000)
    for number in range(SIZE):
        builder.append(number, 1000 + number, b"key", b"value")
    log = bytes(builder.build())
    assert sound_batches(log) == {}
    result, _ = fetched(log, 1)
    records = _records_of(result, PLACE, 1000, {})
    assert [(record.offset, record.timestamp, list(record.headers)) for record in records] == [
        (number, 1000 + number, []) for number in range(1, SIZE)
    ]
