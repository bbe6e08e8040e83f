"""A prediction or an actual in the words of its transport: events for Kafka, items of a request for HTTP."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from service.client import instants, values
from service.client.rows import Row
from service.client.values import BadValue
from service.domain.records import MAX_RECORD_BYTES, Topic


class Prediction(NamedTuple):
    """The arguments of `log_prediction`, as they were given, and the instant of the call."""

    called_at: datetime
    deployment_id: object
    prediction: object
    association_id: object
    timestamp: object
    features: object
    model_id: object
    batch_id: object
    batch_name: object
    service: object


class Actual(NamedTuple):
    """The arguments of `log_actual`, as they were given, and the instant of the call."""

    called_at: datetime
    deployment_id: object
    association_id: object
    actual: object
    timestamp: object
    was_acted_on: object
    keep_without_prediction: object


class Wording(Protocol):
    """Both raise `BadValue` for what can not be said."""

    def prediction(self, given: Prediction) -> Row: ...

    def actual(self, given: Actual) -> Row: ...


class EventWording:
    """The events of `wire/events.py`, keyed by the canonical association ID."""

    def prediction(self, given: Prediction) -> Row:
        event: dict[str, object] = {"deploymentId": values.object_id(given.deployment_id, "deploymentId")}
        key = None
        if given.association_id is not None:
            event["associationId"], canonical = values.association_id(given.association_id)
            key = values.key_of(canonical)
        event["timestamp"] = _instant(given)
        event["prediction"] = values.prediction(given.prediction)
        if given.model_id is not None:
            event["modelId"] = values.object_id(given.model_id, "modelId")
        if given.batch_id is not None:
            event["batchId"] = values.object_id(given.batch_id, "batchId")
        if given.batch_name is not None:
            event["batchName"] = values.batch_name(given.batch_name)
        _add_details(event, given)
        return _row(None, Topic.PREDICTIONS, key, event)

    def actual(self, given: Actual) -> Row:
        association_id, canonical = values.association_id(given.association_id)
        event: dict[str, object] = {
            "deploymentId": values.object_id(given.deployment_id, "deploymentId"),
            "associationId": association_id,
            "timestamp": _instant(given),
            "actual": values.actual(given.actual),
        }
        if (acted := values.flag(given.was_acted_on, "wasActedOn")) is not None:
            event["wasActedOn"] = acted
        if (keep := values.flag(given.keep_without_prediction, "keepWithoutPrediction")) is not None:
            event["keepWithoutPrediction"] = keep
        return _row(None, Topic.ACTUALS, values.key_of(canonical), event)


@dataclass(frozen=True, slots=True)
class RestGroup:
    """What one request to the REST API can say only once."""

    topic: str
    deployment_id: str
    model_id: str | None = None
    batch_id: str | None = None
    keep: bool | None = None

    def __hash__(self) -> int:
        return hash((self.topic, self.deployment_id, self.model_id, self.batch_id, self.keep))


_NO_BATCH_NAME: Final = (
    "batchName: can not be said over HTTP; name the monitoring batch by batch_id, or send over Kafka"
)
_NO_WITHDRAWAL: Final = "actual: an actual can not be withdrawn (None) over HTTP; send it over Kafka"


class RestWording:
    """The items of `submitPredictionsFromJson` and `submitActualsFromJson`."""

    def prediction(self, given: Prediction) -> Row:
        if given.batch_name is not None:
            raise BadValue(_NO_BATCH_NAME)
        group = RestGroup(
            topic=Topic.PREDICTIONS,
            deployment_id=values.object_id(given.deployment_id, "deploymentId"),
            model_id=None if given.model_id is None else values.object_id(given.model_id, "modelId"),
            batch_id=None if given.batch_id is None else values.object_id(given.batch_id, "batchId"),
        )
        item: dict[str, object] = {}
        if given.association_id is not None:
            item["associationId"] = values.association_id(given.association_id)[1]
        item["timestamp"] = _instant(given)
        item["prediction"] = _rest_prediction(values.prediction(given.prediction))
        _add_details(item, given)
        return _row(group, Topic.PREDICTIONS, None, item)

    def actual(self, given: Actual) -> Row:
        group = RestGroup(
            topic=Topic.ACTUALS,
            deployment_id=values.object_id(given.deployment_id, "deploymentId"),
            keep=values.flag(given.keep_without_prediction, "keepWithoutPrediction"),
        )
        actual = values.actual(given.actual)
        if actual is None:
            raise BadValue(_NO_WITHDRAWAL)
        item: dict[str, object] = {
            "associationId": values.association_id(given.association_id)[1],
            "timestamp": _instant(given),
            "actualValue": values.class_label(actual) if isinstance(actual, bool) else actual,
        }
        if (acted := values.flag(given.was_acted_on, "wasActedOn")) is not None:
            item["wasActedOn"] = acted
        return _row(group, Topic.ACTUALS, None, item)


def _rest_prediction(value: float | str | bool | dict[str, float]) -> object:
    """A number stays; classes become a list, a label alone the one that is certain."""
    if isinstance(value, dict):
        return [{"className": label, "value": share} for label, share in value.items()]
    if isinstance(value, str | bool):
        return [{"className": values.class_label(value), "value": 1.0}]
    return value


def _add_details(said: dict[str, object], given: Prediction) -> None:
    if given.features is not None:
        said["features"] = values.features(given.features)
    if given.service is not None:
        said["service"] = values.service_figures(given.service)


def _instant(given: Prediction | Actual) -> str:
    return instants.shown(given.called_at) if given.timestamp is None else instants.instant(given.timestamp)


def _row(group: RestGroup | None, topic: str, key: bytes | None, said: dict[str, object]) -> Row:
    value = values.encoded(said)
    if len(value) + len(key or b"") > MAX_RECORD_BYTES:
        raise BadValue(f"the whole event: must have at most {MAX_RECORD_BYTES:,} bytes of JSON")
    return Row(group, topic, key, value)
