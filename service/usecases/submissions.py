"""Rows posted in one request: all of them are checked, then all are sent, and a status task follows them.

The answer is given once the broker has acknowledged every row. If it does not, the task ends as an error and the caller
is told to try again; rows that were acknowledged count.

With an idempotency key a request may be repeated for a day: it is answered with the task of the first try. Where that
ended as an error, its rows are sent once more under the same row IDs, so that none counts twice: what was counted
before comes out as a duplicate (the request's own service figures differ, so the row that carries them, as a conflict).
The task then counts the records of all tries, and is complete when as many are counted as were acknowledged in all. A
record that the broker had taken without our knowing is one more, so at the moment of completion as many of the last
records may still be on their way.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from service.domain.errors import Exceeded, Invalid, NotFound
from service.ports import Clock
from service.telemetry import Telemetry
from service.usecases.access import Principal
from service.usecases.actuals_intake import ActualRow, check_actuals, require_association
from service.usecases.intake import (
    Chunk,
    Claim,
    Entry,
    InputLog,
    IntakeKind,
    IntakeStore,
    Submission,
    Unacknowledged,
    invalid_lines,
    outgoing,
)
from service.usecases.object_ids import new_object_id
from service.usecases.prediction_intake import (
    Destination,
    PredictionRow,
    check_predictions,
    destination_problems,
    require_open,
    with_service,
)
from service.usecases.status_tasks import HELD_FOR, StatusTasks, TaskKind, TaskStatus, begin
from service.wire.events import ServiceFigures

_HOUR: Final = timedelta(hours=1)
_MOST_KEY: Final = 255
KEY_HEADER: Final = "Idempotency-Key"
KEY_RULE: Final = f"must be 1 to {_MOST_KEY} printable ASCII characters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What taking rows stands on."""

    store: IntakeStore
    log: InputLog
    tasks: StatusTasks
    clock: Clock
    telemetry: Telemetry
    rows_per_hour: int
    """Of a deployment and a kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What is to be known of a request beside its rows."""

    principal: Principal
    deployment_id: str
    problems: Mapping[str, str]
    """Rule by path, of what was found wrong before: such rows are not among those that are handed on."""
    rows: int
    """How many rows it has in all."""
    words: Mapping[str, str]
    """What the API calls the steps of a field's path."""
    key: str | None
    """Idempotency key."""
    content_hash: bytes
    received: float
    """When it came in, on the monotonic clock."""
    read_s: float
    """How long it took to read the rows and their types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedActuals:
    rows: Sequence[tuple[int, ActualRow]]
    keep_without_prediction: bool
    kind: IntakeKind = IntakeKind.ACTUALS
    task: TaskKind = TaskKind.ACTUALS
    skip_drift: bool = False
    batch_id: str | None = None

    def check(self, submission: Submission) -> Chunk:
        """Every rule that a field may break. Raises `Invalid` where the deployment can not take such rows at all."""
        require_association(submission)
        return check_actuals(submission, self.rows, keep_without_prediction=self.keep_without_prediction)

    def require_open(self, submission: Submission) -> None:
        return

    def weight(self, submission: Submission) -> int:
        """As how many rows one counts in the hourly limit."""
        return submission.facts.actuals_weight

    def served(self, entries: Sequence[Entry], figures: ServiceFigures) -> Sequence[Entry]:
        return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedPredictions:
    rows: Sequence[tuple[int, PredictionRow]]
    to: Destination
    skip_drift: bool
    kind: IntakeKind = IntakeKind.PREDICTIONS
    task: TaskKind = TaskKind.PREDICTIONS

    @property
    def batch_id(self) -> str | None:
        return self.to.batch_id

    def check(self, submission: Submission) -> Chunk:
        chunk = check_predictions(submission, self.rows, self.to)
        chunk.problems += destination_problems(submission, self.to)
        return chunk

    def require_open(self, submission: Submission) -> None:
        require_open(submission)

    def weight(self, submission: Submission) -> int:
        return 1

    def served(self, entries: Sequence[Entry], figures: ServiceFigures) -> Sequence[Entry]:
        """Of a request in which no row tells how it was served, the first row tells how this one was."""
        if any(row.service is not None for _, row in self.rows):
            return entries
        return [with_service(entries[0], figures), *entries[1:]]


Content = PostedActuals | PostedPredictions


async def submit(intake: Intake, posted: Posted, content: Content) -> str:
    """ID of the task that follows the rows.

    Raises `NotFound`, `Invalid`, `Conflict`, `Exceeded`, `Unavailable`.
    """
    result = "refused"
    try:
        task_id, result = await _submit(intake, posted, content)
    except Exceeded:
        result = "limited"
        raise
    except Unacknowledged:
        result = "unacknowledged"
        raise
    finally:
        intake.telemetry.intake_rows_total.labels(content.kind.value, result).inc(posted.rows)
    return task_id


async def _submit(intake: Intake, posted: Posted, content: Content) -> tuple[str, str]:
    """The task, and what became of the rows."""
    request_hash = _request_hash(posted, content)
    claimed = await _claimed(intake, posted, request_hash)
    if claimed is not None and not await _failed(intake, posted, claimed):
        return claimed, "repeated"
    submission = await _submission(intake, posted, content, claimed or new_object_id())
    began = intake.clock.monotonic()
    entries = _valid(posted, content, submission)
    checked_s = posted.read_s + intake.clock.monotonic() - began
    partitions = intake.log.partitions(content.kind)
    await take(intake, submission, content.kind, len(entries) * content.weight(submission))
    acknowledged = await _begin(intake, posted, content, submission.id, request_hash, again=claimed is not None)
    if isinstance(acknowledged, str):
        return acknowledged, "repeated"
    entries = content.served(entries, _figures(intake, posted, checked_s))
    await _send(intake, submission, content.kind, entries, partitions, acknowledged)
    return submission.id, "accepted"


async def take(intake: Intake, submission: Submission, kind: IntakeKind, records: int) -> None:
    """Count the records against the hour's limit. Raises `Exceeded`, and counts none of them then."""
    hour = submission.received_at.replace(minute=0, second=0, microsecond=0)
    name = submission.facts.deployment.id
    if not await intake.store.take(name, kind, hour, records, intake.rows_per_hour):
        left = (hour + _HOUR - intake.clock.now()).total_seconds()
        text = f"a deployment takes at most {intake.rows_per_hour:,} {kind.value} an hour"
        raise Exceeded(text, max(1, math.ceil(left)))


async def _claimed(intake: Intake, posted: Posted, request_hash: bytes) -> str | None:
    """The task that the key stands for. Raises `Invalid`."""
    if posted.key is None:
        return None
    if not (1 <= len(posted.key) <= _MOST_KEY and posted.key.isascii() and posted.key.isprintable()):
        raise Invalid(f"{KEY_HEADER}: {KEY_RULE}")
    found = await intake.store.claimed(posted.principal.user_id, posted.key)
    return None if found is None else _same(found, request_hash)


def _same(claim: Claim, request_hash: bytes) -> str:
    if claim.request_hash != request_hash:
        raise Invalid(f"{KEY_HEADER}: stands for another request already")
    return claim.task_id


async def _failed(intake: Intake, posted: Posted, task_id: str) -> bool:
    task = await intake.tasks.find(task_id, posted.principal.user_id)
    return task is not None and task.status is TaskStatus.ERROR


async def _submission(intake: Intake, posted: Posted, content: Content, task_id: str) -> Submission:
    facts = await intake.store.facts(posted.deployment_id, content.batch_id)
    if facts is None:
        raise NotFound(f"there is no deployment {posted.deployment_id!r}")
    return Submission(id=task_id, facts=facts, received_at=intake.clock.now(), skip_drift=content.skip_drift)


def _valid(posted: Posted, content: Content, submission: Submission) -> Sequence[Entry]:
    """All rows. Raises `Invalid` if there is anything wrong with any, else `Conflict`."""
    chunk = content.check(submission)
    if posted.problems or chunk.problems:
        lines = {**invalid_lines(chunk.problems, posted.words, "data"), **posted.problems}
        raise Invalid("\n".join(f"{path}: {rule}" for path, rule in lines.items()))
    content.require_open(submission)
    return chunk.entries


async def _begin(
    intake: Intake, posted: Posted, content: Content, task_id: str, request_hash: bytes, *, again: bool
) -> int | str:
    """Open the task, or open it again: how many of its records are acknowledged already. A text: the task of the same
    request that came at the same time, which sends the rows."""
    if again:
        acknowledged = await intake.store.reopen(task_id, HELD_FOR)
        return task_id if acknowledged is None else acknowledged
    description = f"Upload of {posted.rows} {content.kind.value}"
    await begin(
        intake.tasks, posted.principal, content.task, posted.deployment_id, description,
        with_records=True, task_id=task_id,
    )  # fmt: skip
    if posted.key is None:
        return 0
    claim = await intake.store.claim(posted.principal.user_id, posted.key, Claim(task_id, request_hash))
    if claim.task_id == task_id:
        return 0
    await intake.tasks.destroy(task_id, posted.principal.user_id)
    return _same(claim, request_hash)


async def _send(
    intake: Intake,
    submission: Submission,
    kind: IntakeKind,
    entries: Sequence[Entry],
    partitions: int,
    acknowledged: int,
) -> None:
    """Raises `Unacknowledged`; the task says so too."""
    try:
        await intake.log.append(outgoing(kind, submission, entries, partitions))
    except Unacknowledged as error:
        reached = acknowledged + error.acknowledged
        await intake.tasks.hold(submission.id, HELD_FOR, acknowledged=reached, invalid=0)
        message = (
            f"the broker has acknowledged {error.acknowledged:,} of {len(entries):,} rows, which count; "
            "of the others it is not known whether it has them"
        )
        await intake.tasks.end(submission.id, TaskStatus.ERROR, code=503, message=message)
        raise
    await intake.tasks.produced(submission.id, records=acknowledged + len(entries), invalid=0)


def _figures(intake: Intake, posted: Posted, checked_s: float) -> ServiceFigures:
    """Of the request itself, which ends for the model's users where the rows are handed over."""
    return ServiceFigures(
        response_time_ms=round(1e3 * (intake.clock.monotonic() - posted.received), 3),
        execution_time_ms=round(1e3 * checked_s, 3),
        consumer_id=posted.principal.user_id,
        outcome="ok",
    )


def _request_hash(posted: Posted, content: Content) -> bytes:
    return hashlib.sha256(f"{content.kind}/{posted.deployment_id}/".encode() + posted.content_hash).digest()
