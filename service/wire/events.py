"""The two input events, `monitoring.predictions.v1` and `monitoring.actuals.v1`.

The fast way is one typed decode per record. A record that fails it takes the slow way, which finds out what is wrong
with it, and whether it still names a deployment and a row. CloudEvents are recognised: in binary mode the value is
the plain event; in structured mode the slow way unwraps `data`.

`extra_json_schema` states a rule that is not checked by decoding but where its value is first used; it costs nothing
here. The text below a field is its description in `schemas/` (`schemas.py`).

Deliberately not here: anything that depends on the deployment (`pipeline/assign.py`).
"""

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw

from service.domain.errors import Reason, Rejection
from service.domain.ids import MAX_ASSOCIATION_ID, RESERVED_PREFIXES, is_association_id, is_object_id
from service.wire.instants import END_S

_LARGEST: Final = sys.float_info.max
_DATE: Final = "(1969|19[7-9][0-9]|[2-9][0-9]{3})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?"
_ZONE: Final = "(Z|z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
MAX_ACTUAL_CHARACTERS: Final = 4096

ObjectId = Annotated[str, Meta(extra_json_schema={"pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}$"})]
Number = Annotated[float, Meta(extra_json_schema={"minimum": -_LARGEST, "maximum": _LARGEST})]
Milliseconds = Annotated[float, Meta(ge=0, extra_json_schema={"maximum": _LARGEST})]
Instant = Annotated[datetime, Meta(tz=True, extra_json_schema={"pattern": f"^{_DATE}[Tt]{_TIME}{_ZONE}$"})]
Seconds = Annotated[float, Meta(extra_json_schema={"minimum": 0, "exclusiveMaximum": END_S})]
_ASSOCIATION_TEXT: Final = {
    "minLength": 1,
    "maxLength": MAX_ASSOCIATION_ID,
    "not": {"pattern": f"^({'|'.join(RESERVED_PREFIXES)})"},
}
AssociationId = Annotated[str, Meta(extra_json_schema=_ASSOCIATION_TEXT)] | Annotated[list[str], Meta(min_length=1)]
ActualText = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_ACTUAL_CHARACTERS})]


class ServiceFigures(msgspec.Struct, gc=False, rename="camel"):
    """How the request was served that made the prediction."""

    response_time_ms: Milliseconds | None = None
    """Milliseconds from the request's arrival to the end of its response."""
    execution_time_ms: Milliseconds | None = None
    """Milliseconds that the model itself took."""
    request_id: str | None = None
    """Your ID of the request, to find it again in your logs."""
    consumer_id: str | None = None
    """Who asked: a stable ID without personal data."""
    cache_hit: bool | None = None
    """Whether the answer came from a cache, without running the model."""
    outcome: Literal["ok", "user_error", "server_error"] | None = None
    """How the request ended; `user_error` and `server_error` count into the error rates."""


class PredictionEvent(msgspec.Struct, gc=False, rename="camel"):
    """A prediction that a model has made. Send it once, keyed by its association ID; a repetition does no harm."""

    deployment_id: ObjectId
    """The deployment that made the prediction."""
    prediction: Raw
    """A number (regression), a class label, or an object that gives each class its probability (0 to 1). At most
    131,072 bytes of JSON. Labels must be classes of the deployment."""
    association_id: AssociationId | None = None
    """What the actual will be joined by, unique within the deployment: 1 to 128 characters that do not begin with
    `job:`, `submission:` or `record:`. A list of texts is a composite ID; its compact JSON text is then the ID (at most
    128 characters) and the record's key. Without an ID the prediction counts in drift and traffic, never in
    accuracy."""
    timestamp: Instant | Seconds | None = None
    """When the prediction was made, between 1970 and 9999: RFC 3339 with its offset (microseconds at most), or seconds
    since 1970 as a number. Without it the Kafka timestamp of the record is taken. It decides the hour and the
    monitoring batch in which the prediction counts."""
    model_id: ObjectId | None = None
    """The model that made the prediction; a new one is registered (at most 100 a deployment). Without it the
    deployment's current model is meant."""
    batch_id: ObjectId | None = None
    """An existing monitoring batch of the deployment, by its ID. Comes before `batchName`."""
    batch_name: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00]*$")] | None = None
    """A monitoring batch by its name; opened where the deployment has none of that name."""
    features: Raw = Raw(b"{}")
    """What the model was given: an object without nesting. `null` and a feature left out are missing values; of a
    name that occurs twice the last value is taken. Features that the deployment does not track are ignored."""
    service: ServiceFigures | None = None
    """How the request was served; feeds the service health of the deployment."""


class ActualEvent(msgspec.Struct, gc=False, rename="camel"):
    """The truth for a prediction. It may come before its prediction, late, repeatedly and in any order."""

    deployment_id: ObjectId
    """The deployment that made the prediction."""
    association_id: AssociationId
    """The association ID of the prediction, written in the same way."""
    actual: Number | ActualText | bool | None
    """A number (regression) or a class label (text, number or boolean); null withdraws the actual that is held."""
    timestamp: Instant | Seconds | None = None
    """When the truth became known, between 1970 and 9999: RFC 3339 with its offset (microseconds at most), or seconds
    since 1970 as a number. Without it the Kafka timestamp of the record is taken. Of several actuals the one with the
    greatest timestamp holds."""
    was_acted_on: bool | None = None
    """Whether someone acted on the prediction, which may have changed the truth."""
    keep_without_prediction: bool | None = None
    """Whether an actual that is here before its prediction waits for it; if not, it is dropped."""


class _PlainPrediction(PredictionEvent, gc=False, rename="camel"):
    """For the fast way, which reads the texts of instants by columns."""

    timestamp: str | float | None = None  # type: ignore[assignment]


class _PlainActual(ActualEvent, gc=False, rename="camel"):
    timestamp: str | float | None = None  # type: ignore[assignment]


class Loose(msgspec.Struct, gc=False, rename="camel"):
    """What a broken event may still tell."""

    deployment_id: Raw = Raw()
    association_id: Raw = Raw()
    specversion: Raw = Raw()
    data: Raw = Raw()


class Identity(NamedTuple):
    """Deployment and canonical association ID that a refused record still names; either may be missing."""

    deployment_id: str | None = None
    association_id: str | None = None


class Unusable(Rejection):
    """A rejection that knows whom the record was about."""

    def __init__(self, reason: Reason, detail: str, identity: Identity) -> None:
        super().__init__(reason, detail)
        self.identity = identity


_prediction = msgspec.json.Decoder(PredictionEvent)
_actual = msgspec.json.Decoder(ActualEvent)
_loose = msgspec.json.Decoder(Loose)
_association = msgspec.json.Decoder(AssociationId)
_object_id = msgspec.json.Decoder(ObjectId)
compact = msgspec.json.Encoder().encode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that decoding raises, whatever the bytes; the last where they nest too deeply, even in a field we ignore."""

_FIELD_REASONS = {
    "deploymentId": Reason.MALFORMED,
    "associationId": Reason.BAD_ASSOCIATION_ID,
    "timestamp": Reason.BAD_TIMESTAMP,
    "prediction": Reason.BAD_PREDICTION,
    "modelId": Reason.BAD_MODEL_ID,
    "batchId": Reason.BAD_BATCH,
    "batchName": Reason.BAD_BATCH,
    "features": Reason.BAD_FEATURES,
    "service": Reason.BAD_SERVICE,
    "actual": Reason.BAD_ACTUAL,
    "wasActedOn": Reason.BAD_ACTUAL,
    "keepWithoutPrediction": Reason.BAD_ACTUAL,
}


def decode_prediction(value: bytes | None) -> PredictionEvent:
    """The event in these bytes. Raises `Unusable`, whatever the bytes are."""
    try:
        return _prediction.decode(value or b"")
    except _UNREADABLE as error:
        event: PredictionEvent = _slow(_prediction, value or b"", error)
        return event


def decode_actual(value: bytes | None) -> ActualEvent:
    """The event in these bytes. Raises `Unusable`, whatever the bytes are."""
    try:
        return _actual.decode(value or b"")
    except _UNREADABLE as error:
        event: ActualEvent = _slow(_actual, value or b"", error)
        return event


class NotPlain(Exception):
    """One of several values is none that the fast way can read."""


_plain_prediction = msgspec.json.Decoder(_PlainPrediction)
_plain_actual = msgspec.json.Decoder(_PlainActual)


def decode_plain_predictions(values: Iterable[bytes | None]) -> list[PredictionEvent]:
    """The event in every value, but for its timestamp, which is a text, a number, or None.

    Raises `NotPlain` where the slow way would take a second look at one of them.
    """
    return _decode_plain(_plain_prediction, values)


def decode_plain_actuals(values: Iterable[bytes | None]) -> list[ActualEvent]:
    """As `decode_plain_predictions`."""
    return _decode_plain(_plain_actual, values)


def _decode_plain(decoder: "msgspec.json.Decoder[Any]", values: Iterable[bytes | None]) -> list[Any]:
    try:
        return list(map(decoder.decode, values))  # type: ignore[arg-type]
    except (*_UNREADABLE, TypeError) as error:
        raise NotPlain from error


def _slow(decoder: "msgspec.json.Decoder[Any]", value: bytes, error: Exception) -> Any:
    try:
        loose = _loose.decode(value)
    except _UNREADABLE:
        raise Unusable(Reason.MALFORMED, f"the value is not a JSON object: {error}", Identity()) from None
    if bytes(loose.specversion) and bytes(loose.data) and not bytes(loose.deployment_id):
        inner = bytes(loose.data)
        try:
            return decoder.decode(inner)
        except _UNREADABLE as inner_error:
            loose, error = _opened(inner), inner_error
    raise _unusable(loose, error) from None


def _opened(value: bytes) -> Loose:
    try:
        return _loose.decode(value)
    except _UNREADABLE as error:
        raise Unusable(Reason.MALFORMED, f"data: not a JSON object: {error}", Identity()) from None


def _unusable(loose: Loose, error: Exception) -> Unusable:
    identity = Identity(_text(loose.deployment_id), _association_text(loose.association_id))
    text = str(error)
    if identity.deployment_id is None:
        return Unusable(Reason.MALFORMED, f"deploymentId: {text}", Identity())
    if isinstance(error, UnicodeDecodeError):
        return Unusable(Reason.MALFORMED, f"a text is not UTF-8: {text}", identity)
    field = _field_of(text)
    return Unusable(_FIELD_REASONS.get(field, Reason.MALFORMED), f"{field}: {text}", identity)


def _field_of(text: str) -> str:
    """The event's field that a decoder's message is about: `… - at `$.field…`` or `… required field `field``."""
    quoted = text.split("`$.", 1)[-1] if "`$." in text else text.split("required field `", 1)[-1]
    return quoted.split("`")[0].split(".")[0].split("[")[0]


def _text(raw: Raw) -> str | None:
    try:
        text = _object_id.decode(raw)
    except _UNREADABLE:
        return None
    return text if is_object_id(text) else None


def _association_text(raw: Raw) -> str | None:
    try:
        text = canonical_association_id(_association.decode(raw))
    except _UNREADABLE:
        return None
    return text if is_association_id(text) else None


def canonical_association_id(given: str | list[str]) -> str:
    """A composite ID is the compact JSON text of its parts."""
    return given if isinstance(given, str) else compact(given).decode()


def association_id(given: str | list[str], deployment_id: str) -> str:
    """The canonical association ID. Raises `Unusable` for an empty, too long or reserved one."""
    text = canonical_association_id(given)
    if is_association_id(text):
        return text
    if text.startswith(RESERVED_PREFIXES):
        rule = f"must not begin with {', '.join(RESERVED_PREFIXES)}"
    else:
        rule = f"must have 1 to {MAX_ASSOCIATION_ID} characters"
    raise Unusable(Reason.BAD_ASSOCIATION_ID, f"associationId: {rule}", Identity(deployment_id))
