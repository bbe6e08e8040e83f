"""Giving a model a baseline while it is in use: of a file that is sent, or of live rows of a period.

What a file shows at once is told at once; the counting follows, and is told by a status task. The result is computed
outside any transaction; where the deployment has moved meanwhile, it is computed again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import polars as pl

from service.domain.deployment import TargetType
from service.domain.errors import Conflict, Invalid
from service.domain.stats.histogram import FeatureLayout, NumericBins
from service.usecases.access import Principal
from service.usecases.baselines import Baseline, BaselineCounts, count_baseline, labels, numbers, read_features
from service.usecases.deployment_description import FeaturePart
from service.usecases.deployments import ATTEMPTS, Deployments, StoredDeployment, VersionMoved, show
from service.usecases.drift import BaselineKind, FeatureCounts, of_period
from service.usecases.holdout import Holdout, Judgement, count_holdout
from service.usecases.prediction_columns import PredictionColumns, missing_rule, shape_rule
from service.usecases.status_tasks import StatusTasks, TaskKind, begin, finished_task
from service.usecases.tables import (
    Format,
    Outline,
    UnreadableTable,
    chunks,
    count_rows,
    first_line,
    outline,
    read_columns,
)
from service.usecases.work import Progress, Work

_KINDS: Final = (BaselineKind.TRAINING, BaselineKind.HOLDOUT)
_COUNTED: Final = ("numeric", "categorical")
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(1000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldoutFacts:
    threshold: float
    """Of the model."""
    fixed: Holdout | None
    """The holdout that the model has; its bins stay."""


class Baselines(Protocol):
    """Where baselines are kept. Every method may raise `Unavailable`."""

    async def holdout(self, deployment_id: str, model_id: str) -> HoldoutFacts: ...

    async def keep(
        self, deployment_id: str, baseline: Baseline, holdout: Holdout | None, expected_version: int
    ) -> None:
        """Keep it in the place of the one of its model and kind, once no worker counts by older bins any more.

        Without a holdout, figures of predictions that are there stay. Raises `VersionMoved`, with nothing written,
        where the deployment's version is not the expected one.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What baselines are made of, and kept in."""

    deployments: Deployments
    features: FeatureCounts
    baselines: Baselines
    tasks: StatusTasks
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A baseline as somebody asks for it. Without a model, the current one is meant."""

    deployment_id: str
    kind: str | None
    model_id: str | None
    predictions: PredictionColumns | None = None
    actuals: str | None = None
    """Column of the actuals; without it, the one that has the target's name, if there is one."""


async def of_file(stores: Stores, principal: Principal, asked: Asked, file: Path) -> str:
    """ID of the task that counts this file, which may be gone when this returns. Raises `Invalid`."""
    stored = await show(stores.deployments, asked.deployment_id)
    problems = _problems(stored, asked)
    try:
        table = await asyncio.to_thread(_outline, file)
    except UnreadableTable as error:
        raise Invalid("\n".join([*problems, f"file: {error}"])) from None
    problems += _column_problems(stored, asked, table)
    if problems:
        raise Invalid("\n".join(problems))
    kind, model = BaselineKind(asked.kind or ""), asked.model_id or stored.settings.model_id
    kept = file.open("rb")  # noqa: ASYNC230, SIM115
    try:
        task_id = await begin(
            stores.tasks, principal, TaskKind.BASELINE, asked.deployment_id, f"Baseline of kind {kind}",
            with_records=False,
        )  # fmt: skip
    except BaseException:
        kept.close()
        raise
    counting = _Counting(stores, asked, model, Path(f"/proc/self/fd/{kept.fileno()}"), table)
    count = counting.training if kind is BaselineKind.TRAINING else counting.holdout
    stores.work.start(task_id, count, kept.close)
    return task_id


async def of_live_rows(stores: Stores, principal: Principal, asked: Asked, start: datetime, end: datetime) -> str:
    """ID of the task, which is done already. Raises `Invalid`."""
    for _ in range(ATTEMPTS):
        stored = await show(stores.deployments, asked.deployment_id)
        problems = [*_problems(stored, asked), *_period_problems(stored, asked, start, end)]
        if problems:
            raise Invalid("\n".join(problems))
        model = asked.model_id or stored.settings.model_id
        baseline = await of_period(stores.features, stored, model, asked.kind or "", start, end)
        if baseline is None:
            raise Invalid(f"period: no features of model {model!r} were counted in these hours")
        try:
            await stores.baselines.keep(asked.deployment_id, baseline, None, stored.version)
        except VersionMoved:
            continue
        description = f"Baseline of kind {baseline.kind}"
        return await finished_task(stores.tasks, principal, TaskKind.BASELINE, asked.deployment_id, description)
    raise Conflict(f"deployment {asked.deployment_id} keeps changing; try again")


class _Counting:
    """One file on its way to a baseline."""

    def __init__(self, stores: Stores, asked: Asked, model: str, file: Path, table: Outline) -> None:
        self._stores = stores
        self._asked = asked
        self._model = model
        self._file = file
        self._form = table.format
        self._columns = table.columns

    async def training(self, _: Progress) -> bool:
        """Feature columns by name, into bins that are made where there are none."""
        parts: list[FeaturePart] = []
        frame = pl.DataFrame()
        for _attempt in range(ATTEMPTS):
            stored = await show(self._stores.deployments, self._asked.deployment_id)
            if (now := _parts(stored)) != parts:
                parts, frame = now, await asyncio.to_thread(self._features, now)
            fixed = stored.layout_of(self._model)
            counted = await asyncio.to_thread(count_baseline, frame, parts, fixed)
            if await self._kept(BaselineKind.TRAINING, counted, None, stored.version):
                return True
        raise Conflict("the deployment keeps changing; try again")

    async def holdout(self, _: Progress) -> bool:
        """Predictions, and actuals where the file has them; of features, what has bins already."""
        for _attempt in range(ATTEMPTS):
            stored = await show(self._stores.deployments, self._asked.deployment_id)
            facts = await self._stores.baselines.holdout(self._asked.deployment_id, self._model)
            layout = stored.layout_of(self._model)
            counted, holdout = await asyncio.to_thread(self._count_holdout, stored, facts, layout)
            if await self._kept(BaselineKind.HOLDOUT, counted, holdout, stored.version):
                return True
        raise Conflict("the deployment keeps changing; try again")

    async def _kept(self, kind: str, counted: BaselineCounts, holdout: Holdout | None, version: int) -> bool:
        baseline = Baseline(model_id=self._model, kind=kind, counted=counted)
        try:
            await self._stores.baselines.keep(self._asked.deployment_id, baseline, holdout, version)
        except VersionMoved:
            return False
        return True

    def _features(self, parts: list[FeaturePart]) -> pl.DataFrame:
        if missing := missing_rule([part.name for part in parts], self._columns):
            raise Invalid(f"file: {missing}")
        with _telling():
            return read_features(self._file, self._form, parts)

    def _count_holdout(
        self, stored: StoredDeployment, facts: HoldoutFacts, layout: FeatureLayout
    ) -> tuple[BaselineCounts, Holdout]:
        settings, columns = stored.settings, self._asked.predictions
        assert columns is not None and settings.target_type is not None
        judgement = Judgement(
            target_type=settings.target_type,
            class_names=settings.class_names,
            positive_class=settings.positive_class,
            threshold=facts.threshold,
        )
        with _telling():
            return self._read_holdout(
                columns, _actuals(stored, self._asked, self._columns), judgement, facts.fixed, layout
            )

    def _read_holdout(
        self,
        columns: PredictionColumns,
        actuals: str | None,
        judgement: Judgement,
        fixed: Holdout | None,
        layout: FeatureLayout,
    ) -> tuple[BaselineCounts, Holdout]:
        names = [*columns.names, *([actuals] if actuals is not None else [])]
        frame = read_columns(self._file, self._form, list(dict.fromkeys(names)))
        predicted = pl.DataFrame([numbers(frame.get_column(name)) for name in columns.names])
        truth = None if actuals is None else _truth(frame.get_column(actuals), judgement)
        holdout = count_holdout(predicted, truth, columns, judgement, fixed)
        parts = [part for part in _parts_of(layout) if part.name in self._columns]
        features = read_features(self._file, self._form, parts) if parts else pl.DataFrame()
        counted = count_baseline(features, parts, layout)
        return BaselineCounts(rows=holdout.rows, layout=layout, counts=counted.counts), holdout


@contextmanager
def _telling() -> Iterator[None]:
    """What is wrong with a file is what is wrong with the request."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise Invalid(f"file: {first_line(error)}") from None
    except (UnreadableTable, ValueError) as error:
        raise Invalid(f"file: {error}") from None


def _truth(column: pl.Series, judgement: Judgement) -> pl.Series:
    return numbers(column) if judgement.target_type is TargetType.REGRESSION else labels(column)


def _actuals(stored: StoredDeployment, asked: Asked, columns: Sequence[str]) -> str | None:
    target = stored.settings.target_name
    return asked.actuals or (target if target in columns else None)


def _parts(stored: StoredDeployment) -> list[FeaturePart]:
    """Features that are counted."""
    features = [feature for feature in stored.settings.features if feature.type in _COUNTED]
    return [FeaturePart.model_validate({"name": one.name, "type": one.type}) for one in features]


def _parts_of(layout: FeatureLayout) -> list[FeaturePart]:
    kinds = {bins.name: "numeric" if isinstance(bins, NumericBins) else "categorical" for bins in layout.features}
    return [FeaturePart.model_validate({"name": name, "type": kind}) for name, kind in kinds.items()]


def _outline(file: Path) -> Outline:
    """Raises `UnreadableTable`, also for a table without rows."""
    table = outline(file)
    is_empty = (
        not count_rows(file, table) if table.format is Format.PARQUET else next(chunks(file, table, 1), None) is None
    )
    if is_empty:
        raise UnreadableTable("the file has no rows")
    return table


def _problems(stored: StoredDeployment, asked: Asked) -> list[str]:
    """Of what does not depend on a file."""
    problems = []
    if asked.kind not in _KINDS:
        problems.append("kind: must be training or holdout" if asked.kind else "kind: is required")
    elif asked.kind == BaselineKind.TRAINING and not _parts(stored):
        problems.append("kind: the deployment has no numeric or categorical features that could be counted")
    if asked.model_id is not None and asked.model_id not in stored.models:
        problems.append("modelId: the deployment has no such model")
    return problems


def _column_problems(stored: StoredDeployment, asked: Asked, table: Outline) -> list[str]:
    if asked.kind == BaselineKind.TRAINING:
        missing = missing_rule([part.name for part in _parts(stored)], table.columns)
        return [f"file: {missing}"] if missing else []
    if asked.kind != BaselineKind.HOLDOUT:
        return []
    problems = []
    settings, columns = stored.settings, asked.predictions
    if columns is None:
        problems.append("predictionsColumns: is required")
    elif rule := shape_rule(columns, settings.target_type, settings.class_names):
        problems.append(f"predictionsColumns: {rule}")
    elif missing := missing_rule(columns.names, table.columns):
        problems.append(f"predictionsColumns: {missing}")
    if asked.actuals is not None and (missing := missing_rule([asked.actuals], table.columns)):
        problems.append(f"actualsValueColumn: {missing}")
    return problems


def _period_problems(stored: StoredDeployment, asked: Asked, start: datetime, end: datetime) -> list[str]:
    problems = []
    for name, at in (("start", start), ("end", end)):
        if (at - _EPOCH) % _HOUR:
            problems.append(f"period.{name}: must be a whole hour in UTC")
        elif not _EARLIEST <= at <= _LATEST:
            problems.append(f"period.{name}: must lie between the years {_EARLIEST.year} and {_LATEST.year}")
    if not problems and start >= end:
        problems.append("period.end: must be after start")
    if asked.kind == BaselineKind.HOLDOUT:
        problems.append("period: predictions of live rows are not kept one by one; send a file for a holdout")
    elif not stored.layout_of(asked.model_id or stored.settings.model_id).features:
        problems.append("period: the model has no bins yet; its first baseline must be a file")
    return problems
