"""The life of one row, composed from its statuses in their order: what came, what it changed, what it counted for, how
the row stands and what will become of it.

Each status carries the row as it was after it, so what a record did is the difference to the row before. Where that
row is not known any more (compaction keeps the last status of a row only), what it counted for is left open.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from msgspec import Raw

from service.domain.deployment import Deployment
from service.domain.errors import Reason, Rejection
from service.domain.monitoring_batch import MonitoringBatch
from service.domain.outcomes import Outcome
from service.domain.records import Topic, topic_name
from service.domain.row import RowState, decode_row
from service.usecases.row_prospects import Expected, prospects
from service.usecases.row_shares import AccuracyShare, TrafficShare, accuracy_shares, end_share, traffic_share
from service.usecases.status_stream import Published, Told, told_by
from service.wire.events import decode_actual, decode_prediction
from service.wire.held_row import HeldRow, ShownRow, shown_row
from service.wire.instants import instant_us, rfc3339, rfc3339_clamped
from service.wire.status import HEADER_STATE, HEADER_VERSION, Instant, RowStatus, Source, Written

MOST_STATUSES = 1_000
"""Of a row that has more, the last ones are told."""


class Place(NamedTuple):
    """Where a record first came in."""

    topic: str
    partition: int
    offset: int


class Arrived(NamedTuple):
    """A record as it lies on an input topic."""

    timestamp_ms: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Came(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """The record that a status is about. What the input topic no longer tells is left out."""

    kind: str
    """`prediction` or `actual`."""
    source: Source
    event_at: Instant | None = None
    arrived_at: Instant | None = None
    said: Written = None
    """The prediction or actual as this record has it, which need not be the row's."""


class Step(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """One status of the row, or the tombstone that ended its life."""

    status: str
    partition: int
    offset: int
    published_at: Instant
    version: int | None = None
    seq: int | None = None
    reason: str | None = None
    revision: int | None = None
    came: Came | None = None
    """None: time alone brought it about."""
    row: ShownRow | None = None
    """After it; None where no row is kept."""
    previous_actual: Written = None
    traffic: TrafficShare | None = None
    accuracy: list[AccuracyShare] = []
    note: str | None = None


class RowLife(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What is known of a row."""

    deployment_id: str
    row_id: str
    partition: int
    steps: list[Step]
    row: ShownRow | None = None
    """As it stands; None where none is kept."""
    row_version: int | None = None
    row_from: str
    """Who says how it stands."""
    watermark: Instant | None = None
    watermark_from: str | None = None
    prospects: list[Expected] = []
    batches: dict[str, str] = {}
    """Name of each monitoring batch of the row, by ID."""
    notes: list[str] = []


encode_life = msgspec.json.Encoder().encode


class History:
    """The statuses of one row, the last `MOST_STATUSES` of them."""

    def __init__(self, most: int = MOST_STATUSES) -> None:
        self._kept: deque[Published] = deque(maxlen=most)
        self.before: bytes | None = None
        """State before the first that is kept; None: not known."""
        self.left_out = 0

    def add(self, published: Published) -> None:
        if len(self._kept) == self._kept.maxlen:
            self.before = _state(self._kept[0])
            self.left_out += 1
        self._kept.append(published)

    def told(self) -> list[Told]:
        """In order, repeats dropped."""
        found: list[Told] = []
        last = -1
        for told in map(told_by, self._kept):
            if told.status is None and found and found[-1].status is None:
                continue
            if told.status is not None and told.status.seq <= last:
                continue
            last = last if told.status is None else told.status.seq
            found.append(told)
        return found

    def places(self) -> list[Place]:
        """Where the records came in."""
        statuses = (told.status for told in self.told())
        sources = (status.source for status in statuses if status is not None)
        return [Place(source.topic, source.partition, source.offset) for source in sources if source is not None]

    def batches(self) -> set[str]:
        """IDs of the monitoring batches that the row names."""
        return {told.status.batch_id for told in self.told() if told.status and told.status.batch_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What else is known, from wherever it could be had."""

    prefix: str
    deployment: Deployment | None = None
    watermark: Instant | None = None
    """Of the row's deployment and task, by the ledger."""
    batches: Mapping[str, MonitoringBatch] = field(default_factory=dict)
    arrived: Mapping[Place, Arrived] = field(default_factory=dict)
    held: HeldRow | None = None
    notes: tuple[str, ...] = ()


def compose(deployment_id: str, row_id: str, partition: int, history: History, known: Known) -> RowLife:
    """The life of a row that has a status, or is held."""
    told = history.told()
    notes = [*known.notes, *_notes(history, told, known)]
    row, version, row_from = _as_it_stands(told, known, partition)
    watermark, watermark_from = known.watermark, "the ledger"
    if known.held is not None and known.held.watermark is not None:
        watermark, watermark_from = known.held.watermark, "the worker"
    return RowLife(
        deployment_id=deployment_id,
        row_id=row_id,
        partition=partition,
        steps=_steps(told, history, known),
        row=None if row is None else shown_row(row),
        row_version=version,
        row_from=row_from,
        watermark=watermark,
        watermark_from=None if watermark is None else watermark_from,
        prospects=[] if row is None else prospects(row, watermark, known.deployment),
        batches={batch.id: batch.name for batch in known.batches.values()},
        notes=notes,
    )


def _steps(told: list[Told], history: History, known: Known) -> list[Step]:
    steps = []
    before = b"" if history.before is None and _begins(told) else history.before
    for one in told:
        steps.append(_step(one, before, known))
        before = _state(one.published)
    return steps


def _begins(told: list[Told]) -> bool:
    """Whether there was no row before the first status: there is none after it either, or it opened the row."""
    first = told[0].status if told else None
    return first is not None and (first.revision is None or (first.revision == 1 and first.status in _OPENING))


_OPENING = (Outcome.ACCEPTED.name, Outcome.EARLY.name)
_CHANGING = (Outcome.CORRECTED.name, Outcome.LATE_CORRECTED.name, Outcome.WITHDRAWN.name)
"""May have taken something away from accuracy."""
_HELD = frozenset({*_OPENING, *_CHANGING, Outcome.MATCHED.name})
"""After these the row holds what the record said."""


def _step(told: Told, before: bytes | None, known: Known) -> Step:
    """`before` is the state of the row before it, empty for no row, None where that is not known."""
    published, status = told.published, told.status
    state = _state(published)
    row = decode_row(state) if state else None
    step = Step(
        status=told.word,
        partition=published.partition,
        offset=published.offset,
        published_at=published.at,
        version=_version(published),
        row=None if row is None else shown_row(row),
    )
    if status is None:
        step.traffic = end_share(decode_row(before)) if before else None
        step.note = "the row is forgotten; a record of its ID opens a new one"
        return step
    step.seq, step.reason, step.revision = status.seq, status.reason, status.revision
    step.previous_actual = status.previous_actual
    if status.source is not None:
        step.came = came = _came(status.source, status, known)
        step.traffic = traffic_share(status, came.kind, came.event_at, came.arrived_at)
    else:
        step.traffic = traffic_share(status, None, status.actual_at, None)
    if status.reason == Reason.DELETED:
        step.note = "its monitoring batch was deleted: the row changed, and no number"
    elif status.reason == Reason.NO_ASSOCIATION_ID and row is None:
        step.note = "it came without any ID and can never be joined: counted, and not kept"
    elif known.deployment is not None and (before is not None or status.status == Outcome.MATCHED.name):
        step.accuracy = accuracy_shares(known.deployment, decode_row(before) if before else None, row)
    elif before is None and status.status in _CHANGING:
        step.note = "the row before it is not known any more, nor what changed in accuracy"
    return step


def _came(source: Source, status: RowStatus, known: Known) -> Came:
    is_prediction = source.topic == topic_name(known.prefix, Topic.PREDICTIONS)
    came = Came(kind="prediction" if is_prediction else "actual", source=source)
    arrived = known.arrived.get(Place(source.topic, source.partition, source.offset))
    if arrived is None:
        if status.status in _HELD:
            came.event_at = status.predicted_at if is_prediction else status.actual_at
        return came
    came.arrived_at = rfc3339_clamped(arrived.timestamp_ms * 1000)
    try:
        if is_prediction:
            prediction = decode_prediction(arrived.value)
            came.said, given = prediction.prediction, prediction.timestamp
        else:
            actual = decode_actual(arrived.value)
            came.said, given = Raw(msgspec.json.encode(actual.actual)), actual.timestamp
        came.event_at = came.arrived_at if given is None else rfc3339(instant_us(given))
    except Rejection:
        came.event_at = None
    return came


def _state(published: Published) -> bytes:
    """The row after this record, empty for none."""
    if published.value is None:
        return b""
    return next((value for name, value in published.headers if name == HEADER_STATE), b"")


def _version(published: Published) -> int | None:
    text = next((value for name, value in published.headers if name == HEADER_VERSION), b"")
    return int(text) if text.isdigit() else None


def _as_it_stands(told: list[Told], known: Known, partition: int) -> tuple[RowState | None, int | None, str]:
    """The row, the ledger version at which it stood so, and who says it."""
    if known.held is not None:
        state, version = known.held.state, known.held.version
        return decode_row(state) if state else None, version, f"the store of task {known.held.task}"
    last = told[-1].published if told else None
    row_from = f"the last status, {topic_name(known.prefix, Topic.STATUS)} partition {partition}"
    if last is None:
        return None, None, row_from
    state = _state(last)
    return decode_row(state) if state else None, _version(last), row_from


def _notes(history: History, told: list[Told], known: Known) -> list[str]:
    notes = []
    if history.left_out:
        notes.append(f"{history.left_out} earlier statuses are left out")
    elif told and not _begins(told):
        notes.append("earlier statuses of the row are not in the topic any more")
    for batch in known.batches.values():
        if batch.is_deleted:
            notes.append(f"monitoring batch {batch.id} was deleted, and with it what the row had counted there")
    return notes
