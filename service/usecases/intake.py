"""Rows that come in through an API: checked, made into the events that any producer sends, and appended to the topics.

Checking (`actuals_intake.py`, `prediction_intake.py`) touches nothing and takes rows chunk by chunk; `outgoing` and an
`InputLog` make a chunk's entries records. What passes the check is refused by no rule of the pipeline that the row
alone could break. Whoever takes rows decides whether one bad row refuses all (`submissions.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from service.domain.deployment import Deployment, TargetType
from service.domain.ids import MAX_ASSOCIATION_ID, RESERVED_PREFIXES, is_association_id, murmur2_many
from service.domain.monitoring_batch import MonitoringBatch
from service.domain.records import MAX_RECORD_BYTES, OutRecord, Topic
from service.ports import Unavailable
from service.wire.status import HEADER_ROW_NUMBER, HEADER_SKIP_DRIFT, HEADER_SUBMISSION

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_ADDED_BYTES: Final = 1_024
"""More than headers and figures of the request ever add to a record."""
MISSING: Final = "is required"


class IntakeKind(StrEnum):
    """What the rows are; also the role of their topic."""

    PREDICTIONS = Topic.PREDICTIONS
    ACTUALS = Topic.ACTUALS


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeFacts:
    """All that the check of rows depends on, read at once."""

    deployment: Deployment
    """Without feature layouts."""
    association_columns: Sequence[str]
    ids_generated: bool
    """A prediction that has no association ID gets one."""
    batch: MonitoringBatch | None
    """The one that was asked for; None where it does not exist or was deleted."""

    @property
    def actuals_weight(self) -> int:
        """As how many actuals one counts in the hourly limit."""
        multiclass = self.deployment.target_type is TargetType.MULTICLASS
        return max(1, len(self.deployment.class_index)) if multiclass else 1


class Claim(NamedTuple):
    """What a user's idempotency key stands for."""

    task_id: str
    request_hash: bytes


class IntakeStore(Protocol):
    """Every method may raise `Unavailable`."""

    async def facts(self, deployment_id: str, batch_id: str | None) -> IntakeFacts | None:
        """None where there is no such deployment."""

    async def take(self, deployment_id: str, kind: IntakeKind, hour: datetime, records: int, most: int) -> bool:
        """Count the records in that hour, all or none. False: there would be more than `most`."""

    async def claimed(self, user_id: str, key: str) -> Claim | None:
        """What the key stands for; None where it is free, or was used more than a day ago."""

    async def claim(self, user_id: str, key: str, claim: Claim) -> Claim:
        """Let the key stand for this, unless it stands for something already; what it stands for then."""

    async def reopen(self, task_id: str, held_for: timedelta) -> int | None:
        """Let a task that ended as an error go on, held from now, and tell how many records of it are acknowledged.
        None: it has not ended so, or another was faster."""


class InputLog(Protocol):
    """The input topics."""

    def partitions(self, kind: IntakeKind) -> int:
        """How many the topic has. Raises `Unavailable` while the broker is away."""

    async def append(self, records: Sequence[OutRecord]) -> None:
        """Returns when the broker has all of them. The order within a partition is kept. Not idempotent.

        Raises `Unacknowledged` after a bounded wait.
        """


class Unacknowledged(Unavailable):
    """Some records were not acknowledged; whether the broker has them is not known."""

    def __init__(self, text: str, acknowledged: int) -> None:
        super().__init__(text)
        self.acknowledged = acknowledged


class Problem(NamedTuple):
    """A rule that a field breaks."""

    row: int | None
    """Number of the row; None: the field is of the request."""
    field: str
    """Steps with dots between them, in the words of the events."""
    rule: str


class Entry(NamedTuple):
    """A row that is ready to be sent."""

    number: int
    """Of the row within its submission."""
    key: bytes
    """The row ID."""
    value: bytes


@dataclass(slots=True)
class Chunk:
    """Rows that were checked: those that are valid, and what is wrong with the others."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """With a rule that needs the finished record."""
        if len(entry.key) + len(entry.value) + _ADDED_BYTES > MAX_RECORD_BYTES:
            self.problems.append(Problem(entry.number, "", f"must have at most {MAX_RECORD_BYTES:,} bytes as an event"))
        else:
            self.entries.append(entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What all rows of a request or a data set share."""

    id: str
    facts: IntakeFacts
    received_at: datetime
    """Decides what lies in the future, and is the time of rows that have none."""
    skip_drift: bool = False

    @property
    def received_ms(self) -> int:
        return (self.received_at - _EPOCH) // _MILLISECOND

    @property
    def latest(self) -> datetime:
        """No row may be later: the pipeline will say the same, by the time of the record."""
        try:
            return _EPOCH + self.received_ms * _MILLISECOND + self.facts.deployment.join.max_future_skew
        except OverflowError:
            return _LATEST


def row_id(submission_id: str, number: int) -> str:
    """Of a row that has no association ID."""
    return f"submission:{submission_id}:{number}"


def outgoing(
    kind: IntakeKind, submission: Submission, entries: Sequence[Entry], partitions: int
) -> Sequence[OutRecord]:
    """Records of these rows, partition by partition; each goes where its row is at home."""
    skip = [(HEADER_SKIP_DRIFT, b"true")] if submission.skip_drift else []
    named = (HEADER_SUBMISSION, submission.id.encode())
    homes = (murmur2_many([entry.key for entry in entries]) % partitions).tolist()
    timestamp = submission.received_ms
    records = [
        OutRecord(
            kind.value,
            home,
            entry.key,
            entry.value,
            [named, (HEADER_ROW_NUMBER, b"%d" % entry.number), *skip],
            timestamp,
        )
        for home, entry in zip(homes, entries, strict=True)
    ]
    records.sort(key=lambda record: record.partition)
    return records


def association_rule(text: str) -> str | None:
    """The rule that it breaks."""
    if is_association_id(text):
        return None
    if text.startswith(RESERVED_PREFIXES):
        return f"must not begin with {', '.join(RESERVED_PREFIXES)}"
    return f"must be 1 to {MAX_ASSOCIATION_ID} characters"


def instant_rule(at: datetime, latest: datetime) -> str | None:
    """The rule that it breaks."""
    if at > latest:
        return "must not lie further in the future than maxFutureSkew allows"
    return "must lie in the years 1970 to 9999" if at < _EPOCH else None


def invalid_lines(problems: Sequence[Problem], words: Mapping[str, str], rows: str) -> dict[str, str]:
    """Rule by path, in the words of an API: `rows` is what it calls the list of rows."""
    lines: dict[str, str] = {}
    for row, name, rule in problems:
        steps = [words.get(step, step) for step in name.split(".") if step]
        before = [] if row is None else [rows, str(row)]
        lines.setdefault(".".join([*before, *steps]), rule)
    return lines
