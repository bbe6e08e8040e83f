"""Registering a deployment or changing it, and what is to be told of it.

Rules of a change: the target type stays; classes are only ever appended, since statistics name them by position; the
bins of a model stay as its first baseline made them. What is computed from a baseline is computed outside the
transaction; where the deployment has moved meanwhile, it is computed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from service.domain.deployment import ActualOrder, BatchPolicy, JoinSpec, LatePolicy, TargetType
from service.domain.errors import Conflict, NotFound
from service.domain.stats.histogram import FeatureLayout
from service.usecases.baselines import Baseline, count_baseline, describe_baseline, read_baseline
from service.usecases.deployment_description import DeploymentDescription, InvalidDescription, JoinPart
from service.usecases.durations import format_duration

ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSettings:
    """Everything about a deployment that a person decides."""

    id: str
    label: str
    description: str | None
    target_name: str | None
    target_type: TargetType | None
    class_names: tuple[str, ...]
    positive_class: str | None
    threshold: float
    model_id: str
    model_name: str
    features: tuple[Feature, ...]
    association_columns: tuple[str, ...]
    association_required: bool
    join: JoinSpec
    batch_enabled: bool
    batch_policy: BatchPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeployment:
    """A deployment at one version, with what it has learned."""

    settings: DeploymentSettings
    version: int
    origin: str
    created_at: datetime
    is_deleted: bool
    models: Mapping[str, str]
    """Name of each model, by ID."""
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


class Deployments(Protocol):
    """Where deployments are kept. Every method may raise `Unavailable`."""

    async def find(self, deployment_id: str) -> StoredDeployment | None:
        """Deleted ones, too."""

    async def save(self, settings: DeploymentSettings, baseline: Baseline | None, expected_version: int | None) -> int:
        """Write everything and return the new version, once no worker counts under the old one any more.

        Raises `VersionMoved`, with nothing written, where the version is not the expected one (None: no such
        deployment yet).
        """

    async def all(self) -> list[DeploymentSummary]:
        """Those that are not deleted, by ID."""


async def apply(deployments: Deployments, description: DeploymentDescription, directory: Path) -> Applied:
    """Register the deployment, or make the one of that ID what is described.

    The baseline's file is taken from `directory`. Raises `InvalidDescription`, or `Conflict` where a stored fact
    forbids the change.
    """
    baseline = description.baseline
    frame = read_baseline(directory / baseline.file, description.features) if baseline is not None else None
    for _ in range(ATTEMPTS):
        stored = await deployments.find(description.id)
        settings = _revised(description, stored)
        counted = None
        if baseline is not None and frame is not None:
            fixed = stored.layout_of(settings.model_id) if stored else FeatureLayout()
            counts = count_baseline(frame, description.features, fixed)
            counted = Baseline(model_id=settings.model_id, kind=baseline.kind, counted=counts)
        try:
            version = await deployments.save(settings, counted, stored.version if stored else None)
        except VersionMoved:
            continue
        return Applied(deployment_id=description.id, version=version, created=stored is None)
    raise Conflict(f"deployment {description.id} keeps changing; try again")


async def show(deployments: Deployments, deployment_id: str) -> StoredDeployment:
    """Raises `NotFound`."""
    stored = await deployments.find(deployment_id)
    if stored is None or stored.is_deleted:
        raise NotFound(f"there is no deployment {deployment_id!r}")
    return stored


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
        "threshold": settings.threshold,
        "model": {"id": settings.model_id, "name": settings.model_name},
        "features": [{"name": feature.name, "type": feature.type} for feature in settings.features],
        "associationIdColumns": list(settings.association_columns),
        "associationIdRequired": settings.association_required,
        "join": _described_join(settings.join),
        "batchMonitoring": {"enabled": settings.batch_enabled, "policy": settings.batch_policy},
        "origin": stored.origin,
        "version": stored.version,
        "createdAt": stored.created_at.isoformat(),
        "models": [{"id": model_id, "name": name} for model_id, name in stored.models.items()],
        "baselines": [{"modelId": baseline.model_id} | describe_baseline(baseline) for baseline in stored.baselines],
    }


def _revised(description: DeploymentDescription, stored: StoredDeployment | None) -> DeploymentSettings:
    if stored is not None:
        _check_change(description, stored)
    known = stored.settings.class_names if stored else ()
    classes = (*known, *(name for name in description.class_names if name not in known))
    target_type = TargetType(description.target_type)
    default = description.class_names[0] if target_type is TargetType.BINARY else None
    if stored is not None:
        default = stored.settings.positive_class
    return DeploymentSettings(
        id=description.id,
        label=description.label,
        description=description.description,
        target_name=description.target_name,
        target_type=target_type,
        class_names=classes,
        positive_class=description.positive_class or default,
        threshold=0.5 if description.threshold is None else description.threshold,
        model_id=description.model.id,
        model_name=description.model.name or description.model.id,
        features=tuple(Feature(name=feature.name, type=feature.type) for feature in description.features),
        association_columns=description.association_id_columns,
        association_required=description.association_id_required,
        join=_join_spec(description.join),
        batch_enabled=description.batch_monitoring.enabled,
        batch_policy=BatchPolicy(description.batch_monitoring.policy),
    )


def _check_change(description: DeploymentDescription, stored: StoredDeployment) -> None:
    if stored.is_deleted:
        raise Conflict(f"id: deployment {description.id!r} was deleted, and its ID is not used again")
    current = stored.settings
    if current.target_type is not None and current.target_type != description.target_type:
        raise InvalidDescription([f"targetType: is {current.target_type} and can not be changed"])
    lost = [name for name in current.class_names if name not in description.class_names]
    if lost:
        raise InvalidDescription(
            [f"classNames: must still hold {', '.join(lost)}; classes can be added, not taken away"]
        )
    if current.target_type is TargetType.BINARY and stored.origin == "registered":
        _check_judgement(description, current)


def _check_judgement(description: DeploymentDescription, current: DeploymentSettings) -> None:
    """A correction takes away the confusion count that the pair was given: both must be judged alike.

    A deployment that events made says how once, when it is registered; corrections of what was counted before then may
    be judged otherwise than they were.
    """
    positive = description.positive_class or current.positive_class
    threshold = 0.5 if description.threshold is None else description.threshold
    problems = []
    if positive != current.positive_class:
        problems.append(f"positiveClass: is {current.positive_class} and can not be changed")
    if threshold != current.threshold:
        problems.append(f"threshold: is {current.threshold:g} and can not be changed")
    if problems:
        raise InvalidDescription(problems)


_ORDERS: Final = {"eventTime": ActualOrder.EVENT_TIME, "arrival": ActualOrder.ARRIVAL}


def _join_spec(part: JoinPart) -> JoinSpec:
    return JoinSpec(
        window=part.window,
        grace=part.grace,
        allowed_lateness=part.allowed_lateness,
        early_ttl=part.early_ttl,
        idle_timeout=part.idle_timeout,
        max_future_skew=part.max_future_skew,
        late_policy=LatePolicy(part.late_policy),
        actual_order=_ORDERS[part.actual_order],
    )


def _described_join(join: JoinSpec) -> dict[str, str]:
    words = {order: word for word, order in _ORDERS.items()}
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
