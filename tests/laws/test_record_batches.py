"""Encoded records come out as they went in: by our reader, by the client library's, and from the slot."""

from collections.abc import Sequence
from typing import Any

import cramjam
import msgspec
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.adapters.kafka.ready_batch import ReadyBatch
from service.domain.records import Batch, Codec, OutRecord, RecordColumns, Topic
from service.wire import record_batch
from service.wire.record_batch import encode_columns, encode_records, records_of
from service.wire.slot import pack_slot, unpack_slot
from service.wire.varint import VarintReader, varint

BYTES = st.binary(max_size=9) | st.binary(min_size=60, max_size=70)
TIMES = st.integers(0, 5) | st.integers(-1, 1 << 62)
CODECS = st.sampled_from(Codec)
RECORDS = st.lists(
    st.builds(
        OutRecord,
        st.sampled_from([Topic.STATUS, Topic.DLQ, Topic.REKEY]),
        st.integers(0, 3),
        st.none() | BYTES,
        st.none() | BYTES,
        st.lists(st.tuples(st.text(max_size=5), BYTES), max_size=3),
        TIMES,
    ),
    max_size=12,
)


@st.composite
def columns(draw: st.DrawFn) -> RecordColumns:
    count = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count) | values.map(lambda value: [value] * count))

    optional = st.none() | BYTES
    headers = [(name, column(draw(st.sampled_from([BYTES, optional])))) for name in draw(st.lists(st.text(max_size=5)))]
    timestamp = draw(TIMES | st.lists(TIMES, min_size=count, max_size=count))
    return RecordColumns(Topic.STATUS, 3, column(optional), column(optional), headers, timestamp)


def as_records(of: RecordColumns) -> list[OutRecord]:
    times = [of.timestamp] * len(of.keys) if isinstance(of.timestamp, int) else of.timestamp
    found = []
    for i, (key, value, timestamp) in enumerate(zip(of.keys, of.values, times, strict=True)):
        headers = [(name, content) for name, column in of.headers if (content := column[i]) is not None]
        found.append(OutRecord(of.topic, of.partition, key, value, headers, timestamp))
    return found


def together(records: Sequence[OutRecord]) -> list[OutRecord]:
    """By topic and partition, each where its first record was; the order within stays."""
    places = list(dict.fromkeys(record[:2] for record in records))
    return sorted(records, key=lambda record: places.index(record[:2]))


def read(batches: Sequence[Batch]) -> list[OutRecord]:
    return [record for batch in batches for record in records_of(batch)]


def read_by_the_library(batch: Batch, transactional: bool = True) -> list[OutRecord]:
    ready = ReadyBatch(batch, transactional=transactional)
    ready._set_producer_state(7, 2, 40)
    log = MemoryRecords(ready._build())
    found = log.next_batch()
    assert not log.has_next()
    assert found.validate_crc()
    assert (found.base_offset, found.next_offset) == (0, batch.record_count)
    assert (found.producer_id, found.producer_epoch, found.base_sequence) == (7, 2, 40)
    assert (found.is_transactional, found.is_control_batch) == (transactional, False)
    assert (found.first_timestamp, found.max_timestamp) == (batch.first_ms, batch.latest_ms)
    records = list(found)
    assert [record.offset for record in records] == list(range(batch.record_count))
    assert batch.latest_ms == max(record.timestamp for record in records)
    return [
        OutRecord(batch.topic, batch.partition, record.key, record.value, record.headers, record.timestamp)
        for record in records
    ]


@given(RECORDS, CODECS)
def test_records_come_out_as_they_went_in(records: list[OutRecord], codec: Codec) -> None:
    batches = encode_records(records, codec)
    assert read(batches) == together(records)
    assert [one for batch in batches for one in read_by_the_library(batch)] == together(records)
    assert unpack_slot(pack_slot(batches)) == batches


@given(columns(), CODECS)
def test_columns_give_the_bytes_of_their_records(of: RecordColumns, codec: Codec) -> None:
    batches = encode_columns(of, codec)
    assert batches == encode_records(as_records(of), codec)
    assert [one for batch in batches for one in read_by_the_library(batch, False)] == as_records(of)


@settings(max_examples=20)
@given(
    st.integers(1, 9_000), st.randoms(use_true_random=False), st.integers(1, 1500), st.integers(20, 3000), st.booleans()
)
@example(5_000, None, 400, 700, True)
def test_batches_stay_within_their_limits(count: int, random: Any, most: int, room: int, same_time: bool) -> None:
    """With limits of some kilobytes; values that do not compress, and some that do."""
    values = [random.randbytes(random.randrange(most)) if random and i % 3 else b"." * (i % most) for i in range(count)]
    stamps = 5 if same_time else [i % 7 for i in range(count)]
    of = RecordColumns(Topic.STATUS, 3, [b"%d" % i for i in range(count)], values, [("h", values[::-1])], stamps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batch, "_MOST_ON_WIRE", room * 10)
        patch.setattr(record_batch, "_MOST_TO_UNPACK", room * 40)
        for codec in Codec:
            batches = encode_columns(of, codec)
            assert read(batches) == as_records(of)
            assert encode_records(as_records(of), codec) == batches
            for batch in batches:
                assert batch.record_count == 1 or len(batch.payload) <= room * 10
                assert batch.record_count == 1 or len(record_batch.unpacked(batch)) <= room * 40


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_integers(value: int) -> None:
    encoded = varint(value)
    assert VarintReader(encoded).varint() == value
    assert len(encoded) <= 10


def test_a_large_record_is_alone() -> None:
    large = [OutRecord(Topic.DLQ, 0, b"k", b"." * 3_000_000, [], 0) for _ in range(2)]
    assert [batch.record_count for batch in encode_records(large)] == [1, 1]
    assert read(encode_records(large)) == large


def test_a_header_without_content() -> None:
    record = OutRecord(Topic.DLQ, 0, None, None, [("h", None)], 0)  # type: ignore[list-item]
    (batch,) = encode_records([record])
    assert read([batch]) == read_by_the_library(batch) == [record]


def test_nothing() -> None:
    assert encode_records([]) == encode_columns(RecordColumns(Topic.STATUS, 0, [], [], [], 0)) == []
    assert unpack_slot(b"") == unpack_slot(pack_slot([])) == []


def test_a_slot_from_before_there_were_batches() -> None:
    records = [OutRecord(Topic.STATUS, 0, b"k", b"v", [("h", b"1")], 7), OutRecord(Topic.DLQ, 0, None, None, [], 8)]
    block = bytes(cramjam.zstd.compress(msgspec.msgpack.encode(records), level=1))
    assert read(unpack_slot(block)) == records
