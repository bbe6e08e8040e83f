"""A deployment as this dialect shows it."""

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from service.api.datarobot.deployment_settings import Settings, shown_settings
from service.api.datarobot.fields import Instant, Shown
from service.domain.deployment import TargetType
from service.usecases.access import Principal
from service.usecases.deployment_views import BaselineSummary, DeploymentView, Health, HealthStatus

PREDICTION_SERVER: Final = "686e64736967687400000001"
"""ID of the one place where a deployment is reached: this service."""


class ModelShown(Shown):
    id: str = Field(examples=["gbm-1"])
    name: str = Field(examples=["gbm 1"])
    type: str = "external"
    target_name: str | None = Field(examples=["readmitted"])
    target_type: TargetType | None
    class_names: tuple[str, ...] = Field(examples=[["True", "False"]])
    positive_class: str | None
    threshold: float | None
    """From which probability of the positive class on a row counts as positive; null unless binary."""
    is_external: bool = True
    is_time_series: bool = False


class FeatureShown(Shown):
    name: str = Field(examples=["age"])
    type: str = Field(examples=["numeric"])
    impact: float | None = Field(examples=[0.9])


class BaselineShown(Shown):
    id: str
    kind: str
    model_id: str
    rows: int
    method: str
    version: int
    created_at: Instant


class PredictionServer(Shown):
    id: str
    url: str


class PredictionUsage(Shown):
    daily_rates: Sequence[int] = Field(examples=[[0, 0, 12, 40, 0, 0, 7]])
    """Rows of each of the last seven days in UTC, today last."""
    last_timestamp: Instant | None


class Capabilities(Shown):
    supports_feature_drift_tracking: bool = True
    supports_target_drift_tracking: bool = True
    supports_model_replacement: bool = False


class HealthShown(Shown):
    status: HealthStatus
    start_date: Instant | None
    end_date: Instant | None
    message: str
    evaluated_at: Instant | None


class DeploymentObject(Shown):
    """A deployment."""

    id: str = Field(examples=["readmission-eu"])
    label: str = Field(examples=["Readmission"])
    description: str | None
    status: str = "active"
    created_at: Instant
    model: ModelShown
    features: Sequence[FeatureShown]
    baselines: Sequence[BaselineShown]
    default_prediction_server: PredictionServer
    prediction_usage: PredictionUsage
    permissions: Sequence[str] = Field(examples=[["CAN_VIEW", "CAN_EDIT", "CAN_SUBMIT_ACTUALS"]])
    capabilities: Capabilities = Capabilities()
    service_health: HealthShown
    model_health: HealthShown
    accuracy_health: HealthShown
    predictions_timeliness_health: HealthShown
    actuals_timeliness_health: HealthShown
    settings: Settings


def shown_deployment(view: DeploymentView, caller: Principal, origin: str) -> DeploymentObject:
    settings = view.settings
    return DeploymentObject(
        id=settings.id,
        label=settings.label,
        description=settings.description,
        created_at=view.created_at,
        model=_model(view),
        features=[FeatureShown(name=one.name, type=one.type, impact=one.impact) for one in settings.features],
        baselines=[_baseline(baseline) for baseline in view.baselines],
        default_prediction_server=PredictionServer(id=PREDICTION_SERVER, url=origin),
        prediction_usage=PredictionUsage(daily_rates=view.daily_rates, last_timestamp=view.last_prediction_at),
        permissions=("CAN_VIEW", "CAN_EDIT", "CAN_SUBMIT_ACTUALS") if caller.may_write else ("CAN_VIEW",),
        service_health=_health(view.service_health),
        model_health=_health(view.model_health),
        accuracy_health=_health(view.accuracy_health),
        predictions_timeliness_health=_health(view.predictions_timeliness),
        actuals_timeliness_health=_health(view.actuals_timeliness),
        settings=shown_settings(settings.monitoring),
    )


def _model(view: DeploymentView) -> ModelShown:
    settings = view.settings
    is_binary = settings.target_type is TargetType.BINARY
    return ModelShown(
        id=settings.model_id,
        name=settings.model_name,
        target_name=settings.target_name,
        target_type=settings.target_type,
        class_names=settings.class_names,
        positive_class=settings.positive_class if is_binary else None,
        threshold=settings.effective_threshold if is_binary else None,
    )


def _baseline(baseline: BaselineSummary) -> BaselineShown:
    return BaselineShown(
        id=baseline.id,
        kind=baseline.kind,
        model_id=baseline.model_id,
        rows=baseline.rows,
        method=baseline.method,
        version=baseline.version,
        created_at=baseline.created_at,
    )


def _health(health: Health) -> HealthShown:
    return HealthShown(
        status=health.status,
        start_date=health.start,
        end_date=health.end,
        message=health.message,
        evaluated_at=health.evaluated_at,
    )
