"""Sending the rows of a data set: chunk by chunk, by the rules of any other row, followed by a status task.

Unlike a request with rows, a data set may hold bad ones: they are left out, counted, and the first few told. Only where
every row is bad does the task end as an error. What was sent counts, however the task ends.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.domain.deployment import TargetType
from service.domain.errors import Invalid, NotFound
from service.ports import Unavailable
from service.usecases import data_sets as data_set_cases
from service.usecases.access import Principal
from service.usecases.actuals_intake import check_actuals, require_association
from service.usecases.data_set_rows import ActualColumns, ActualReader, PredictedColumns, PredictionReader, told
from service.usecases.data_sets import DataSet, DataSets
from service.usecases.deployments import Deployments, show
from service.usecases.files import Files
from service.usecases.intake import Chunk, IntakeKind, Submission, Unacknowledged, outgoing
from service.usecases.object_ids import new_object_id
from service.usecases.prediction_columns import PredictionColumns, missing_rule, shape_rule
from service.usecases.prediction_intake import Destination, check_predictions, destination_problems
from service.usecases.status_tasks import HELD_FOR, TaskKind, begin
from service.usecases.submissions import Intake, take
from service.usecases.tables import Row, UnreadableTable, chunks
from service.usecases.work import Progress, Unwanted, Work

CHUNK: Final = 10_000
_TOLD: Final = 5
_ACTUAL_FIELDS: Final = ("associationId", "actualColumn", "timestamp", "wasActedOn")
_Check = Callable[[int, Sequence[Row]], Chunk]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What sending rows of data sets stands on."""

    intake: Intake
    data_sets: DataSets
    files: Files
    deployments: Deployments
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A data set, in a version or in its newest, as somebody names it."""

    data_set_id: str
    version_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedActuals:
    source: Source
    columns: ActualColumns
    keep_without_prediction: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPredictions:
    source: Source
    predictions: PredictionColumns
    association_id: str | None
    timestamp: str | None
    batch_id: str | None
    skip_drift: bool


async def send_actuals(stores: Stores, principal: Principal, deployment_id: str, asked: AskedActuals) -> str:
    """ID of the task. Raises `NotFound`, `Invalid`, `Exceeded`."""
    submission = await _submission(stores, deployment_id, batch_id=None, skip_drift=False)
    data_set, problems = await _found(stores, principal, asked.source)
    if data_set is not None:
        names = dict(zip(_ACTUAL_FIELDS, asked.columns, strict=True))
        problems += _missing(data_set, {field: name for field, name in names.items() if name is not None})
    if problems or data_set is None:
        raise Invalid("\n".join(problems))
    require_association(submission)
    deployment = submission.facts.deployment
    reader = ActualReader(
        data_set.table.columns, asked.columns, is_regression=deployment.target_type is TargetType.REGRESSION
    )

    def check(first: int, rows: Sequence[Row]) -> Chunk:
        good, wrong = reader.read(first, rows)
        chunk = check_actuals(submission, good, keep_without_prediction=asked.keep_without_prediction)
        chunk.problems += wrong
        return chunk

    sending = _Sending(stores, submission, IntakeKind.ACTUALS, data_set, check)
    weight = submission.facts.actuals_weight
    return await _start(stores, principal, sending, TaskKind.ACTUALS_FROM_DATA_SET, weight)


async def send_predictions(stores: Stores, principal: Principal, deployment_id: str, asked: AskedPredictions) -> str:
    """ID of the task. Raises `NotFound`, `Invalid`, `Exceeded`."""
    submission = await _submission(stores, deployment_id, batch_id=asked.batch_id, skip_drift=asked.skip_drift)
    deployment, to = submission.facts.deployment, Destination(None, asked.batch_id)
    data_set, problems = await _found(stores, principal, asked.source)
    if rule := shape_rule(asked.predictions, deployment.target_type, list(deployment.class_index)):
        problems.append(f"predictions: {rule}")
    elif data_set is not None and (rule := missing_rule(asked.predictions.names, data_set.table.columns)):
        problems.append(f"predictions: {rule}")
    if data_set is not None:
        single = {"associationId": asked.association_id, "timestamp": asked.timestamp}
        problems += _missing(data_set, {field: name for field, name in single.items() if name is not None})
    problems += [f"{one.field}: {one.rule}" for one in destination_problems(submission, to)]
    if problems or data_set is None:
        raise Invalid("\n".join(problems))
    stored = await show(stores.deployments, deployment_id)
    which = PredictedColumns(
        predictions=asked.predictions,
        association_id=asked.association_id,
        timestamp=asked.timestamp,
        numeric=frozenset(one.name for one in stored.settings.features if one.type == "numeric"),
    )
    reader = PredictionReader(data_set.table.columns, which)

    def check(first: int, rows: Sequence[Row]) -> Chunk:
        good, wrong = reader.read(first, rows)
        chunk = check_predictions(submission, good, to)
        chunk.problems += wrong
        return chunk

    sending = _Sending(stores, submission, IntakeKind.PREDICTIONS, data_set, check)
    return await _start(stores, principal, sending, TaskKind.PREDICTIONS_FROM_DATA_SET, 1)


async def _submission(stores: Stores, deployment_id: str, *, batch_id: str | None, skip_drift: bool) -> Submission:
    facts = await stores.intake.store.facts(deployment_id, batch_id)
    if facts is None:
        raise NotFound(f"there is no deployment {deployment_id!r}")
    return Submission(id=new_object_id(), facts=facts, received_at=stores.intake.clock.now(), skip_drift=skip_drift)


async def _found(stores: Stores, principal: Principal, source: Source) -> tuple[DataSet | None, list[str]]:
    data_set = await data_set_cases.find(stores.data_sets, principal, source.data_set_id, source.version_id)
    if data_set is not None:
        return data_set, []
    newest = await data_set_cases.find(stores.data_sets, principal, source.data_set_id)
    return None, ["dataSet: is unknown" if newest is None else "version: is unknown"]


def _missing(data_set: DataSet, named: dict[str, str]) -> list[str]:
    rules = {field: missing_rule([name], data_set.table.columns) for field, name in named.items()}
    return [f"{field}: {rule}" for field, rule in rules.items() if rule]


async def _start(stores: Stores, principal: Principal, sending: "_Sending", kind: TaskKind, weight: int) -> str:
    submission, data_set = sending.submission, sending.data_set
    await take(stores.intake, submission, sending.kind, data_set.rows * weight)
    task_id = await begin(
        stores.intake.tasks, principal, kind, submission.facts.deployment.id,
        f"Rows of data set {data_set.name}", with_records=True, task_id=submission.id,
    )  # fmt: skip
    if not await stores.data_sets.note_reader(data_set.id, task_id):
        await stores.intake.tasks.destroy(task_id, principal.user_id)
        raise Invalid("dataSet: is unknown")
    stores.work.start(task_id, sending.send)
    return task_id


@dataclass(slots=True)
class _Sending:
    """One data set on its way to the topic."""

    stores: Stores
    submission: Submission
    kind: IntakeKind
    data_set: DataSet
    check: _Check
    first_told: list[str] = field(default_factory=list)

    async def send(self, progress: Progress) -> bool:
        """Raises what `Work` tells the one who waits."""
        intake, number = self.stores.intake, 0
        async with self.stores.files.open(self.data_set.key) as path:
            reading = self._chunks(path, progress)
            while (rows := await asyncio.to_thread(next, reading, None)) is not None:
                chunk = await asyncio.to_thread(self.check, number, rows)
                self._note(chunk, progress)
                await self._append(chunk, progress)
                number += len(rows)
                if not await intake.tasks.hold(
                    self.submission.id, HELD_FOR, acknowledged=progress.acknowledged, invalid=progress.invalid
                ):
                    raise Unwanted
        told_of = "; ".join(self.first_told)
        if progress.invalid and not progress.acknowledged:
            raise Invalid(f"all {progress.invalid:,} rows are invalid: {told_of}")
        await intake.tasks.produced(
            self.submission.id, records=progress.acknowledged, invalid=progress.invalid, invalid_told=told_of
        )
        return False

    def _chunks(self, path: Path, progress: Progress) -> Iterator[list[Row]]:
        try:
            yield from chunks(path, self.data_set.table, CHUNK)
        except (UnreadableTable, OSError) as error:
            sent = f"{progress.acknowledged:,} rows were acknowledged until then, and count"
            raise Invalid(f"the data set can not be read further: {error}; {sent}") from None

    def _note(self, chunk: Chunk, progress: Progress) -> None:
        bad = len({problem.row for problem in chunk.problems})
        progress.invalid += bad
        if bad and len(self.first_told) < _TOLD:
            problems = sorted(chunk.problems, key=lambda problem: problem.row or 0)
            self.first_told.append(told(problems, _TOLD - len(self.first_told)))
        rows = self.stores.intake.telemetry.intake_rows_total
        rows.labels(self.kind.value, "refused").inc(bad)

    async def _append(self, chunk: Chunk, progress: Progress) -> None:
        intake = self.stores.intake
        try:
            partitions = intake.log.partitions(self.kind)
        except Unavailable as error:
            sent = f"{progress.acknowledged:,} rows were acknowledged until then, and count"
            raise Unavailable(f"{error}; {sent}") from error
        records = outgoing(self.kind, self.submission, chunk.entries, partitions)
        rows = intake.telemetry.intake_rows_total
        try:
            await intake.log.append(records)
        except Unacknowledged as error:
            progress.acknowledged += error.acknowledged
            rows.labels(self.kind.value, "unacknowledged").inc(len(records))
            raise Unavailable(
                f"the broker has acknowledged {progress.acknowledged:,} rows, which count; of up to "
                f"{len(records) - error.acknowledged:,} more it is not known whether it has them ({error})"
            ) from error
        progress.acknowledged += len(records)
        rows.labels(self.kind.value, "accepted").inc(len(records))
