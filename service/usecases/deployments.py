"""Deployments as they are kept, the port to where they are kept, and what is to be told of them.

Rules of every change: the target type stays; classes are only ever appended, since statistics name them by position;
a model keeps the threshold by which its pairs were judged, and the bins that its first baseline made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from service.domain.deployment import ActualOrder, BatchPolicy, JoinSpec, TargetType
from service.domain.errors import Conflict, NotFound
from service.domain.stats.histogram import FeatureLayout
from service.usecases.access import DEFAULT_ORGANISATION
from service.usecases.baselines import Baseline, describe_baseline
from service.usecases.deployment_settings import MonitoringSettings
from service.usecases.durations import format_duration
from service.usecases.health_settings import HealthSettings

ATTEMPTS: Final = 5
REGISTERED: Final = "registered"
FROM_EVENTS: Final = "events"
FACTS: Final = ("targetName", "classNames", "positiveClass", "threshold")
"""What events do not carry: of a deployment that they made, a person may tell each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    name: str
    type: str
    impact: float | None = None
    """How much the model goes by it, from 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """Everything about a deployment that a person decides."""

    id: str
    label: str
    description: str | None
    target_name: str | None
    target_type: TargetType | None
    class_names: tuple[str, ...]
    classes_learned: bool = False
    """Whether rows bring new classes along."""
    positive_class: str | None
    threshold: float
    """Of the models that have none of their own."""
    model_id: str
    model_name: str
    model_threshold: float | None = None
    model_reason: str | None = None
    """Why the model has taken the place of another. None when it is saved: it stays what it was."""
    features: tuple[Feature, ...]
    monitoring: MonitoringSettings = MonitoringSettings()
    health: HealthSettings = HealthSettings()
    accuracy_aggregation: bool = False
    organisation: str = DEFAULT_ORGANISATION
    origin: str = REGISTERED
    told: frozenset[str] = frozenset()
    """Those of `FACTS` that a person has told, where events made the deployment."""

    @property
    def effective_threshold(self) -> float:
        """By which the current model is judged."""
        return self.threshold if self.model_threshold is None else self.model_threshold

    @property
    def association_columns(self) -> tuple[str, ...]:
        return self.monitoring.association.columns

    @property
    def association_required(self) -> bool:
        return self.monitoring.association.required

    @property
    def join(self) -> JoinSpec:
        return self.monitoring.join

    @property
    def batch_enabled(self) -> bool:
        return self.monitoring.batches.enabled

    @property
    def batch_policy(self) -> BatchPolicy:
        return self.monitoring.batches.policy

    def is_open(self, fact: str) -> bool:
        """Whether a person may still tell it."""
        return self.origin == FROM_EVENTS and fact not in self.told


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeployment:
    """A deployment at one version, with what it has learned."""

    settings: DeploymentSettings
    version: int
    created_at: datetime
    is_deleted: bool
    models: Mapping[str, str]
    """Name of each model, by ID."""
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    """Of the models that have one of their own."""
    baselines: Sequence[Baseline]

    def layout_of(self, model_id: str) -> FeatureLayout:
        """The bins of a model: of its baselines, which begin alike, those of the one that has most."""
        layouts = [baseline.counted.layout for baseline in self.baselines if baseline.model_id == model_id]
        return max(layouts, key=lambda layout: layout.slots, default=FeatureLayout())


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSummary:
    id: str
    label: str
    origin: str
    target_type: TargetType | None
    model_id: str
    version: int
    created_at: datetime
    batches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    deployment_id: str
    version: int
    created: bool


class VersionMoved(Exception):
    """The deployment is not at the version on which a change was computed."""


class BeingChanged(Exception):
    """Somebody else writes settings of the deployment at this moment."""


class Associated(Exception):
    """Rows are already known by what the association names."""


class Deployments(Protocol):
    """Where deployments are kept. Every method may raise `Unavailable`."""

    async def find(self, deployment_id: str) -> StoredDeployment | None:
        """Deleted ones, too."""

    async def save(self, settings: DeploymentSettings, baseline: Baseline | None, expected_version: int | None) -> int:
        """Write everything and return the new version, once no worker counts under the old one any more.

        Raises `VersionMoved`, with nothing written, where the version is not the expected one (None: no such
        deployment yet).
        """

    async def save_settings(
        self, settings: DeploymentSettings, expected_version: int, *, moves_association: bool
    ) -> int:
        """As `save`, for a change of how the deployment is monitored, of which there is one at a time.

        Raises `BeingChanged` at once where another is being written, and, where the association moves, `Associated`
        once a prediction was accepted by the old one.
        """

    async def delete(self, deployment_id: str) -> bool:
        """Whether there was such a deployment. It is gone at once, for workers too; its ID is never free again."""

    async def all(self) -> list[DeploymentSummary]:
        """Those that are not deleted, by ID."""


async def show(deployments: Deployments, deployment_id: str) -> StoredDeployment:
    """Raises `NotFound`."""
    stored = await deployments.find(deployment_id)
    if stored is None or stored.is_deleted:
        raise NotFound(f"there is no deployment {deployment_id!r}")
    return stored


async def revise(
    deployments: Deployments,
    deployment_id: str,
    revised: Callable[[StoredDeployment], DeploymentSettings],
) -> DeploymentSettings:
    """Write what `revised` makes of the deployment as it stands, anew where somebody else was quicker.

    Raises `NotFound`, `Conflict`, and what `revised` raises.
    """
    for _ in range(ATTEMPTS):
        stored = await show(deployments, deployment_id)
        settings = revised(stored)
        try:
            await deployments.save(settings, None, stored.version)
        except VersionMoved:
            continue
        return settings
    raise moving(deployment_id)


def moving(deployment_id: str) -> Conflict:
    return Conflict(f"deployment {deployment_id} keeps changing; try again")


def describe(stored: StoredDeployment) -> dict[str, Any]:
    """A stored deployment in the words of its description, with what it has learned; ready for JSON."""
    settings = stored.settings
    return {
        "id": settings.id,
        "label": settings.label,
        "description": settings.description,
        "targetName": settings.target_name,
        "targetType": settings.target_type,
        "classNames": list(settings.class_names),
        "positiveClass": settings.positive_class,
        "threshold": settings.effective_threshold,
        "model": {"id": settings.model_id, "name": settings.model_name},
        "features": [_described_feature(feature) for feature in settings.features],
        "associationIdColumns": list(settings.association_columns),
        "associationIdRequired": settings.association_required,
        "join": _described_join(settings.join),
        "batchMonitoring": {"enabled": settings.batch_enabled, "policy": settings.batch_policy},
        "origin": settings.origin,
        "version": stored.version,
        "createdAt": stored.created_at.isoformat(),
        "models": [{"id": model_id, "name": name} for model_id, name in stored.models.items()],
        "baselines": [{"modelId": baseline.model_id} | describe_baseline(baseline) for baseline in stored.baselines],
    }


def _described_feature(feature: Feature) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": feature.name, "type": feature.type}
    return plain if feature.impact is None else plain | {"impact": feature.impact}


ORDERS: Final = {"eventTime": ActualOrder.EVENT_TIME, "arrival": ActualOrder.ARRIVAL}


def _described_join(join: JoinSpec) -> dict[str, str]:
    words = {order: word for word, order in ORDERS.items()}
    return {
        "window": format_duration(join.window),
        "grace": format_duration(join.grace),
        "allowedLateness": format_duration(join.allowed_lateness),
        "earlyTtl": format_duration(join.early_ttl),
        "idleTimeout": format_duration(join.idle_timeout),
        "maxFutureSkew": format_duration(join.max_future_skew),
        "latePolicy": join.late_policy,
        "actualOrder": words[join.actual_order],
    }


def summarise(deployment: DeploymentSummary) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "id": deployment.id,
        "label": deployment.label,
        "origin": deployment.origin,
        "targetType": deployment.target_type,
        "modelId": deployment.model_id,
        "version": deployment.version,
        "createdAt": deployment.created_at.isoformat(),
        "batches": deployment.batches,
    }
