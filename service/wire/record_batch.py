"""Outgoing records as Kafka record batches (message format 2), encoded and compressed once: for the slot and the wire.

A record, its integers being varints:

    length | attributes 0 | timestamp - first timestamp | number in its batch | key | value | headers

What follows the number does not depend on the batch, so its size says where batches end. A batch is a flat list with a
few pieces for each record, filled column by column and joined: no call is made for a record.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, cast

import cramjam
import numpy as np
from numpy.typing import NDArray

from service.domain.records import Batch, Codec, OutRecord, Pieces, RecordColumns
from service.wire.varint import VarintReader, lengths, varint, varint_sizes, varints

_MOST_ON_WIRE = 900_000
"""Bytes of a batch as sent: every broker takes so many as it comes configured."""
_MOST_TO_UNPACK = 2 << 20
"""A reader unpacks a batch as a whole."""
_ROOM = 0.9
"""Of what the last batch lets expect, so that the next is not compressed twice."""
_ZSTD_LEVEL = 1
_AT_ONCE = 1_000
"""Records whose pieces stay in the processor's cache until they are joined."""
_OWN_BYTES = 25
"""At most, of a record's length, attributes, timestamp and number."""


def encode(parts: Iterable[RecordColumns | Sequence[OutRecord]], codec: Codec = Codec.ZSTD) -> list[Batch]:
    """As few batches as the limits allow; the records of one topic and partition keep their order.

    Lists of records are for few, or where their headers differ.
    """
    places: dict[tuple[str, int], list[_Tails]] = {}
    for part in parts:
        if isinstance(part, RecordColumns):
            if part.keys:
                places.setdefault(part[:2], []).append(_tails_of_columns(part))
            continue
        found: dict[tuple[str, int], list[OutRecord]] = {}
        for record in part:
            found.setdefault(record[:2], []).append(record)
        for place, records in found.items():
            places.setdefault(place, []).append(_tails_of_records(records))
    return [batch for place, tails in places.items() for batch in _batches(*place, tails, codec)]


def records_of(batch: Batch) -> list[OutRecord]:
    """What was encoded."""
    reader = VarintReader(unpacked(batch))
    return [_read(reader, batch) for _ in range(batch.record_count)]


def _read(reader: VarintReader, batch: Batch) -> OutRecord:
    reader.varint()
    reader.skip(1)
    timestamp = batch.first_ms + reader.varint()
    reader.varint()
    key, value = reader.sized(), reader.sized()
    headers = [((reader.sized() or b"").decode(), reader.sized()) for _ in range(reader.varint())]
    return OutRecord(batch.topic, batch.partition, key, value, headers, timestamp)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- compression


def packed(raw: bytes, codec: Codec) -> bytes:
    """Compressed as Kafka's brokers and clients take it."""
    if codec == Codec.ZSTD:
        return bytes(cramjam.zstd.compress(raw, level=_ZSTD_LEVEL))
    if codec == Codec.LZ4:  # brokers do not take linked blocks
        compressor = cramjam.lz4.Compressor(level=0, content_checksum=False, block_linked=False)
        compressor.compress(raw)
        return bytes(compressor.finish())
    return raw


def unpacked(batch: Batch) -> bytes:
    """The records of a batch, not compressed."""
    if batch.codec == Codec.ZSTD:
        return bytes(cramjam.zstd.decompress(batch.payload))
    if batch.codec == Codec.LZ4:
        return bytes(cramjam.lz4.decompress(batch.payload))
    return batch.payload


# ------------------------------------------------------------------------------------------- batches


_Piece = bytes | NDArray[np.int64] | Sequence[bytes]
"""One piece of each record: the same for all, a length, or one for each."""


class _Tails(NamedTuple):
    """Records without what depends on their batch."""

    pieces: Sequence[_Piece]
    sizes: NDArray[np.int64]
    """Bytes of the pieces of each record."""
    timestamp: Sequence[int] | int

    def times(self, start: int, end: int) -> tuple[int, int]:
        """Timestamp of the first, and the greatest, of some of them."""
        if isinstance(self.timestamp, int):
            return self.timestamp, self.timestamp
        return self.timestamp[start], max(self.timestamp[start:end])

    def encoded(self, start: int, end: int, number: int, first_ms: int) -> bytes:
        """Records `start` to before `end`, as a batch holds them that begins at `first_ms`; the first has this number
        in it."""
        heads, sizes = self._heads(start, end, number, first_ms)
        count, width = end - start, len(self.pieces) + 2
        flat = [b""] * (count * width)
        flat[0::width] = varints(self.sizes[start:end] + sizes)
        flat[1::width] = heads
        for place, piece in enumerate(self.pieces, 2):
            if isinstance(piece, bytes):
                flat[place::width] = [piece] * count
            elif isinstance(piece, np.ndarray):
                flat[place::width] = varints(piece[start:end])
            else:
                flat[place::width] = piece[start:end]
        return b"".join(flat)

    def _heads(self, start: int, end: int, number: int, first_ms: int) -> tuple[list[bytes], NDArray[np.int64]]:
        """Attributes, timestamp and number of each; and their bytes."""
        numbers = np.arange(number, number + end - start, dtype=np.int64)
        if self.timestamp == first_ms:
            return _plain_heads(number, number + end - start), varint_sizes(numbers) + 2
        times = [self.timestamp] * len(numbers) if isinstance(self.timestamp, int) else self.timestamp[start:end]
        deltas = [varint(one - first_ms) for one in times]
        heads = [b"\0%b%b" % head for head in zip(deltas, varints(numbers), strict=True)]
        return heads, np.fromiter(map(len, heads), np.int64, len(heads))


_HEADS: list[bytes] = [b"\0\0%b" % varint(number) for number in range(1 << 13)]


def _plain_heads(begin: int, end: int) -> list[bytes]:
    """Attributes, timestamp and number of records whose timestamp is that of the first."""
    if end <= len(_HEADS):
        return _HEADS[begin:end]
    return [b"\0\0%b" % varint(number) for number in range(begin, end)]


class _Chain:
    """The records of one topic and partition, part after part."""

    def __init__(self, parts: Sequence[_Tails]) -> None:
        self._parts = parts
        self.ends = np.cumsum(np.concatenate([part.sizes for part in parts]) + _OWN_BYTES)
        """Bytes up to the end of each record, at most."""

    def _within(self, start: int, end: int) -> Iterator[tuple[_Tails, int, int, int]]:
        """The parts that these records are of, where in them they begin and end, and the place of the first."""
        begin = 0
        for part in self._parts:
            first, last = max(start - begin, 0), min(end - begin, len(part.sizes))
            if first < last:
                yield part, first, last, begin + first
            begin += len(part.sizes)

    def times(self, start: int, end: int) -> tuple[int, int]:
        found = [part.times(first, last) for part, first, last, _ in self._within(start, end)]
        return found[0][0], max(latest for _, latest in found)

    def encoded(self, start: int, end: int) -> bytes:
        first_ms, _ = self.times(start, end)
        return b"".join(
            [
                part.encoded(first, last, place - start, first_ms)
                for begin in range(start, end, _AT_ONCE)
                for part, first, last, place in self._within(begin, min(begin + _AT_ONCE, end))
            ]
        )


def _batches(topic: str, partition: int, parts: Sequence[_Tails], codec: Codec) -> Iterator[Batch]:
    chain = _Chain(parts)
    ends = chain.ends
    start, most = 0, _MOST_ON_WIRE if codec == Codec.NONE else _MOST_TO_UNPACK
    while start < len(ends):
        end = _reached(ends, start, most)
        raw = chain.encoded(start, end)
        payload = packed(raw, codec)
        ratio = len(raw) / len(payload)
        if codec != Codec.NONE:
            most = min(_MOST_TO_UNPACK, int(_MOST_ON_WIRE * _ROOM * ratio))
        if len(payload) > _MOST_ON_WIRE and end - start > 1:
            most = min(most, int(ends[end - 2]) - (int(ends[start - 1]) if start else 0))
            continue
        yield Batch(topic, partition, end - start, *chain.times(start, end), codec, payload)
        start = end


def _reached(ends: NDArray[np.int64], start: int, most: int) -> int:
    """Where a batch of so many bytes that begins at record `start` ends; it has one record at least."""
    before = int(ends[start - 1]) if start else 0
    return max(start + 1, int(np.searchsorted(ends, before + most, side="right")))


# ------------------------------------------------------------------------------------------- tails


def _tails_of_columns(columns: RecordColumns) -> _Tails:
    count = len(columns.keys)
    pieces: list[_Piece] = []
    sizes = np.zeros(count, dtype=np.int64)
    for column in (columns.keys, columns.values):
        found, bytes_each, _ = _field(column, count)
        pieces += found
        sizes += bytes_each
    held = np.zeros(count, dtype=np.int64)
    headers: list[_Piece] = []
    for name, column in columns.headers:
        found, bytes_each, present = _header(name, column, count)
        headers += found
        sizes += bytes_each
        held += present
    common = bool((held == len(columns.headers)).all())
    pieces.append(varint(len(columns.headers)) if common else held)
    sizes += varint_sizes(held)
    return _Tails(_merged(pieces + headers), sizes, columns.timestamp)


def _field(
    column: Sequence[bytes | None] | Pieces, rows: int
) -> tuple[list[_Piece], NDArray[np.int64], NDArray[np.bool_]]:
    """Pieces of a counted field, its bytes in each record, and which are not None."""
    if isinstance(column, Pieces):
        counts = np.zeros(rows, dtype=np.int64)
        for piece in column.pieces:
            counts += len(piece) if isinstance(piece, bytes) else np.fromiter(map(len, piece), np.int64, rows)
        return [counts, *column.pieces], varint_sizes(counts) + counts, np.ones(rows, dtype=np.bool_)
    counts, some_none = lengths(column)
    present: NDArray[np.bool_] = counts >= 0
    sizes: NDArray[np.int64] = varint_sizes(counts) + counts * present
    first = column[0]
    if not some_none and first == column[-1] and column.count(first) == len(column):
        return [varint(len(first or b"")) + (first or b"")], sizes, present
    contents = [one or b"" for one in column] if some_none else cast(Sequence[bytes], column)
    return [counts, contents], sizes, present


def _header(
    name: str, column: Sequence[bytes | None] | Pieces, rows: int
) -> tuple[list[_Piece], NDArray[np.int64], NDArray[np.bool_]]:
    """The same of a header; a record that lacks it has nothing of it."""
    pieces, sizes, present = _field(column, rows)
    named = _named(name)
    if present.all():
        return [named, *pieces], sizes + len(named), present
    counts, contents = cast(tuple[NDArray[np.int64], Sequence[bytes]], pieces)
    begins = [named + count if here else b"" for count, here in zip(varints(counts), present.tolist(), strict=True)]
    return [begins, contents], (sizes + len(named)) * present, present


def _merged(pieces: Sequence[_Piece]) -> list[_Piece]:
    """With neighbours that are the same for all made one."""
    merged: list[_Piece] = []
    for piece in pieces:
        if merged and isinstance(piece, bytes) and isinstance(last := merged[-1], bytes):
            merged[-1] = last + piece
        else:
            merged.append(piece)
    return merged


def _tails_of_records(records: Sequence[OutRecord]) -> _Tails:
    if (columns := _columns_of(records)) is not None:
        return _tails_of_columns(columns)
    tails = [_tail(record) for record in records]
    sizes = np.fromiter(map(len, tails), np.int64, len(tails))
    return _Tails([tails], sizes, [record.timestamp for record in records])


def _columns_of(records: Sequence[OutRecord]) -> RecordColumns | None:
    """Where all have the same headers, in the same order, and none of these is null."""
    topic, partition, _, _, headers, _ = records[0]
    names = [name for name, _ in headers]
    if any([name for name, _ in record[4]] != names for record in records):
        return None
    columns = [[record[4][number][1] for record in records] for number in range(len(names))]
    if any(None in column for column in columns):
        return None
    return RecordColumns(
        topic,
        partition,
        [record[2] for record in records],
        [record[3] for record in records],
        list(zip(names, columns, strict=True)),
        [record[5] for record in records],
    )


def _tail(record: OutRecord) -> bytes:
    _, _, key, value, headers, _ = record
    parts = [_sized(key), _sized(value), varint(len(headers))]
    for name, content in headers:
        parts += (_named(name), _sized(content))
    return b"".join(parts)


def _sized(content: bytes | None) -> bytes:
    return b"\1" if content is None else varint(len(content)) + content


@lru_cache(maxsize=1024)
def _named(name: str) -> bytes:
    """Name of a header, counted."""
    encoded = name.encode()
    return varint(len(encoded)) + encoded
