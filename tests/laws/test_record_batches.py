"""Encoded records come out as they went in: by our reader, by the client library's, and from the slot."""

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.adapters.kafka.ready_batch import ReadyBatch
from service.domain.records import Batch, Codec, OutRecord, Pieces, RecordColumns, Topic
from service.wire import record_batch
from service.wire.record_batch import encode, records_of
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


def plain(column: Sequence[bytes | None] | Pieces) -> Sequence[bytes | None]:
    assert not isinstance(column, Pieces)
    return column


def as_records(of: RecordColumns) -> list[OutRecord]:
    times = [of.timestamp] * len(of.keys) if isinstance(of.timestamp, int) else of.timestamp
    found = []
    for i, (key, value, timestamp) in enumerate(zip(of.keys, plain(of.values), times, strict=True)):
        headers = [(name, content) for name, column in of.headers if (content := plain(column)[i]) is not None]
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
    batches = encode([records], codec)
    assert read(batches) == together(records)
    assert [one for batch in batches for one in read_by_the_library(batch)] == together(records)
    assert unpack_slot(pack_slot(batches)) == batches


@given(columns(), CODECS)
def test_columns_give_the_bytes_of_their_records(of: RecordColumns, codec: Codec) -> None:
    batches = encode([of], codec)
    assert batches == encode([as_records(of)], codec)
    assert [one for batch in batches for one in read_by_the_library(batch, False)] == as_records(of)


@given(st.lists(columns() | RECORDS, max_size=4), CODECS)
def test_parts_are_as_good_as_the_whole(parts: list[RecordColumns | list[OutRecord]], codec: Codec) -> None:
    whole = [one for part in parts for one in (as_records(part) if isinstance(part, RecordColumns) else part)]
    batches = encode(parts, codec)
    assert read(batches) == together(whole)
    assert [one for batch in batches for one in read_by_the_library(batch)] == together(whole)


@given(columns(), CODECS)
def test_pieces_are_as_good_as_their_texts(of: RecordColumns, codec: Codec) -> None:
    values = [value or b"" for value in plain(of.values)]
    whole = of._replace(values=[b"<%b%b>" % (value, value) for value in values], headers=[("h", [b"7"] * len(values))])
    pieces = of._replace(values=Pieces([b"<", values, values, b">"]), headers=[("h", Pieces([b"7"]))])
    assert read(encode([pieces], codec)) == as_records(whole)


@settings(max_examples=20)
@given(st.integers(1, 9_000), st.integers(), st.integers(1, 1500), st.integers(20, 3000), st.booleans())
@example(5_000, None, 400, 700, True)
def test_batches_stay_within_their_limits(count: int, seed: int | None, most: int, room: int, same_time: bool) -> None:
    """With limits of some kilobytes; values that do not compress, and some that do."""
    chance = Random(seed)  # noqa: S311 - not a secret
    dense = 0 if seed is None else 2
    values = [chance.randbytes(chance.randrange(most)) if i % 3 < dense else b"." * (i % most) for i in range(count)]
    stamps = 5 if same_time else [i % 7 for i in range(count)]
    of = RecordColumns(Topic.STATUS, 3, [b"%d" % i for i in range(count)], values, [("h", values[::-1])], stamps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_batch, "_MOST_ON_WIRE", room * 10)
        patch.setattr(record_batch, "_MOST_TO_UNPACK", room * 40)
        for codec in Codec:
            batches = encode([of], codec)
            assert read(batches) == as_records(of)
            assert encode([as_records(of)], codec) == batches
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
    assert [batch.record_count for batch in encode([large])] == [1, 1]
    assert read(encode([large])) == large


def test_a_header_without_content() -> None:
    record = OutRecord(Topic.DLQ, 0, None, None, [("h", None)], 0)  # type: ignore[list-item]
    (batch,) = encode([[record]])
    assert read([batch]) == read_by_the_library(batch) == [record]


def test_nothing() -> None:
    assert encode([[]]) == encode([RecordColumns(Topic.STATUS, 0, [], [], [], 0)]) == []
    assert unpack_slot(b"") == unpack_slot(pack_slot([])) == []
