"""What is sent to register a deployment, to change it, and to give it another model."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field

from service.api.datarobot.deployment_settings import (
    AssociationPart,
    BatchPart,
    JoinPart,
    SettingsPart,
    merged_settings,
)
from service.api.datarobot.fields import Body
from service.api.datarobot.texts import Name, ObjectId, Remark, one_of
from service.domain.deployment import TargetType
from service.domain.errors import Invalid
from service.usecases.deployment_settings import MonitoringSettings
from service.usecases.deployments import DeploymentSettings, Feature
from service.usecases.registration import DEFAULT_THRESHOLD, Registration

Share = Annotated[float, Field(ge=0, le=1)]
Kind = Annotated[TargetType, one_of(TargetType, *TargetType)]
FeatureKind = Annotated[str, one_of(str, "numeric", "categorical", "text")]


class ModelPart(Body):
    id: ObjectId | None = Field(None, examples=["gbm-1"])
    name: Name = Field(examples=["gbm 1"])


class FeaturePart(Body):
    name: Name = Field(examples=["age"])
    type: FeatureKind = Field(examples=["numeric"])
    impact: Share | None = Field(None, examples=[0.9])


class NewDeployment(Body):
    """What is left out, or null, has its default."""

    id: ObjectId | None = Field(None, examples=["readmission-eu"])
    label: Name = Field(examples=["Readmission"])
    description: Remark | None = None
    target_name: Name = Field(examples=["readmitted"])
    target_type: Kind = Field(examples=["Binary"])
    class_names: tuple[Name, ...] | None = Field(None, examples=[["True", "False"]])
    positive_class: Name | None = Field(None, examples=["True"])
    threshold: Share | None = Field(None, examples=[0.5])
    model: ModelPart
    features: tuple[FeaturePart, ...] | None = None
    association_id_columns: tuple[Name, ...] | None = Field(None, examples=[["order_id"]])
    join: JoinPart | None = None
    batch_monitoring: BatchPart | None = None
    settings: SettingsPart | None = None
    accuracy_aggregation: bool | None = None


class ChangedDeployment(Body):
    """Any subset. What can not be changed must be what it is."""

    label: Name | None = Field(None, examples=["Readmission EU"])
    description: Remark | None = Field(None, examples=["all wards"])
    features: tuple[FeaturePart, ...] | None = None
    accuracy_aggregation: bool | None = None
    id: str | None = None
    target_name: Name | None = None
    target_type: Kind | None = None
    class_names: tuple[Name, ...] | None = None
    positive_class: Name | None = None
    threshold: Share | None = None
    model: ModelPart | None = None
    association_id_columns: tuple[Name, ...] | None = None
    join: JoinPart | None = None
    batch_monitoring: BatchPart | None = None
    settings: SettingsPart | None = None


class NextModelPart(Body):
    id: ObjectId | None = Field(None, examples=["gbm-2"])
    name: Name = Field(examples=["gbm 2"])
    threshold: Share | None = Field(None, examples=[0.4])
    reason: Remark | None = Field(None, examples=["retrained on May"])


_DEFAULTS: Final = {"description": None, "accuracy_aggregation": False}


def registration(body: NewDeployment) -> Registration:
    """Raises `Invalid` where a setting is given twice, and not alike."""
    return Registration(
        id=body.id,
        label=body.label,
        description=body.description,
        target_name=body.target_name,
        target_type=body.target_type,
        class_names=body.class_names or (),
        positive_class=body.positive_class,
        threshold=body.threshold,
        model_id=body.model.id,
        model_name=body.model.name,
        features=_features(body.features),
        monitoring=_start_settings(body),
        accuracy_aggregation=bool(body.accuracy_aggregation),
    )


def changed(old: DeploymentSettings, body: ChangedDeployment) -> DeploymentSettings:
    """What a PATCH makes of it, also of what can not be changed: the use case compares."""
    sent = body.model_fields_set
    values: dict[str, Any] = {
        name: getattr(body, name)
        for name in ("id", "label", "target_name", "target_type", "positive_class")
        if name in sent
    }
    values |= {
        name: default if getattr(body, name) is None else getattr(body, name)
        for name, default in _DEFAULTS.items()
        if name in sent
    }
    if "features" in sent:
        values["features"] = _features(body.features)
    if "class_names" in sent:
        values["class_names"] = body.class_names or ()
    if "model" in sent:
        values["model_id"] = body.model and (body.model.id or old.model_id)
        values["model_name"] = body.model and body.model.name
    if "threshold" in sent:
        field = "threshold" if old.model_threshold is None else "model_threshold"
        values[field] = DEFAULT_THRESHOLD if body.threshold is None else body.threshold
    return replace(old, **values, monitoring=_with_settings(old.monitoring, body))


def sent_fields(body: ChangedDeployment) -> set[str]:
    """By their names in the body."""
    return {ChangedDeployment.model_fields[name].alias or name for name in body.model_fields_set}


def _features(parts: tuple[FeaturePart, ...] | None) -> tuple[Feature, ...]:
    return tuple(Feature(name=part.name, type=part.type, impact=part.impact) for part in parts or ())


def _above(body: NewDeployment | ChangedDeployment) -> SettingsPart:
    """The settings that have fields of their own."""
    groups: dict[str, Any] = {}
    if "association_id_columns" in body.model_fields_set:
        columns = AssociationPart.model_construct({"columns"}, columns=body.association_id_columns)
        groups["association_id"] = columns
    groups |= {name: getattr(body, name) for name in ("join", "batch_monitoring") if name in body.model_fields_set}
    return SettingsPart.model_construct(set(groups), **groups)


def _with_settings(old: MonitoringSettings, body: NewDeployment | ChangedDeployment) -> MonitoringSettings:
    above = merged_settings(old, _above(body))
    return above if body.settings is None else merged_settings(above, body.settings)


def _start_settings(body: NewDeployment) -> MonitoringSettings:
    if body.settings is not None and (problems := list(_contradictions(_above(body), body.settings))):
        raise Invalid("\n".join(problems))
    return _with_settings(MonitoringSettings(), body)


def _contradictions(above: SettingsPart, settings: SettingsPart) -> Iterator[str]:
    for name in sorted(above.model_fields_set & settings.model_fields_set):
        one, other = getattr(above, name), getattr(settings, name)
        if one is None or other is None:
            continue
        group = SettingsPart.model_fields[name].alias or name
        for key in sorted(one.model_fields_set & other.model_fields_set):
            if getattr(one, key) != getattr(other, key):
                field = type(one).model_fields[key].alias or key
                yield f"settings.{group}.{field}: must be what is given outside of settings"
