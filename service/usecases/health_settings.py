"""When a deployment counts as healthy: what its next evaluation is judged by, with the rules for these values."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from service.domain.deployment import TargetType
from service.usecases.durations import parse_duration

MAX_BATCHES: Final = 100
_REGRESSION_LESS: Final = (
    *("MAE", "RMSE", "MAPE", "RMSLE", "MAD"),
    *("Poisson Deviance", "Gamma Deviance", "Tweedie Deviance"),
)
_REGRESSION_MORE: Final = ("R Squared", "FVE Poisson", "FVE Gamma", "FVE Tweedie")
_BINARY_LESS: Final = ("LogLoss", "FPR")
_BINARY_MORE: Final = (
    *("FVE Binomial", "Accuracy", "TPR", "TNR", "PPV", "F1", "Balanced Accuracy", "AUC", "Gini Norm"),
    *("Kolmogorov-Smirnov", "Rate@Top5%", "Rate@Top10%"),
)
METRICS: Final[Mapping[TargetType, tuple[str, ...]]] = {
    TargetType.REGRESSION: _REGRESSION_LESS + _REGRESSION_MORE,
    TargetType.BINARY: _BINARY_LESS + _BINARY_MORE,
    TargetType.MULTICLASS: ("LogLoss", "FVE Multinomial", "FVE Binomial"),
}
LESS_IS_BETTER: Final = frozenset(_REGRESSION_LESS + _BINARY_LESS)
_SHORTEST: Final = timedelta(hours=1)
_LONGEST: Final = timedelta(days=365)
_CALENDAR: Final = re.compile(r"P(?:(?P<years>\d{1,6})Y)?(?:(?P<months>\d{1,6})M)?(?P<rest>(?:\d+[WD])*(?:T.+)?)")


class Interval(StrEnum):
    """How far back drift and accuracy look."""

    TWO_HOURS = "PT2H"
    DAY = "P1D"
    WEEK = "P7D"
    MONTH = "P30D"
    QUARTER = "P90D"


class Measurement(StrEnum):
    PERCENT = "percent"
    VALUE = "value"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLimits:
    batch_count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftLimits:
    """A count that is None never triggers."""

    time_interval: Interval = Interval.WEEK
    batch_count: int = 1
    drift_threshold: float = 0.2
    importance_threshold: float = 0.5
    low_importance_warning_count: int | None = 3
    low_importance_failing_count: int | None = 6
    high_importance_warning_count: int | None = 1
    high_importance_failing_count: int | None = 3
    excluded_features: tuple[str, ...] = ()
    starred_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyLimits:
    """Without a metric, that of the target type."""

    batch_count: int = 1
    metric: str | None = None
    measurement: Measurement = Measurement.PERCENT
    warning_threshold: float | None = 5.0
    failing_threshold: float | None = 15.0

    def metric_for(self, target_type: TargetType | None) -> str:
        return self.metric or ("RMSE" if target_type is TargetType.REGRESSION else "LogLoss")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelinessLimits:
    enabled: bool = False
    expected_frequency: str | None = None
    """As it was sent; `parse_frequency` reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    service: ServiceLimits = ServiceLimits()
    drift: DriftLimits = DriftLimits()
    accuracy: AccuracyLimits = AccuracyLimits()
    predictions_timeliness: TimelinessLimits = TimelinessLimits()
    actuals_timeliness: TimelinessLimits = TimelinessLimits()


def parse_frequency(text: str) -> timedelta:
    """A duration that may speak of years (365 days) and months (30 days). Raises ValueError with the rule it breaks."""
    found = _CALENDAR.fullmatch(text)
    if found is None or not (found["years"] or found["months"]):
        span = parse_duration(text)
    else:
        days = int(found["years"] or 0) * 365 + int(found["months"] or 0) * 30
        span = timedelta(days=days) + (parse_duration("P" + found["rest"]) if found["rest"] else timedelta())
    if not _SHORTEST <= span <= _LONGEST:
        raise ValueError("must be between PT1H and P1Y")
    return span


def health_problems(new: HealthSettings, target_type: TargetType | None) -> Iterator[str]:
    """What is wrong with the values together; each by itself is sound."""
    drift = new.drift
    pairs = {
        "lowImportance": (drift.low_importance_warning_count, drift.low_importance_failing_count),
        "highImportance": (drift.high_importance_warning_count, drift.high_importance_failing_count),
    }
    for name, (warning, failing) in pairs.items():
        if warning is not None and failing is not None and warning > failing:
            yield f"dataDrift.{name}WarningCount: must be at most {name}FailingCount"
    if both := sorted(set(drift.excluded_features) & set(drift.starred_features)):
        yield f"dataDrift.starredFeatures: must not hold what is excluded, as {both[0]!r}"
    yield from _accuracy_problems(new.accuracy, target_type)
    timeliness = {"predictionsTimeliness": new.predictions_timeliness, "actualsTimeliness": new.actuals_timeliness}
    for name, limits in timeliness.items():
        if limits.enabled and limits.expected_frequency is None:
            yield f"{name}.expectedFrequency: is required when enabled"


def _accuracy_problems(limits: AccuracyLimits, target_type: TargetType | None) -> Iterator[str]:
    metric = limits.metric_for(target_type)
    fitting = METRICS[target_type] if target_type else tuple(name for names in METRICS.values() for name in names)
    if metric not in fitting:
        yield f"accuracy.metric: must be one of {', '.join(dict.fromkeys(fitting))}"
        return
    warning, failing = limits.warning_threshold, limits.failing_threshold
    if warning is None or failing is None:
        return
    rises = limits.measurement is Measurement.PERCENT or metric in LESS_IS_BETTER
    if rises and warning > failing:
        yield "accuracy.warningThreshold: must be at most failingThreshold"
    if not rises and warning < failing:
        yield f"accuracy.warningThreshold: must be at least failingThreshold, since more {metric} is better"
