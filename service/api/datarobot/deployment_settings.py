"""How a deployment is monitored: looked at, and changed key by key."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from service.api.core.authentication import Caller
from service.api.core.bodies import BadBody, JsonBody
from service.api.core.deps import Deps
from service.api.datarobot.fields import Body, Json, Shown
from service.api.datarobot.gate import Visible, Writable
from service.api.datarobot.merging import merged
from service.api.datarobot.statuses import Accepted, accepted
from service.api.datarobot.texts import Kept, Name, Span, one_of
from service.domain.deployment import ActualOrder, BatchPolicy, LatePolicy
from service.usecases import deployment_changes
from service.usecases.deployment_settings import FeatureSelection, MonitoringSettings
from service.usecases.deployments import ORDERS, show
from service.usecases.durations import format_duration
from service.usecases.status_tasks import TaskKind, finished_task

router = APIRouter(tags=["deployments"])
_ORDER_WORDS: Final = {order: word for word, order in ORDERS.items()}


class AssociationPart(Body):
    columns: tuple[Name, ...] | None = Field(None, alias="columnNames", examples=[["order_id"]])
    required: bool | None = Field(None, alias="requiredInPredictionRequests")
    auto_generate: bool | None = Field(None, alias="autoGenerateId")


class EnabledPart(Body):
    enabled: bool | None = None


class FeatureDriftPart(Body):
    enabled: bool | None = None
    selection: Annotated[FeatureSelection, one_of(FeatureSelection, *FeatureSelection)] | None = Field(
        None, alias="featureSelection"
    )
    tracked: tuple[Name, ...] | None = Field(None, alias="trackedFeatures", examples=[["age", "glucose"]])


class BatchPart(Body):
    enabled: bool | None = None
    policy: Annotated[BatchPolicy, one_of(BatchPolicy, *BatchPolicy)] | None = None


class SegmentPart(Body):
    enabled: bool | None = None
    attributes: tuple[Name, ...] | None = Field(None, examples=[["region"]])


class JoinPart(Body):
    window: Span | None = None
    grace: Span | None = None
    allowed_lateness: Span | None = None
    early_ttl: Span | None = None
    idle_timeout: Span | None = None
    max_future_skew: Span | None = None
    late_policy: Annotated[LatePolicy, one_of(LatePolicy, *LatePolicy)] | None = None
    actual_order: Annotated[ActualOrder, one_of(lambda word: ORDERS[word], *ORDERS)] | None = Field(
        None, json_schema_extra={"enum": list(ORDERS)}
    )


class IntervalsPart(Body):
    """Stored, without effect."""

    enabled: bool | None = None
    percentiles: tuple[Annotated[int, Field(ge=1, le=100)], ...] | None = None


class SettingsPart(Body):
    """Any subset; null for a group resets it, null for a key in a group sets that to its default."""

    association_id: AssociationPart | None = None
    target_drift: EnabledPart | None = None
    feature_drift: FeatureDriftPart | None = None
    batch_monitoring: BatchPart | None = None
    predictions_data_collection: EnabledPart | None = None
    challenger_models: Kept | None = Field(None, examples=[{"enabled": False}])
    segment_analysis: SegmentPart | None = None
    prediction_intervals: IntervalsPart | None = None
    join: JoinPart | None = None
    humility: Kept | None = None
    prediction_warning: Kept | None = None
    bias_and_fairness: Kept | None = None
    automatic_actuals: Kept | None = None


_GROUPS: Final = {
    "association_id": "association",
    "target_drift": "target_drift",
    "feature_drift": "feature_drift",
    "batch_monitoring": "batches",
    "predictions_data_collection": "raw_rows",
    "segment_analysis": "segments",
    "join": "join",
}
_KEPT: Final[Mapping[str, Mapping[str, Any]]] = {
    "challengerModels": {"enabled": False},
    "predictionIntervals": {"enabled": False, "percentiles": []},
    "humility": {},
    "predictionWarning": {},
    "biasAndFairness": {},
    "automaticActuals": {},
}
"""Groups without effect, and what they hold before anybody sets them."""


def merged_settings(old: MonitoringSettings, part: SettingsPart) -> MonitoringSettings:
    """The settings that a PATCH makes of these."""
    groups = {
        ours: merged(getattr(old, ours), getattr(part, theirs))
        for theirs, ours in _GROUPS.items()
        if theirs in part.model_fields_set
    }
    sent = part.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return replace(old, **groups, kept=_merged_kept(old.kept, sent))


def _merged_kept(old: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: old[name] for name in _KEPT if name in old}
    for name in _KEPT.keys() & sent.keys():
        group, default = sent[name], _KEPT[name]
        whole = {} if group is None else {**kept.get(name, {}), **group}
        kept[name] = {key: value for key, value in whole.items() if value not in (None, default.get(key))}
    return {name: group for name, group in kept.items() if group}


class AssociationShown(Shown):
    column_names: tuple[str, ...]
    required_in_prediction_requests: bool
    auto_generate_id: bool


class EnabledShown(Shown):
    enabled: bool


class FeatureDriftShown(Shown):
    enabled: bool
    feature_selection: FeatureSelection
    tracked_features: tuple[str, ...]


class BatchShown(Shown):
    enabled: bool
    policy: BatchPolicy


class SegmentShown(Shown):
    enabled: bool
    attributes: tuple[str, ...]


class JoinShown(Shown):
    """Durations as in ISO 8601."""

    window: str
    grace: str
    allowed_lateness: str
    early_ttl: str
    idle_timeout: str
    max_future_skew: str
    late_policy: LatePolicy
    actual_order: str


class Settings(Shown):
    """How a deployment is monitored."""

    association_id: AssociationShown
    target_drift: EnabledShown
    feature_drift: FeatureDriftShown
    batch_monitoring: BatchShown
    predictions_data_collection: EnabledShown
    challenger_models: Mapping[str, Any]
    segment_analysis: SegmentShown
    prediction_intervals: Mapping[str, Any]
    join: JoinShown
    humility: Mapping[str, Any]
    prediction_warning: Mapping[str, Any]
    bias_and_fairness: Mapping[str, Any]
    automatic_actuals: Mapping[str, Any]


def shown_settings(settings: MonitoringSettings) -> Settings:
    association, drift, segments = settings.association, settings.feature_drift, settings.segments
    kept = {name: {**default, **settings.kept.get(name, {})} for name, default in _KEPT.items()}
    return Settings(
        association_id=AssociationShown(
            column_names=association.columns,
            required_in_prediction_requests=association.required,
            auto_generate_id=association.auto_generate,
        ),
        target_drift=EnabledShown(enabled=settings.target_drift.enabled),
        feature_drift=FeatureDriftShown(
            enabled=drift.enabled, feature_selection=drift.selection, tracked_features=drift.tracked
        ),
        batch_monitoring=BatchShown(enabled=settings.batches.enabled, policy=settings.batches.policy),
        predictions_data_collection=EnabledShown(enabled=settings.raw_rows.enabled),
        challenger_models=kept["challengerModels"],
        segment_analysis=SegmentShown(enabled=segments.enabled, attributes=segments.attributes),
        prediction_intervals=kept["predictionIntervals"],
        join=_shown_join(settings),
        humility=kept["humility"],
        prediction_warning=kept["predictionWarning"],
        bias_and_fairness=kept["biasAndFairness"],
        automatic_actuals=kept["automaticActuals"],
    )


def _shown_join(settings: MonitoringSettings) -> JoinShown:
    join = settings.join
    return JoinShown(
        window=format_duration(join.window),
        grace=format_duration(join.grace),
        allowed_lateness=format_duration(join.allowed_lateness),
        early_ttl=format_duration(join.early_ttl),
        idle_timeout=format_duration(join.idle_timeout),
        max_future_skew=format_duration(join.max_future_skew),
        late_policy=join.late_policy,
        actual_order=_ORDER_WORDS[join.actual_order],
    )


@router.get("/deployments/{deploymentId}/settings/", response_model=Settings)
async def get_deployment_settings(deployment_id: Visible, api: Deps) -> Json:
    """All groups, with their defaults."""
    stored = await show(api.deployments, deployment_id)
    return Json(shown_settings(stored.settings.monitoring))


@router.patch("/deployments/{deploymentId}/settings/", status_code=202, response_model=Accepted)
async def update_deployment_settings(
    request: Request,
    deployment_id: Writable,
    caller: Caller,
    api: Deps,
    body: Annotated[SettingsPart, Depends(JsonBody(SettingsPart))],
) -> Json:
    """In force when the answer is sent: no row is counted under the settings of before."""
    if not body.model_fields_set:
        raise BadBody(422, "The body must hold a group of settings.")
    await deployment_changes.update_settings(
        api.deployments, api.retention, deployment_id, lambda old: merged_settings(old, body)
    )
    task_id = await finished_task(api.tasks, caller, TaskKind.SETTINGS, deployment_id, "Change of settings")
    return accepted(request, api, task_id)
