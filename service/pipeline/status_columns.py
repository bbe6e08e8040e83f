"""Statuses of records that all had the same outcome, written by columns: what `publish` writes one by one."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec.json import encode

from service.domain.records import Pieces, RecordColumns, Topic
from service.pipeline.join_columns import HappenedColumns, Place
from service.wire.instants import rfc3339_many
from service.wire.status import HEADER_SOURCE, HEADER_STATE, HEADER_VERSION

Column = bytes | Sequence[bytes]
"""A text of every record, or one for all of them."""
T = TypeVar("T")
_ESCAPED = re.compile(rb'[\x00-\x1f"\\]')


def status_columns(
    happened: HappenedColumns, places: Sequence[Place], task: int, first_seq: int, version: int, now_ms: int
) -> RecordColumns:
    """One status for each, numbered from `first_seq` on."""
    heads, rows = happened.heads, len(happened.key)
    numbers = happened.places.tolist()
    row_id = _quoted_row_ids(happened)
    offsets, topic, header = _sources(happened)
    columns: list[Column] = [
        _of_each(numbers, lambda place: b'{"deploymentId":' + encode(places[place][0]) + b',"rowId":'),
        row_id,
        b',"status":"' + happened.outcome.name.encode() + b'","seq":',
        _numbers(range(first_seq, first_seq + rows)),
        b',"associationId":',
        row_id,
        b',"revision":',
        _of_each(heads["revision"].tolist(), b"%d".__mod__),
        _of_each(numbers, lambda place: _place_text(places[place])),
        rfc3339_many(heads["predicted_at"]),
    ]
    if happened.actual:
        columns += [b'","actualAt":"', rfc3339_many(heads["actual_at"])]
    columns += [b'","prediction":', happened.prediction]
    if happened.actual:
        columns += [b',"actual":', happened.actual]
    columns += [topic, offsets, b"}}"]
    headers: list[tuple[str, Sequence[bytes] | Pieces]] = [
        (HEADER_STATE, happened.state),
        (HEADER_VERSION, Pieces([b"%d" % version])),
        (HEADER_SOURCE, Pieces([header, offsets])),
    ]
    return RecordColumns(Topic.STATUS, task, happened.key, Pieces(columns), headers, now_ms)


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
    texts = happened.columns.row_id
    picked = texts if len(texts) == len(happened.positions) else [texts[i] for i in happened.positions]
    encoded = '"\n"'.join(picked).encode()
    if _ESCAPED.search(encoded.replace(b'"\n"', b"")) is None:
        return (b'"' + encoded + b'"').split(b"\n")
    return [encode(text) for text in picked]


def _sources(happened: HappenedColumns) -> tuple[list[bytes], Column, Column]:
    """Of each record: its offset, and what comes before that in the status and in the header."""
    arrivals, positions = happened.columns.arrivals, happened.positions
    named = [(arrivals.topic, arrivals.partition)]
    if arrivals.forwarded:
        origins = [arrivals.origin(i) for i in positions]
        offsets, named = [origin.offset for origin in origins], [origin[:2] for origin in origins]
    else:
        offsets = [arrivals.records[i].offset for i in positions]
    topic = _of_each(named, lambda one: b',"source":{"topic":%b,"partition":%d,"offset":' % (encode(one[0]), one[1]))
    return _numbers(offsets), topic, _of_each(named, lambda one: f"{one[0]}/{one[1]}/".encode())
