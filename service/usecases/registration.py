"""Registering a deployment: rows are accepted as soon as that has returned."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from service.domain.deployment import TargetType
from service.domain.errors import Conflict, Invalid
from service.usecases.access import Principal
from service.usecases.deployment_description import problems_between_fields
from service.usecases.deployment_settings import (
    MonitoringSettings,
    StatusRetention,
    retention_problems,
    setting_problems,
)
from service.usecases.deployments import Deployments, DeploymentSettings, Feature, VersionMoved
from service.usecases.object_ids import new_object_id

DEFAULT_THRESHOLD: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What somebody asks for; an ID that is None is made up."""

    id: str | None
    label: str
    description: str | None
    target_name: str
    target_type: TargetType
    class_names: tuple[str, ...]
    positive_class: str | None
    threshold: float | None
    model_id: str | None
    model_name: str
    features: tuple[Feature, ...]
    monitoring: MonitoringSettings
    accuracy_aggregation: bool


async def register(
    deployments: Deployments, retention: StatusRetention, principal: Principal, asked: Registration
) -> DeploymentSettings:
    """The new deployment, in the organisation of whoever asks.

    Raises `Invalid` with every rule that is broken, or `Conflict` where the ID is taken, by whomever, or ever was.
    """
    problems = [*_problems(asked), *await retention_problems(asked.monitoring.join, retention)]
    if problems:
        raise Invalid("\n".join(problems))
    settings = _settings(asked, principal.organisation)
    try:
        await deployments.save(settings, None, None)
    except VersionMoved:
        raise Conflict(f"id: {settings.id} is taken") from None
    return settings


def described(
    *,
    target_type: TargetType | None,
    class_names: tuple[str, ...],
    positive_class: str | None,
    threshold: float | None,
    features: tuple[Feature, ...],
) -> dict[str, Any]:
    """In the keys of a description, for the rules between them."""
    return {
        "targetType": target_type,
        "classNames": list(class_names),
        "positiveClass": positive_class,
        "threshold": threshold,
        "features": [{"name": feature.name} for feature in features],
    }


def _problems(asked: Registration) -> Iterator[str]:
    yield from problems_between_fields(
        described(
            target_type=asked.target_type,
            class_names=asked.class_names,
            positive_class=asked.positive_class,
            threshold=asked.threshold,
            features=asked.features,
        )
    )
    yield from setting_problems(asked.monitoring)


def _settings(asked: Registration, organisation: str) -> DeploymentSettings:
    first = asked.class_names[0] if asked.target_type is TargetType.BINARY else None
    return DeploymentSettings(
        id=asked.id or new_object_id(),
        label=asked.label,
        description=asked.description,
        target_name=asked.target_name,
        target_type=asked.target_type,
        class_names=asked.class_names,
        positive_class=asked.positive_class or first,
        threshold=DEFAULT_THRESHOLD if asked.threshold is None else asked.threshold,
        model_id=asked.model_id or new_object_id(),
        model_name=asked.model_name,
        features=asked.features,
        monitoring=asked.monitoring,
        accuracy_aggregation=asked.accuracy_aggregation,
        organisation=organisation,
    )
