"""What a deployment is, as far as a record's fate depends on it. Frozen: a change is a new version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import cached_property

from service.domain.instants import span_us
from service.domain.stats.histogram import FeatureLayout


class TargetType(StrEnum):
    REGRESSION = "Regression"
    BINARY = "Binary"
    MULTICLASS = "Multiclass"


class LatePolicy(StrEnum):
    """What an actual between `due` and `drop` does."""

    CORRECT = "correct"
    RECORD = "record"
    REJECT = "reject"


class ActualOrder(StrEnum):
    """Which of several actuals of one row is held: the newest by its own time, or the last received."""

    EVENT_TIME = "event_time"
    ARRIVAL = "arrival"


class BatchPolicy(StrEnum):
    NONE = "none"
    HOURLY = "hourly"
    DAILY = "daily"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """A `JoinSpec` in microseconds, as the loops over records need it."""

    window: int
    grace: int
    early_ttl: int
    allowed_lateness: int = 0
    idle_timeout: int = 0
    max_future_skew: int = 0
    by_arrival: bool
    late_policy: LatePolicy = LatePolicy.CORRECT


@dataclass(frozen=True, kw_only=True)  # no slots: `spans` is remembered
class JoinSpec:
    """How long a deployment waits, and which actual wins (spans of event time unless said otherwise)."""

    window: timedelta = timedelta(days=30)
    grace: timedelta = timedelta(days=60)
    allowed_lateness: timedelta = timedelta(minutes=10)
    early_ttl: timedelta = timedelta(days=90)
    idle_timeout: timedelta = timedelta(seconds=60)
    """Wall time."""
    max_future_skew: timedelta = timedelta(minutes=5)
    """Ahead of the record's Kafka timestamp."""
    late_policy: LatePolicy = LatePolicy.CORRECT
    actual_order: ActualOrder = ActualOrder.EVENT_TIME

    @cached_property
    def spans(self) -> Spans:
        return Spans(
            window=span_us(self.window),
            grace=span_us(self.grace),
            early_ttl=span_us(self.early_ttl),
            allowed_lateness=span_us(self.allowed_lateness),
            idle_timeout=span_us(self.idle_timeout),
            max_future_skew=span_us(self.max_future_skew),
            by_arrival=self.actual_order is ActualOrder.ARRIVAL,
            late_policy=self.late_policy,
        )


MAX_CLASSES = 1000
MAX_MODELS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One monitored deployment at one version.

    `target_type` is None until the first prediction of a deployment that events created. `class_index` gives each
    class its stable position; classes are only ever appended. `layouts` gives the feature bins of each model.
    """

    id: str
    version: int = 1
    target_type: TargetType | None = None
    class_index: Mapping[str, int] = field(default_factory=dict)
    classes_learned: bool = False
    positive_class: str | None = None
    threshold: float = 0.5
    current_model: str
    models: Mapping[str, float | None]
    """Threshold of each model; None means that of the deployment."""
    association_required: bool = False
    join: JoinSpec = JoinSpec()
    batch_enabled: bool = False
    batch_policy: BatchPolicy = BatchPolicy.NONE
    layouts: Mapping[str, FeatureLayout] = field(default_factory=dict)
    last_deletion: int = 0

    def threshold_of(self, model: str) -> float:
        own = self.models.get(model)
        return self.threshold if own is None else own
