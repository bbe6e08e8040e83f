"""How a deployment is monitored, as far as people may change it: groups of settings, their defaults and their rules.

A rule names the field that breaks it by its path, as callers know it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

from service.domain.deployment import BatchPolicy, JoinSpec
from service.usecases.durations import format_duration

MAX_COLUMNS: Final = 1
MAX_TRACKED: Final = 200
MAX_SEGMENTS: Final = 10
_LEAST_WINDOW: Final = timedelta(minutes=1)
_LEAST_LIFE: Final = timedelta(days=90)
"""That long a row may live over any status topic: the worker refuses one that keeps less than 30 days more."""
_AFTER_THE_LAST: Final = timedelta(days=30)
"""What is kept of a row must outlive the row, with room to spare."""


class FeatureSelection(StrEnum):
    AUTO = "auto"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Which column of a prediction's source names its row."""

    columns: tuple[str, ...] = ()
    required: bool = False
    auto_generate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDriftSettings:
    enabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDriftSettings:
    enabled: bool = False
    selection: FeatureSelection = FeatureSelection.AUTO
    tracked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    enabled: bool = False
    policy: BatchPolicy = BatchPolicy.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRowSettings:
    """Whether a sample of the rows as they came is kept."""

    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSettings:
    enabled: bool = False
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings:
    association: Association = Association()
    target_drift: TargetDriftSettings = TargetDriftSettings()
    feature_drift: FeatureDriftSettings = FeatureDriftSettings()
    batches: BatchSettings = BatchSettings()
    join: JoinSpec = JoinSpec()
    raw_rows: RawRowSettings = RawRowSettings()
    segments: SegmentSettings = SegmentSettings()
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Groups without any effect here, by the name under which a caller keeps them: told again as they were sent."""


class StatusRetention(Protocol):
    """How long the status topic, from which rows are restored, keeps them."""

    async def kept_for(self) -> timedelta | None:
        """None: for good, or the broker does not tell. Raises `Unavailable`."""


def setting_problems(new: MonitoringSettings, old: MonitoringSettings | None = None) -> Iterator[str]:
    """What is wrong with the settings. Columns that stay as they are need not follow a rule that came later."""
    association = new.association
    if len(association.columns) > MAX_COLUMNS and (old is None or old.association.columns != association.columns):
        yield f"associationId.columnNames: must hold at most {MAX_COLUMNS} name"
    if association.required and association.auto_generate:
        yield "associationId.autoGenerateId: can not be true together with requiredInPredictionRequests"
    drift = new.feature_drift
    if len(drift.tracked) > MAX_TRACKED:
        yield f"featureDrift.trackedFeatures: must hold at most {MAX_TRACKED} names"
    if drift.selection is FeatureSelection.MANUAL and not drift.tracked:
        yield "featureDrift.trackedFeatures: is required for featureSelection manual"
    if len(new.segments.attributes) > MAX_SEGMENTS:
        yield f"segmentAnalysis.attributes: must hold at most {MAX_SEGMENTS} names"
    if new.join.window < _LEAST_WINDOW:
        yield f"join.window: must be at least {format_duration(_LEAST_WINDOW)}"


async def retention_problems(new: JoinSpec, retention: StatusRetention, old: JoinSpec | None = None) -> Sequence[str]:
    """Rows must not outlive what they are restored from. Asks only where they would live longer than they may anyway,
    and than they do. Raises `Unavailable`.
    """
    lives = {"join.grace": new.window + new.grace, "join.earlyTtl": new.early_ttl}
    known = _LEAST_LIFE if old is None else max(_LEAST_LIFE, old.window + old.grace, old.early_ttl)
    if max(lives.values()) <= known:
        return ()
    kept = await retention.kept_for()
    if kept is None:
        return ()
    most = max(kept - _AFTER_THE_LAST, timedelta())
    told = {"join.grace": "window and grace together", "join.earlyTtl": "it"}
    return [
        f"{name}: {told[name]} may be at most {format_duration(most)}, the retention of the status topic less"
        f" {format_duration(_AFTER_THE_LAST)}"
        for name, life in lives.items()
        if life > most
    ]
