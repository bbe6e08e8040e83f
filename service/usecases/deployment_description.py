"""A deployment as a person describes it, in YAML. Every wrong field is told at once, by its path and the rule.

Structure and values of single fields are pydantic's; rules between fields are checked on whatever of the text is sound
so far, so that a mistake in one field does not hide a mistake between two others.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from service.domain.deployment import MAX_CLASSES
from service.domain.errors import Invalid
from service.domain.ids import is_object_id
from service.usecases.durations import format_duration, parse_duration

BINARY_CLASSES: Final = 2
_MINUTE: Final = timedelta(minutes=1)
_SECOND: Final = timedelta(seconds=1)


class InvalidDescription(Invalid):
    """The description breaks rules; `problems` says of each which field and which rule."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def _object_id(text: str) -> str:
    if not is_object_id(text):
        raise PydanticCustomError("object_id", "must be 1 to 128 of A-Z a-z 0-9 . _ -")
    return text


def _span(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("duration", "must be an ISO 8601 duration such as P30D")
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{rule}", {"rule": str(error)}) from None


def _at_least(least: timedelta) -> Callable[[timedelta], timedelta]:
    def check(span: timedelta) -> timedelta:
        if span < least:
            raise PydanticCustomError("too_short", "must be at least {least}", {"least": format_duration(least)})
        return span

    return check


ObjectId = Annotated[str, AfterValidator(_object_id)]
Label = Annotated[str, Field(min_length=1, max_length=256)]
Span = Annotated[timedelta, BeforeValidator(_span)]
SpanOfSeconds = Annotated[Span, AfterValidator(_at_least(_SECOND))]
SpanOfMinutes = Annotated[Span, AfterValidator(_at_least(_MINUTE))]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, validate_by_alias=True, allow_inf_nan=False
    )


class ModelPart(_Part):
    id: ObjectId
    name: Label | None = None


class FeaturePart(_Part):
    name: Label
    type: Literal["numeric", "categorical", "text"]
    impact: Annotated[float, Field(ge=0, le=1)] | None = None


class JoinPart(_Part):
    window: SpanOfMinutes = timedelta(days=30)
    grace: Span = timedelta(days=60)
    allowed_lateness: Span = timedelta(minutes=10)
    early_ttl: Span = timedelta(days=90)
    idle_timeout: SpanOfSeconds = timedelta(minutes=1)
    max_future_skew: Span = timedelta(minutes=5)
    late_policy: Literal["correct", "record", "reject"] = "correct"
    actual_order: Literal["eventTime", "arrival"] = "eventTime"


class BatchMonitoringPart(_Part):
    enabled: bool = False
    policy: Literal["none", "hourly", "daily"] = "none"


class BaselinePart(_Part):
    file: Label
    kind: Literal["training", "holdout"] = "training"


class DeploymentDescription(_Part):
    """One deployment. What is left out has the default."""

    id: ObjectId
    label: Label
    description: Annotated[str, Field(max_length=10_000)] | None = None
    target_name: Label | None = None
    target_type: Literal["Regression", "Binary", "Multiclass"]
    class_names: tuple[Label, ...] = Field(default=(), strict=False)
    positive_class: str | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    model: ModelPart
    features: tuple[FeaturePart, ...] = Field(default=(), strict=False)
    association_id_columns: tuple[Label, ...] = Field(default=(), strict=False)
    association_id_required: bool = False
    join: JoinPart = JoinPart()
    batch_monitoring: BatchMonitoringPart = BatchMonitoringPart()
    baseline: BaselinePart | None = None


def parse_description(text: str) -> DeploymentDescription:
    """Raises `InvalidDescription` with everything that is wrong."""
    described = _load(text)
    problems: list[str] = []
    try:
        description = DeploymentDescription.model_validate(described)
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors()]
    problems += problems_between_fields(described)
    if problems:
        raise InvalidDescription(problems)
    return description


# ------------------------------------------------------------------------------------- rules between fields


def problems_between_fields(described: Mapping[str, Any]) -> Iterator[str]:
    """Of a description, sound or not, by its keys."""
    names = described.get("classNames")
    classes = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    whole = names is None or (isinstance(names, list) and len(classes) == len(names))
    if whole:
        yield from _class_problems(described.get("targetType"), classes)
    yield from (f"classNames: {name!r} is there twice" for name in _repeated(classes))
    yield from _positive_class_problems(described, classes if whole else ())
    if described.get("targetType") in ("Regression", "Multiclass") and described.get("threshold") is not None:
        yield "threshold: is for targetType Binary only"
    features = described.get("features")
    yield from (f"features: {name!r} is there twice" for name in _repeated(_names_of(features)))
    if described.get("baseline") is not None and not _have_bins(features):
        yield "features: are required with a baseline, and some that are not text"


def _class_problems(target_type: object, classes: Sequence[str]) -> Iterator[str]:
    match target_type:
        case "Regression" if classes:
            yield "classNames: must be left out for targetType Regression"
        case "Binary" if len(classes) != BINARY_CLASSES:
            yield f"classNames: must be two for targetType Binary, not {len(classes)}"
        case "Multiclass" if not BINARY_CLASSES <= len(classes) <= MAX_CLASSES:
            yield f"classNames: must be 2 to {MAX_CLASSES} for targetType Multiclass, not {len(classes)}"


def _positive_class_problems(described: Mapping[str, Any], classes: Sequence[str]) -> Iterator[str]:
    positive = described.get("positiveClass")
    if not isinstance(positive, str):
        return
    if described.get("targetType") in ("Regression", "Multiclass"):
        yield "positiveClass: is for targetType Binary only"
    elif classes and positive not in classes:
        yield f"positiveClass: must be one of {', '.join(classes)}, not {positive!r}"


def _names_of(features: object) -> list[str]:
    parts = [part for part in features if isinstance(part, dict)] if isinstance(features, list) else []
    return [part["name"] for part in parts if isinstance(part.get("name"), str)]


def _have_bins(features: object) -> bool:
    parts = features if isinstance(features, list) else []
    return any(not isinstance(part, dict) or part.get("type") != "text" for part in parts)


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


# --------------------------------------------------------------------------------------------- reading YAML


class _UniqueKeysLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if repeated := _repeated(keys):
            raise InvalidDescription([f"{repeated[0]}: is there twice (line {node.start_mark.line + 1})"])
        return super().construct_mapping(node, deep=deep)


def _load(text: str) -> dict[str, Any]:
    try:
        described = yaml.load(text, Loader=_UniqueKeysLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "can not be read"
        raise InvalidDescription([f"the description is not YAML{where}: {what}"]) from None
    if not isinstance(described, dict):
        raise InvalidDescription(["the description must be a mapping of keys such as id, label, targetType"])
    return {str(key): value for key, value in described.items()}


# ------------------------------------------------------------------------------------------------- messages


def _problem(details: ErrorDetails) -> str:
    path = ".".join(str(part) for part in details["loc"])
    return f"{path}: {_rule(details)}"


def _rule(details: ErrorDetails) -> str:
    match details["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return f"no such key{_meant(str(details['loc'][-1]))}"
        case "string_type":
            return f"must be text, in quotes where YAML reads something else ({details['input']!r})"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a mapping"
        case _:
            return details["msg"].replace("Input should be", "must be", 1)


def _meant(key: str) -> str:
    parts = (DeploymentDescription, ModelPart, FeaturePart, JoinPart, BatchMonitoringPart, BaselinePart)
    known = {field.alias or name for part in parts for name, field in part.model_fields.items()}
    closest = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {closest[0]}?" if closest else ""
