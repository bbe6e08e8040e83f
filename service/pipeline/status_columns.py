"""Statuses of records that all had the same outcome, written by columns: what `publish` writes one by one."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.json import encode

from service.domain.outcomes import ENDS
from service.domain.records import Pieces, RecordColumns, Topic
from service.pipeline.columns import Arrivals
from service.pipeline.join_columns import HappenedColumns, Place
from service.wire.instants import rfc3339_many
from service.wire.status import HEADER_SOURCE, HEADER_STATE, HEADER_VERSION

Column = bytes | Sequence[bytes]
"""A text of every record, or one for all of them."""
T = TypeVar("T")
_ESCAPED = re.compile(rb'[\x00-\x09\x0b-\x1f"\\]')


def status_columns(
    happened: HappenedColumns, places: Sequence[Place], task: int, first_seq: int, version: int, now_ms: int
) -> RecordColumns:
    """One status for each, numbered from `first_seq` on; a tombstone for each row that ended."""
    rows = len(happened.key)
    stamp = (HEADER_VERSION, Pieces([b"%d" % version]))
    if happened.outcome in ENDS:
        ended = [(HEADER_STATE, Pieces([b""])), stamp]
        return RecordColumns(Topic.STATUS, task, happened.key, [None] * rows, ended, now_ms)
    headers: list[tuple[str, Sequence[bytes] | Pieces]] = [(HEADER_STATE, happened.state), stamp]
    values = _row_as_it_stands(happened, places, range(first_seq, first_seq + rows))
    if happened.columns is not None:
        offsets, topic, header = _sources(happened.columns.arrivals, happened.positions)
        values += [topic, offsets, b"}"]
        headers.append((HEADER_SOURCE, Pieces([header, offsets])))
    return RecordColumns(Topic.STATUS, task, happened.key, Pieces([*values, b"}"]), headers, now_ms)


def _row_as_it_stands(happened: HappenedColumns, places: Sequence[Place], numbers: Sequence[int]) -> list[Column]:
    heads, place_of = happened.heads, happened.places.tolist()
    row_id = _quoted_row_ids(happened)
    columns: list[Column] = [
        _of_each(place_of, lambda place: b'{"deploymentId":' + encode(places[place][0]) + b',"rowId":'),
        row_id,
        b',"status":"' + happened.outcome.name.encode() + b'","seq":',
        _numbers(numbers),
        b',"associationId":',
        row_id,
        b',"revision":',
        _of_each(heads["revision"].tolist(), b"%d".__mod__),
        _of_each(place_of, lambda place: _place_text(places[place])),
        rfc3339_many(heads["predicted_at"]),
    ]
    if happened.actual:
        columns += [b'","actualAt":"', rfc3339_many(heads["actual_at"])]
    columns += [b'","prediction":', happened.prediction]
    if happened.actual:
        columns += [b',"actual":', happened.actual]
    return columns


def _of_each(values: Sequence[T], text: Callable[[T], bytes]) -> Column:
    texts = {value: text(value) for value in set(values)}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return [texts[value] for value in values]


def _numbers(numbers: Sequence[int]) -> list[bytes]:
    return [b"%d" % number for number in numbers]


def _place_text(place: Place) -> bytes:
    _, model, batch = place
    text = b""
    if model:
        text += b',"modelId":' + encode(model)
    if batch:
        text += b',"batchId":' + encode(batch)
    return text + b',"predictedAt":"'


def _quoted_row_ids(happened: HappenedColumns) -> list[bytes]:
    """JSON texts."""
    joined = b"\n".join(happened.key)
    sizes = {name: len(name.encode()) + 1 for name in set(happened.deployment)}
    if joined.count(b"\n") == len(happened.key) - 1 and _ESCAPED.search(joined) is None:
        if len(sizes) == 1:
            (size,) = sizes.values()
            return [b'"%b"' % key[size:] for key in happened.key]
        return [b'"%b"' % key[sizes[name] :] for name, key in zip(happened.deployment, happened.key, strict=True)]
    return [encode(key[sizes[name] :].decode()) for name, key in zip(happened.deployment, happened.key, strict=True)]


def _sources(arrivals: Arrivals, positions: Sequence[int]) -> tuple[list[bytes], Column, Column]:
    """Of each record: its offset, and what comes before that in the status and in the header."""
    named = [(arrivals.topic, arrivals.partition)]
    if arrivals.forwarded:
        origins = [arrivals.origin(i) for i in positions]
        offsets, named = [origin.offset for origin in origins], [origin[:2] for origin in origins]
    else:
        offsets = [arrivals.records[i].offset for i in positions]
    topic = _of_each(named, lambda one: b',"source":{"topic":%b,"partition":%d,"offset":' % (encode(one[0]), one[1]))
    return _numbers(offsets), topic, _of_each(named, lambda one: f"{one[0]}/{one[1]}/".encode())
