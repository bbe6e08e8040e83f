"""What the verbs hand to each other: a micro-batch as parallel columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.domain.errors import Reason
from service.domain.records import OutRecord
from service.ports import Record
from service.wire.events import ActualEvent, Identity, PredictionEvent

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
class Arrivals:
    """Where the records of one kind come from. What few records have is kept by position."""

    topic: str
    partition: int
    records: list[Record]
    forwarded: dict[int, Origin] = field(default_factory=dict)
    notes: dict[int, Notes] = field(default_factory=dict)

    def origin(self, i: int) -> Origin:
        return self.forwarded.get(i) or Origin(self.topic, self.partition, self.records[i].offset)

    def only(self, positions: Sequence[int]) -> "Arrivals":
        """The records at these positions."""
        places = {old: new for new, old in enumerate(positions)}
        return Arrivals(
            self.topic,
            self.partition,
            [self.records[i] for i in positions],
            {places[i]: origin for i, origin in self.forwarded.items() if i in places},
            {places[i]: notes for i, notes in self.notes.items() if i in places},
        )


@dataclass(slots=True)
class _Columns:
    arrivals: Arrivals
    deployment: list[str]
    row_id: list[str]
    key: list[bytes]
    """Row key."""
    at: NDArray[np.int64]
    """Event time, microseconds since 1970."""
    received_ms: NDArray[np.int64]
    """Kafka timestamp, milliseconds since 1970."""

    def by_deployment(self) -> dict[str, list[int]]:
        """Positions of each deployment's records."""
        if len(set(self.deployment)) == 1:
            return {self.deployment[0]: list(range(len(self.deployment)))}
        positions: dict[str, list[int]] = {}
        for position, deployment in enumerate(self.deployment):
            positions.setdefault(deployment, []).append(position)
        return positions


@dataclass(slots=True)
class Predictions(_Columns):
    events: list[PredictionEvent]
    prediction: list[bytes]
    """JSON text."""
    content: list[int]
    """Hash of the record's value: what makes two predictions of one row the same."""
    unidentified: list[int]
    """Positions of those without an association ID."""


@dataclass(slots=True)
class Actuals(_Columns):
    events: list[ActualEvent]


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


class Strayed(NamedTuple):
    """A record that came to a foreign partition."""

    deployment: str
    is_prediction: bool
    at: int
    """Event time, microseconds since 1970."""
    received_ms: int
    is_leaving: bool
    """Its home is elsewhere; else it was forwarded to here."""


@dataclass(slots=True)
class Decoded:
    """The records of one poll at their home task, and those that must travel on."""

    predictions: Predictions
    actuals: Actuals
    refused: list[Refused]
    strays: list[OutRecord]
    strayed: list["Strayed"]
    """Every stray, and every record that was forwarded to here."""
    heard: frozenset[tuple[str, bool]]
    """Deployment, and whether it is predictions, of every record that decoded, strays included."""
    origins: dict[str, int]
    """New highest origin offset by `topic/partition`, of records that were forwarded to here."""
