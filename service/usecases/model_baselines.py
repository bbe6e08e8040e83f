"""Giving a model a baseline while it is in use: of a file that is sent, or of live rows of a period.

What a file shows at once is told at once; the counting follows, and is told by a status task. The result is computed
outside any transaction; where the deployment has moved meanwhile, it is computed again.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import polars as pl

from service.domain.deployment import TargetType
from service.domain.errors import Conflict, Invalid
from service.domain.stats.histogram import FeatureLayout, NumericBins
from service.usecases.access import Principal
from service.usecases.baseline_rules import (
    Asked,
    actuals_column,
    column_problems,
    counted_parts,
    outline_of,
    period_problems,
    problems_of,
)
from service.usecases.baselines import Baseline, BaselineCounts, count_baseline, labels, numbers, read_features
from service.usecases.deployment_description import FeaturePart
from service.usecases.deployments import ATTEMPTS, Deployments, StoredDeployment, VersionMoved, show
from service.usecases.drift import BaselineKind, FeatureCounts, of_period
from service.usecases.files import path_of
from service.usecases.holdout import Holdout, Judgement, count_holdout
from service.usecases.prediction_columns import PredictionColumns, missing_rule
from service.usecases.status_tasks import StatusTasks, TaskKind, begin, finished_task
from service.usecases.tables import (
    Outline,
    UnreadableTable,
    first_line,
    read_columns,
)
from service.usecases.work import Progress, Work


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


async def of_file(stores: Stores, principal: Principal, asked: Asked, file: Path) -> str:
    """ID of the task that counts this file, which may be gone when this returns. Raises `Invalid`."""
    stored = await show(stores.deployments, asked.deployment_id)
    problems = problems_of(stored, asked)
    try:
        table = await asyncio.to_thread(outline_of, file)
    except UnreadableTable as error:
        raise Invalid("\n".join([*problems, f"file: {error}"])) from None
    problems += column_problems(stored, asked, table)
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
    counting = _Counting(stores, asked, model, path_of(kept), table)
    count = counting.training if kind is BaselineKind.TRAINING else counting.holdout
    stores.work.start(task_id, count, kept.close)
    return task_id


async def of_live_rows(stores: Stores, principal: Principal, asked: Asked, start: datetime, end: datetime) -> str:
    """ID of the task, which is done already. Raises `Invalid`."""
    for _ in range(ATTEMPTS):
        stored = await show(stores.deployments, asked.deployment_id)
        problems = [*problems_of(stored, asked), *period_problems(stored, asked, start, end)]
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
            if (now := counted_parts(stored)) != parts:
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
                columns, actuals_column(stored, self._asked, self._columns), judgement, facts.fixed, layout
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


def _parts_of(layout: FeatureLayout) -> list[FeaturePart]:
    kinds = {bins.name: "numeric" if isinstance(bins, NumericBins) else "categorical" for bins in layout.features}
    return [FeaturePart.model_validate({"name": name, "type": kind}) for name, kind in kinds.items()]
