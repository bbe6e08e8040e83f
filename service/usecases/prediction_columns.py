"""Which columns of a file hold the predictions of its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.domain.deployment import TargetType

MAX_CLASSES: Final = 1_000


@dataclass(frozen=True, slots=True)
class PredictionColumns:
    """One column with numbers, or a column for each class with its probabilities."""

    names: tuple[str, ...]
    labels: tuple[str, ...] = ()
    """The class of each column; none for a regression."""


def shape_rule(columns: PredictionColumns, target_type: TargetType | None, class_names: Sequence[str]) -> str | None:
    """The rule that these columns break, for a deployment of that type."""
    if target_type is None:
        return "the type of the deployment's target is not known before its first prediction"
    if target_type is TargetType.REGRESSION:
        return "must be the name of one column, for a regression" if columns.labels else None
    if not columns.labels:
        return "must name a column for each class"
    if set(columns.labels) != set(class_names):
        return f"must name the classes of the deployment: {', '.join(class_names[:10])}"
    return None


def missing_rule(names: Sequence[str], there: Sequence[str]) -> str | None:
    """The rule that is broken where the file lacks a column."""
    missing = [repr(name[:256]) for name in names if name not in there]
    return f"the file has no column {', '.join(missing[:20])}" if missing else None
