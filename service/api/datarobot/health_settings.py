"""By what the health of a deployment is judged: looked at, and changed key by key."""

from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from service.api.core.bodies import BadBody, JsonBody
from service.api.core.deps import Deps
from service.api.datarobot.fields import Body, Json, Shown
from service.api.datarobot.gate import Visible, Writable
from service.api.datarobot.merging import merged
from service.api.datarobot.texts import Name, Text, one_of
from service.usecases import deployment_changes
from service.usecases.deployments import DeploymentSettings, show
from service.usecases.health_settings import (
    MAX_BATCHES,
    HealthSettings,
    Interval,
    Measurement,
    parse_frequency,
)

router = APIRouter(tags=["deployments"])


def _frequency(text: str) -> str:
    try:
        parse_frequency(text)
    except ValueError as error:
        raise PydanticCustomError("frequency", "{rule}", {"rule": str(error)}) from None
    return text


BatchCount = Annotated[int, Field(ge=1, le=MAX_BATCHES)]
Count = Annotated[int, Field(ge=1, le=1 << 31)]
_COUNTS: Final = (
    "low_importance_warning_count",
    "low_importance_failing_count",
    "high_importance_warning_count",
    "high_importance_failing_count",
)
_THRESHOLDS: Final = ("warning_threshold", "failing_threshold")


class ServicePart(Body):
    batch_count: BatchCount | None = None


class DriftPart(Body):
    time_interval: Annotated[Interval, one_of(Interval, *Interval)] | None = None
    batch_count: BatchCount | None = None
    drift_threshold: Annotated[float, Field(ge=0)] | None = Field(None, examples=[0.25])
    importance_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    low_importance_warning_count: Count | None = None
    """Of these four, null never triggers."""
    low_importance_failing_count: Count | None = None
    high_importance_warning_count: Count | None = None
    high_importance_failing_count: Count | None = None
    excluded_features: tuple[Name, ...] | None = Field(None, examples=[["age"]])
    starred_features: tuple[Name, ...] | None = None


class AccuracyPart(Body):
    batch_count: BatchCount | None = None
    metric: Text | None = Field(None, examples=["LogLoss"])
    measurement: Annotated[Measurement, one_of(Measurement, *Measurement)] | None = None
    warning_threshold: float | None = None
    """Null never triggers."""
    failing_threshold: float | None = None


class TimelinessPart(Body):
    enabled: bool | None = None
    expected_frequency: Annotated[str, AfterValidator(_frequency)] | None = Field(None, examples=["P1D"])


class HealthPart(Body):
    """Any subset; null for a group resets it."""

    service: ServicePart | None = None
    data_drift: DriftPart | None = None
    accuracy: AccuracyPart | None = None
    predictions_timeliness: TimelinessPart | None = None
    actuals_timeliness: TimelinessPart | None = None


_GROUPS: Final = {
    "service": "service",
    "data_drift": "drift",
    "accuracy": "accuracy",
    "predictions_timeliness": "predictions_timeliness",
    "actuals_timeliness": "actuals_timeliness",
}


def merged_health(old: HealthSettings, part: HealthPart) -> HealthSettings:
    """What a PATCH makes of these."""
    groups = {
        ours: merged(getattr(old, ours), getattr(part, theirs), nullable=(*_COUNTS, *_THRESHOLDS))
        for theirs, ours in _GROUPS.items()
        if theirs in part.model_fields_set
    }
    return replace(old, **groups)


class ServiceShown(Shown):
    batch_count: int


class DriftShown(Shown):
    time_interval: Interval
    batch_count: int
    drift_threshold: float
    importance_threshold: float
    low_importance_warning_count: int | None
    low_importance_failing_count: int | None
    high_importance_warning_count: int | None
    high_importance_failing_count: int | None
    excluded_features: tuple[str, ...]
    starred_features: tuple[str, ...]


class AccuracyShown(Shown):
    batch_count: int
    metric: str
    measurement: Measurement
    warning_threshold: float | None
    failing_threshold: float | None


class TimelinessShown(Shown):
    enabled: bool
    expected_frequency: str | None


class HealthLimits(Shown):
    """By what the health of a deployment is judged."""

    service: ServiceShown
    data_drift: DriftShown
    accuracy: AccuracyShown
    predictions_timeliness: TimelinessShown
    actuals_timeliness: TimelinessShown


def _shown(settings: DeploymentSettings) -> HealthLimits:
    health = settings.health
    accuracy = health.accuracy
    return HealthLimits(
        service=ServiceShown(batch_count=health.service.batch_count),
        data_drift=DriftShown.model_validate(health.drift, from_attributes=True),
        accuracy=AccuracyShown(
            batch_count=accuracy.batch_count,
            metric=accuracy.metric_for(settings.target_type),
            measurement=accuracy.measurement,
            warning_threshold=accuracy.warning_threshold,
            failing_threshold=accuracy.failing_threshold,
        ),
        predictions_timeliness=TimelinessShown.model_validate(health.predictions_timeliness, from_attributes=True),
        actuals_timeliness=TimelinessShown.model_validate(health.actuals_timeliness, from_attributes=True),
    )


@router.get("/deployments/{deploymentId}/healthSettings/", response_model=HealthLimits)
async def get_health_settings(deployment_id: Visible, api: Deps) -> Json:
    """All of them, with their defaults."""
    return Json(_shown((await show(api.deployments, deployment_id)).settings))


@router.patch("/deployments/{deploymentId}/healthSettings/", response_model=HealthLimits)
async def update_health_settings(
    deployment_id: Writable, api: Deps, body: Annotated[HealthPart, Depends(JsonBody(HealthPart))]
) -> Json:
    """The next evaluation goes by them."""
    if not body.model_fields_set:
        raise BadBody(422, "The body must hold a group of health settings.")
    settings = await deployment_changes.update_health(
        api.deployments, deployment_id, lambda old: merged_health(old, body)
    )
    return Json(_shown(settings))
