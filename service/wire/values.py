"""Canonical values: what a prediction and an actual mean once the deployment's type is known."""

import math
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np
from msgspec import Raw

from service.domain.deployment import Deployment, TargetType
from service.domain.errors import Reason, Rejection
from service.domain.join_window import WITHDRAWAL

_ABSENT = float("nan")
_FEW_CLASSES = 20
Prediction = float | str | bool | dict[str, float]

_one = msgspec.json.Decoder(Prediction)
_many = msgspec.json.Decoder(list[Prediction])
_encode = msgspec.json.Encoder().encode


def decode_predictions(raws: Sequence[bytes | Raw]) -> list[Prediction | None]:
    """The value of each prediction's JSON text, None where it is none (all at once, one by one if need be)."""
    try:
        return list(_many.decode(b"[" + b",".join(map(bytes, raws)) + b"]"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_decode_one(raw) for raw in raws]


def _decode_one(raw: bytes | Raw) -> Prediction | None:
    try:
        value: Prediction = _one.decode(raw)
        return value
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def class_label(value: float | str | bool) -> str:
    """Canonical text of a class: numbers as short as they can be without an exponent, booleans as JSON writes them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1 << 53):
        return str(int(value))
    text = repr(value)
    return text if "e" not in text and not text.endswith(".0") else format(Decimal(text), "f").removesuffix(".0")


def check_prediction(deployment: Deployment, value: Prediction | None) -> None:
    """Raise `Rejection` unless this is a prediction that the deployment's type allows."""
    if deployment.target_type is TargetType.REGRESSION:
        if isinstance(value, bool) or not isinstance(value, float):
            raise Rejection(Reason.BAD_PREDICTION, "prediction: must be a number for a regression")
        return
    if isinstance(value, dict):
        _check_probabilities(deployment, value)
    elif value is None:
        raise Rejection(Reason.BAD_PREDICTION, "prediction: must be a class label or an object of probabilities")
    elif class_label(value) not in deployment.class_index:
        raise Rejection(Reason.UNKNOWN_CLASS, f"prediction: {class_label(value)[:64]!r} is no class of the deployment")


def all_valid(deployment: Deployment, values: Sequence[Prediction | None]) -> bool:
    """Whether every one passes `check_prediction`, by columns. False only says: look at them one by one."""
    kinds = set(map(type, values))
    if deployment.target_type is TargetType.REGRESSION:
        return kinds <= {float}
    if kinds - {dict} or len(deployment.class_index) > _FEW_CLASSES:
        return False
    shares = [[value.get(label, _ABSENT) for value in values] for label in deployment.class_index]  # type: ignore[union-attr]
    table = np.array(shares, dtype=np.float64)
    given = ~np.isnan(table)
    inside = ((table >= 0) & (table <= 1)) | ~given
    return bool(inside.all()) and given.sum() == sum(map(len, values)) and bool(given.any(axis=0).all())  # type: ignore[arg-type]


def _check_probabilities(deployment: Deployment, shares: dict[str, float]) -> None:
    if not shares:
        raise Rejection(Reason.BAD_PREDICTION, "prediction: must name at least one class")
    for label, share in shares.items():
        if label not in deployment.class_index:
            raise Rejection(Reason.UNKNOWN_CLASS, f"prediction: {label[:64]!r} is no class of the deployment")
        if not 0 <= share <= 1:
            raise Rejection(Reason.BAD_PREDICTION, f"prediction.{label[:64]}: a probability lies between 0 and 1")


def canonical_actual(deployment: Deployment, value: float | str | bool | None) -> bytes:
    """JSON text by which actuals are compared, stored and shown. Raises `Rejection` where the type forbids it."""
    if value is None:
        return WITHDRAWAL
    if deployment.target_type is TargetType.REGRESSION:
        if isinstance(value, bool) or not isinstance(value, float) or not math.isfinite(value):
            raise Rejection(Reason.BAD_ACTUAL, "actual: must be a number for a regression")
        return _encode(value)
    label = class_label(value)
    if label not in deployment.class_index:
        raise Rejection(Reason.UNKNOWN_ACTUAL_CLASS, f"actual: {label[:64]!r} is no class of the deployment")
    return _encode(label)


def canonical_actuals(deployment: Deployment, values: Sequence[float | str | bool | None]) -> list[bytes] | None:
    """`canonical_actual` of every value, by columns; None only says: look at them one by one."""
    if deployment.target_type is TargetType.REGRESSION:
        if set(map(type, values)) != {float} or not np.isfinite(np.array(values, dtype=np.float64)).all():
            return None
        return _encode(values)[1:-1].split(b",")
    typed = list(zip(map(type, values), values, strict=True))
    try:
        texts = {one: canonical_actual(deployment, one[1]) for one in set(typed)}
    except Rejection:
        return None
    return [texts[one] for one in typed]
