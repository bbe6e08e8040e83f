"""Rows of `deployments`, `models` and `baselines`, from and to what the use cases know."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from service.adapters.postgres.catalog import join_spec
from service.adapters.postgres.layouts import layout_from_json, layout_to_json
from service.domain.deployment import BatchPolicy, TargetType
from service.usecases.baselines import Baseline, BaselineCounts
from service.usecases.deployment_settings import (
    Association,
    BatchSettings,
    FeatureDriftSettings,
    MonitoringSettings,
    RawRowSettings,
    SegmentSettings,
    TargetDriftSettings,
)
from service.usecases.deployments import DeploymentSettings, Feature, StoredDeployment
from service.usecases.health_settings import HealthSettings

T = TypeVar("T")
_HEALTH: Final = ("service", "drift", "accuracy", "predictions_timeliness", "actuals_timeliness")


def settings_columns(settings: DeploymentSettings) -> tuple[Any, ...]:
    """In the order of `deployment_save`."""
    join = settings.join
    return (
        settings.id,
        settings.label,
        settings.description,
        settings.origin,
        settings.target_name,
        settings.target_type,
        list(settings.class_names),
        settings.classes_learned,
        settings.positive_class,
        settings.threshold,
        settings.model_id,
        [asdict(feature) for feature in settings.features],
        list(settings.association_columns),
        settings.association_required,
        join.window,
        join.grace,
        join.allowed_lateness,
        join.early_ttl,
        join.idle_timeout,
        join.max_future_skew,
        join.late_policy,
        join.actual_order,
        settings.batch_enabled,
        settings.batch_policy,
        settings.organisation,
        _groups_to_json(settings),
        _health_to_json(settings.health),
        settings.accuracy_aggregation,
    )


def model_columns(settings: DeploymentSettings) -> tuple[Any, ...]:
    """In the order of `model_save`."""
    return settings.id, settings.model_id, settings.model_name, settings.model_threshold, settings.model_reason


def baseline_columns(deployment_id: str, baseline: Baseline) -> tuple[Any, ...]:
    """In the order of `baseline_save`."""
    counted = baseline.counted
    return (
        deployment_id,
        baseline.model_id,
        baseline.kind,
        baseline.method,
        counted.rows,
        layout_to_json(counted.layout),
        list(counted.counts),
        baseline.start,
        baseline.end,
    )


def stored_deployment(row: Mapping[str, Any]) -> StoredDeployment:
    models = row["models"] or ()
    return StoredDeployment(
        settings=deployment_settings(row, models),
        version=row["version"],
        created_at=row["created_at"],
        is_deleted=row["deleted_at"] is not None,
        models={model["id"]: model["name"] for model in models},
        thresholds={model["id"]: model["threshold"] for model in models if model["threshold"] is not None},
        baselines=[_baseline(stored) for stored in row["baselines"] or ()],
    )


def deployment_settings(row: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> DeploymentSettings:
    """`models` hold at least the current one."""
    current = next(model for model in models if model["id"] == row["current_model_id"])
    threshold = current["threshold"]
    return DeploymentSettings(
        id=row["id"],
        label=row["label"],
        description=row["description"],
        target_name=row["target_name"],
        target_type=TargetType(row["target_type"]) if row["target_type"] else None,
        class_names=tuple(row["class_names"]),
        classes_learned=row["classes_learned"],
        positive_class=row["positive_class"],
        threshold=row["threshold"],
        model_id=row["current_model_id"],
        model_name=current["name"],
        model_threshold=None if threshold is None else float(threshold),
        features=tuple(msgspec.convert(feature, Feature) for feature in row["features"]),
        monitoring=_monitoring(row),
        health=msgspec.convert(row["health_settings"], HealthSettings),
        accuracy_aggregation=row["accuracy_aggregation"],
        organisation=row["organisation"],
        origin=row["origin"],
        told=frozenset(row["settings"].get("told", ())),
    )


def _monitoring(row: Mapping[str, Any]) -> MonitoringSettings:
    stored = row["settings"]

    def group(name: str, kind: type[T]) -> T:
        return msgspec.convert(stored.get(name, {}), kind)

    return MonitoringSettings(
        association=Association(
            columns=tuple(row["association_columns"]),
            required=row["association_required"],
            auto_generate=stored.get("auto_generate", False),
        ),
        target_drift=group("target_drift", TargetDriftSettings),
        feature_drift=group("feature_drift", FeatureDriftSettings),
        batches=BatchSettings(enabled=row["batch_enabled"], policy=BatchPolicy(row["batch_policy"])),
        join=join_spec(row),
        raw_rows=group("raw_rows", RawRowSettings),
        segments=group("segments", SegmentSettings),
        kept=stored.get("kept", {}),
    )


def _groups_to_json(settings: DeploymentSettings) -> dict[str, Any]:
    """What differs from its default, of the groups without columns; read again by those who follow the version."""
    monitoring = settings.monitoring
    groups = {name: getattr(monitoring, name) for name in ("target_drift", "feature_drift", "raw_rows", "segments")}
    stored: dict[str, Any] = {name: asdict(group) for name, group in groups.items() if group != type(group)()}
    if monitoring.association.auto_generate:
        stored["auto_generate"] = True
    if monitoring.kept:
        stored["kept"] = dict(monitoring.kept)
    if settings.told:
        stored["told"] = sorted(settings.told)
    return stored


def _health_to_json(health: HealthSettings) -> dict[str, Any]:
    groups = {name: getattr(health, name) for name in _HEALTH}
    return {name: asdict(group) for name, group in groups.items() if group != type(group)()}


def _baseline(stored: Mapping[str, Any]) -> Baseline:
    counted = BaselineCounts(
        rows=stored["rows"], layout=layout_from_json(stored["layout"]), counts=tuple(stored["counts"])
    )
    return Baseline(
        model_id=stored["model_id"],
        kind=stored["kind"],
        counted=counted,
        start=instant(stored["start_at"]),
        end=instant(stored["end_at"]),
        version=stored["version"],
        method=stored["method"],
    )


def instant(text: str | None) -> datetime | None:
    """As JSON of the database tells it, in the time zone of the session."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None
