"""What callers have in their hands, turned into what events may hold.

Every function returns the value to send or raises `BadValue`, which names the field and the rule, never the value.
The rules are those of `wire/events.py`, which this package does not import: it needs numpy and msgspec, and an
application that logs predictions should need neither. `tests/laws/test_client.py` holds the two together.

Instants are in `instants.py`. Numbers of numpy are recognised by what they can do (`item()`), not by their type.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, Protocol, TypedDict

import orjson

Scalar = str | int | float | bool | None


class HasItem(Protocol):
    """A scalar of numpy, and whatever is like it."""

    def item(self) -> Any: ...


PredictionValue = float | str | HasItem | Mapping[Any, Any]
"""A number, a class label, or class labels and their probabilities."""
ActualValue = Scalar | HasItem
AssociationId = str | Sequence[str]
When = datetime | float | str | HasItem
Features = Mapping[str, Any]
"""Numbers, texts, booleans and missing values, those of numpy and pandas included."""


class ServiceFigures(TypedDict, total=False):
    """How the request was served that made the prediction; the names are those of the event."""

    responseTimeMs: float | None
    executionTimeMs: float | None
    requestId: str | None
    consumerId: str | None
    cacheHit: bool | None
    outcome: Literal["ok", "user_error", "server_error"] | None


class BadValue(ValueError):
    """This can not be sent. The text names the field and the rule."""


MAX_ASSOCIATION_ID: Final = 128
RESERVED_PREFIXES: Final = ("job:", "submission:", "record:")
MAX_ACTUAL_CHARACTERS: Final = 4_096
MAX_PREDICTION_BYTES: Final = 131_072
MAX_BATCH_NAME: Final = 256
_NUMBER_CHARACTERS: Final = 5
"""A sixth of what a probability takes at most, with its quotes and commas."""

_PLAIN: Final = frozenset((float, int, str, bool, type(None)))
_MISSING: Final = frozenset(("NAType", "NaTType"))
"""Types of pandas for a value that is not there."""
_FINE_KEYS: Final = (frozenset((str,)), frozenset[type]())
_OBJECT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LEAST_INT: Final = -(1 << 63)
_INT_END: Final = 1 << 64
_FIGURES: Final = {
    "responseTimeMs": "milliseconds",
    "executionTimeMs": "milliseconds",
    "requestId": "text",
    "consumerId": "text",
    "cacheHit": "boolean",
    "outcome": "outcome",
}
_OUTCOMES: Final = ("ok", "user_error", "server_error")


def encoded(event: Mapping[str, object]) -> bytes:
    """Its JSON text; NaN and infinite features become null.

    As a copy: the encoder's own bytes leave a hole of 8 KB behind when they are kept, ten times the event.
    """
    try:
        return bytes(memoryview(orjson.dumps(event)))
    except orjson.JSONEncodeError as error:
        raise BadValue(f"can not be written as JSON: {error}") from None


def plain(value: object, field: str) -> Scalar:
    """A number, text, boolean or null of JSON, from the kinds of them that libraries have."""
    if type(value) in _PLAIN:
        return _within_json(value, field)  # type: ignore[arg-type]
    for kind in (str, float, int):
        if isinstance(value, kind):
            return _within_json(kind.__str__(value) if kind is str else kind(value), field)
    if isinstance(value, Decimal):
        return float(value)
    if type(value).__name__ in _MISSING:
        return None
    return _within_json(_item_of(value, field), field)


def _item_of(value: object, field: str) -> Any:
    """What a scalar of numpy, or an array of one, holds."""
    try:
        item = value.item()  # type: ignore[attr-defined]
    except Exception:  # code of any library; whatever it raises, this is no scalar
        item = value
    if type(item) not in _PLAIN:
        raise BadValue(f"{field}: must be a number, text, boolean or null") from None
    return item


def _within_json(value: Scalar, field: str) -> Scalar:
    """Integers beyond 64 bits as the nearest double."""
    if type(value) is not int or _LEAST_INT <= value < _INT_END:
        return value
    try:
        return float(value)
    except OverflowError:
        raise BadValue(f"{field}: the number is too large") from None


def object_id(value: object, field: str) -> str:
    """The ID of a deployment, a model or a monitoring batch."""
    if isinstance(value, str) and _OBJECT_ID.fullmatch(value) and value not in (".", ".."):
        return value
    raise BadValue(f"{field}: must be 1 to 128 of the characters A-Z a-z 0-9 . _ -")


def association_id(value: object) -> tuple[str | list[str], str]:
    """As the event holds it, and in its canonical form, by which rows are joined and partitioned."""
    given: str | list[str]
    if isinstance(value, str):
        given = canonical = value
    elif isinstance(value, list | tuple) and value and all(isinstance(part, str) for part in value):
        given = list(value)
        canonical = encoded_parts(given)
    else:
        raise BadValue("associationId: must be text, or a list of texts for a composite ID")
    if not 1 <= len(canonical) <= MAX_ASSOCIATION_ID:
        raise BadValue(f"associationId: must have 1 to {MAX_ASSOCIATION_ID} characters")
    if canonical.startswith(RESERVED_PREFIXES):
        raise BadValue(f"associationId: must not begin with {', '.join(RESERVED_PREFIXES)}")
    return given, canonical


def encoded_parts(parts: list[str]) -> str:
    """The canonical form of a composite ID: its compact JSON text."""
    try:
        return orjson.dumps(parts).decode()
    except orjson.JSONEncodeError:
        raise BadValue("associationId: must be text that UTF-8 can hold") from None


def key_of(canonical: str) -> bytes:
    """The record's key."""
    try:
        return canonical.encode()
    except UnicodeEncodeError:
        raise BadValue("associationId: must be text that UTF-8 can hold") from None


def features(value: object) -> Mapping[str, Scalar]:
    """Names and values without nesting. Missing are null, NaN and what pandas has for it."""
    if not isinstance(value, Mapping):
        raise BadValue("features: must be a mapping of names to values")
    kinds = set(map(type, value.values()))
    if type(value) is dict and kinds <= _PLAIN and set(map(type, value)) in _FINE_KEYS and int not in kinds:
        return value
    return {_name(name): plain(one, f"features.{name!s:.64}") for name, one in value.items()}


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise BadValue("features: every name must be text")
    return str.__str__(name)


def prediction(value: object) -> float | str | bool | dict[str, float]:
    """A finite number, a class label, or the probability of each class."""
    if isinstance(value, Mapping):
        return _probabilities(value)
    given = plain(value, "prediction")
    if given is None or (isinstance(given, float) and not math.isfinite(given)):
        raise BadValue("prediction: must be a finite number, a class label or a mapping of class probabilities")
    if isinstance(given, str):
        _check_length(given, len(given))
    return given


def _probabilities(value: Mapping[Any, object]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for label, share in value.items():
        name = class_label(label)
        number = plain(share, f"prediction.{name:.64}")
        if number is None or isinstance(number, bool | str) or not 0 <= number <= 1:
            raise BadValue(f"prediction.{name:.64}: a probability lies between 0 and 1")
        shares[name] = number
    if not shares:
        raise BadValue("prediction: must name at least one class")
    if len(shares) < len(value):
        raise BadValue("prediction: two classes have the same label as text")
    _check_length(shares, sum(map(len, shares)) + _NUMBER_CHARACTERS * len(shares))
    return shares


def _check_length(value: object, characters: int) -> None:
    """A character takes up to six bytes of JSON; only what may be too long is written to see."""
    if characters * 6 > MAX_PREDICTION_BYTES and len(encoded({"": value})) - len(b'{"":}') > MAX_PREDICTION_BYTES:
        raise BadValue(f"prediction: must have at most {MAX_PREDICTION_BYTES:,} bytes of JSON")


def class_label(value: object) -> str:
    """Text of a class; whole numbers and booleans, as classifiers name classes, as the service writes them."""
    label = plain(value, "prediction")
    if isinstance(label, bool):
        return "true" if label else "false"
    if isinstance(label, int):
        return str(label)
    if isinstance(label, str):
        return label
    raise BadValue("prediction: a class must be text, a whole number or a boolean")


def actual(value: object) -> Scalar:
    """A finite number, a class label, or None, which withdraws. A missing value of a library never withdraws."""
    if value is None:
        return None
    given = plain(value, "actual")
    if given is None or (isinstance(given, float) and not math.isfinite(given)):
        raise BadValue("actual: must be a finite number or a class label; None alone withdraws")
    if isinstance(given, str) and len(given) > MAX_ACTUAL_CHARACTERS:
        raise BadValue(f"actual: must have at most {MAX_ACTUAL_CHARACTERS:,} characters")
    return given


def flag(value: object, field: str) -> bool | None:
    given = plain(value, field)
    if given is None or isinstance(given, bool):
        return given
    raise BadValue(f"{field}: must be a boolean")


def batch_name(value: object) -> str:
    if isinstance(value, str) and 1 <= len(value) <= MAX_BATCH_NAME and "\0" not in value:
        return value
    raise BadValue(f"batchName: must be text of 1 to {MAX_BATCH_NAME} characters without NUL")


def service_figures(value: object) -> dict[str, Scalar]:
    """As `ServiceFigures` says; an unknown name is refused, since the service would ignore it."""
    if not isinstance(value, Mapping):
        raise BadValue("service: must be a mapping")
    return {_figure_name(name): _figure(name, plain(one, f"service.{name}")) for name, one in value.items()}


def _figure_name(name: object) -> str:
    if name in _FIGURES:
        return str(name)
    raise BadValue(f"service: every name must be one of {', '.join(_FIGURES)}")


def _figure(name: str, value: Scalar) -> Scalar:
    kind = _FIGURES[name]
    if value is None or _is_figure(kind, value):
        return value
    rules = {
        "milliseconds": "a number of at least 0",
        "text": "text",
        "boolean": "a boolean",
        "outcome": f"one of {', '.join(_OUTCOMES)}",
    }
    raise BadValue(f"service.{name}: must be {rules[kind]}")


def _is_figure(kind: str, value: str | int | float | bool) -> bool:
    match kind:
        case "milliseconds":
            return not isinstance(value, bool | str) and 0 <= value < math.inf
        case "text":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case _:
            return value in _OUTCOMES
