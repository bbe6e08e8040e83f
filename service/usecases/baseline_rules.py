"""What somebody asks of a baseline, and what is wrong with it as far as that is seen without counting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from service.usecases.deployment_description import FeaturePart
from service.usecases.deployments import StoredDeployment
from service.usecases.drift import BaselineKind
from service.usecases.prediction_columns import PredictionColumns, missing_rule, shape_rule
from service.usecases.tables import Format, Outline, UnreadableTable, chunks, count_rows, outline

_KINDS: Final = (BaselineKind.TRAINING, BaselineKind.HOLDOUT)
_COUNTED: Final = ("numeric", "categorical")
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(1000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A baseline as somebody asks for it. Without a model, the current one is meant."""

    deployment_id: str
    kind: str | None
    model_id: str | None
    predictions: PredictionColumns | None = None
    actuals: str | None = None
    """Column of the actuals; without it, the one that has the target's name, if there is one."""


def actuals_column(stored: StoredDeployment, asked: Asked, columns: Sequence[str]) -> str | None:
    target = stored.settings.target_name
    return asked.actuals or (target if target in columns else None)


def counted_parts(stored: StoredDeployment) -> list[FeaturePart]:
    """Features that are counted."""
    features = [feature for feature in stored.settings.features if feature.type in _COUNTED]
    return [FeaturePart.model_validate({"name": one.name, "type": one.type}) for one in features]


def outline_of(file: Path) -> Outline:
    """Raises `UnreadableTable`, also for a table without rows."""
    table = outline(file)
    is_empty = (
        not count_rows(file, table) if table.format is Format.PARQUET else next(chunks(file, table, 1), None) is None
    )
    if is_empty:
        raise UnreadableTable("the file has no rows")
    return table


def problems_of(stored: StoredDeployment, asked: Asked) -> list[str]:
    """Of what does not depend on a file."""
    problems = []
    if asked.kind not in _KINDS:
        problems.append("kind: must be training or holdout" if asked.kind else "kind: is required")
    elif asked.kind == BaselineKind.TRAINING and not counted_parts(stored):
        problems.append("kind: the deployment has no numeric or categorical features that could be counted")
    if asked.model_id is not None and asked.model_id not in stored.models:
        problems.append("model: the deployment has no such model")
    return problems


def column_problems(stored: StoredDeployment, asked: Asked, table: Outline) -> list[str]:
    if asked.kind == BaselineKind.TRAINING:
        missing = missing_rule([part.name for part in counted_parts(stored)], table.columns)
        return [f"file: {missing}"] if missing else []
    if asked.kind != BaselineKind.HOLDOUT:
        return []
    problems = []
    settings, columns = stored.settings, asked.predictions
    if columns is None:
        problems.append("predictions: is required")
    elif rule := shape_rule(columns, settings.target_type, settings.class_names):
        problems.append(f"predictions: {rule}")
    elif missing := missing_rule(columns.names, table.columns):
        problems.append(f"predictions: {missing}")
    if asked.actuals is not None and (missing := missing_rule([asked.actuals], table.columns)):
        problems.append(f"actuals: {missing}")
    return problems


def period_problems(stored: StoredDeployment, asked: Asked, start: datetime, end: datetime) -> list[str]:
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
