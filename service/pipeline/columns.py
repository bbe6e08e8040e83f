"""What the verbs hand to each other: a micro-batch as parallel columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from service.domain.errors import Reason
from service.domain.records import OutRecord
from service.ports import Record
from service.wire.events import Identity

Headers = Sequence[tuple[str, bytes]]


class Origin(NamedTuple):
    """Where a record first came in (topic by its full name), before any forwarding."""

    topic: str
    partition: int
    offset: int


class Notes(NamedTuple):
    """What a record's `hindsight-*` and trace headers say; most records have none."""

    submission_id: str | None = None
    job_id: str | None = None
    row_number: int | None = None
    skip_drift: bool = False
    trace: bytes | None = None


NO_NOTES = Notes()


@dataclass(slots=True)
class _Arrived:
    """What both kinds of events have, one position each in every list."""

    origin: list[Origin] = field(default_factory=list)
    record: list[Record] = field(default_factory=list)
    """As it came, in case it must be returned to its sender."""
    notes: list[Notes] = field(default_factory=list)
    deployment: list[str] = field(default_factory=list)
    row_id: list[str] = field(default_factory=list)

    def add(self, origin: Origin, record: Record, notes: Notes, deployment: str, row_id: str) -> None:
        self.origin.append(origin)
        self.record.append(record)
        self.notes.append(notes)
        self.deployment.append(deployment)
        self.row_id.append(row_id)

    def by_deployment(self) -> dict[str, list[int]]:
        """Positions of each deployment's records."""
        positions: dict[str, list[int]] = {}
        for position, deployment in enumerate(self.deployment):
            positions.setdefault(deployment, []).append(position)
        return positions


@dataclass(slots=True)
class Predictions(_Arrived):
    predicted_at: list[int] = field(default_factory=list)
    content: list[int] = field(default_factory=list)
    prediction: list[bytes] = field(default_factory=list)
    """JSON text."""
    features: list[bytes] = field(default_factory=list)
    """JSON text."""
    model: list[str | None] = field(default_factory=list)
    batch_id: list[str | None] = field(default_factory=list)
    batch_name: list[str | None] = field(default_factory=list)


@dataclass(slots=True)
class Actuals(_Arrived):
    actual_at: list[int] = field(default_factory=list)
    value: list[float | str | bool | None] = field(default_factory=list)
    keep: list[bool] = field(default_factory=list)


class Letter(NamedTuple):
    """A record as it came, in case it must be returned to its sender."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


class Refused(NamedTuple):
    """A record that can not be used. With a known deployment it gets a status, and always a dead letter."""

    is_prediction: bool
    origin: Origin
    notes: Notes
    identity: Identity
    reason: Reason
    detail: str
    letter: Letter


@dataclass(slots=True)
class Decoded:
    """The records of one poll at their home task, and those that must travel on."""

    predictions: Predictions = field(default_factory=Predictions)
    actuals: Actuals = field(default_factory=Actuals)
    refused: list[Refused] = field(default_factory=list)
    strays: list[OutRecord] = field(default_factory=list)
    origins: dict[str, int] = field(default_factory=dict)
    """New highest origin offset by `topic/partition`, of records that were forwarded to here."""
