"""Making a deployment what its description says: registering it, or changing it.

What is computed from a baseline is computed outside the transaction; where the deployment has moved meanwhile, it is
computed again. Settings that a description does not know stay as they are.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final

from service.domain.deployment import MAX_MODELS, BatchPolicy, JoinSpec, LatePolicy, TargetType
from service.domain.errors import Conflict
from service.domain.stats.histogram import FeatureLayout
from service.usecases.access import DEFAULT_ORGANISATION
from service.usecases.baselines import Baseline, count_baseline, read_baseline
from service.usecases.deployment_description import DeploymentDescription, InvalidDescription, JoinPart
from service.usecases.deployment_settings import BatchSettings, MonitoringSettings
from service.usecases.deployments import (
    ATTEMPTS,
    ORDERS,
    Applied,
    Deployments,
    DeploymentSettings,
    Feature,
    StoredDeployment,
    VersionMoved,
    moving,
)
from service.usecases.health_settings import HealthSettings

_THRESHOLD: Final = 0.5


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
    raise moving(description.id)


def _revised(description: DeploymentDescription, stored: StoredDeployment | None) -> DeploymentSettings:
    if stored is not None:
        _check_change(description, stored)
    current = stored.settings if stored else None
    known = current.class_names if current else ()
    target_type = TargetType(description.target_type)
    default = description.class_names[0] if target_type is TargetType.BINARY else None
    told = _THRESHOLD if description.threshold is None else description.threshold
    base = told if current is None or current.is_open("threshold") else current.threshold
    return DeploymentSettings(
        id=description.id,
        label=description.label,
        description=description.description,
        target_name=description.target_name,
        target_type=target_type,
        class_names=(*known, *(name for name in description.class_names if name not in known)),
        positive_class=description.positive_class or (current.positive_class if current else default),
        threshold=base,
        model_id=description.model.id,
        model_name=description.model.name or description.model.id,
        model_threshold=_model_threshold(description, stored, base),
        features=tuple(
            Feature(name=feature.name, type=feature.type, impact=feature.impact) for feature in description.features
        ),
        monitoring=_monitoring(description, current.monitoring if current else MonitoringSettings()),
        health=current.health if current else HealthSettings(),
        accuracy_aggregation=current is not None and current.accuracy_aggregation,
        organisation=current.organisation if current else DEFAULT_ORGANISATION,
    )


def _monitoring(description: DeploymentDescription, current: MonitoringSettings) -> MonitoringSettings:
    batches = description.batch_monitoring
    return replace(
        current,
        association=replace(
            current.association,
            columns=description.association_id_columns,
            required=description.association_id_required,
            auto_generate=current.association.auto_generate and not description.association_id_required,
        ),
        join=_join_spec(description.join),
        batches=BatchSettings(enabled=batches.enabled, policy=BatchPolicy(batches.policy)),
    )


def _model_threshold(description: DeploymentDescription, stored: StoredDeployment | None, base: float) -> float | None:
    """Its own, where it is not that of the deployment. A model that is new takes over that of the one before it."""
    model = description.model.id
    if stored is None:
        return None
    if model in stored.models:
        return stored.thresholds.get(model)
    told = stored.settings.model_threshold if description.threshold is None else description.threshold
    return None if told == base else told


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
    if description.model.id not in stored.models and len(stored.models) >= MAX_MODELS:
        raise InvalidDescription([f"model.id: is new, and the deployment has {MAX_MODELS} models already"])
    if current.target_type is TargetType.BINARY:
        _check_judgement(description, stored)


def _check_judgement(description: DeploymentDescription, stored: StoredDeployment) -> None:
    """A correction takes away the confusion count that the pair was given: both must be judged alike.

    A deployment that events made says how once; corrections of what was counted before then may be judged otherwise
    than they were.
    """
    current, model = stored.settings, description.model.id
    positive = description.positive_class or current.positive_class
    problems = []
    if positive != current.positive_class and not current.is_open("positiveClass"):
        problems.append(f"positiveClass: is {current.positive_class} and can not be changed")
    own = stored.thresholds.get(model)
    known = current.threshold if own is None else own
    is_settled = model in stored.models and not (own is None and current.is_open("threshold"))
    if is_settled and description.threshold not in (None, known):
        problems.append(f"threshold: is {known:g} and can not be changed")
    if problems:
        raise InvalidDescription(problems)


def _join_spec(part: JoinPart) -> JoinSpec:
    return JoinSpec(
        window=part.window,
        grace=part.grace,
        allowed_lateness=part.allowed_lateness,
        early_ttl=part.early_ttl,
        idle_timeout=part.idle_timeout,
        max_future_skew=part.max_future_skew,
        late_policy=LatePolicy(part.late_policy),
        actual_order=ORDERS[part.actual_order],
    )
