"""Predictions that come in through an API: what each must be, and the event that it becomes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from service.domain.deployment import MAX_MODELS, Deployment, TargetType
from service.domain.errors import Conflict
from service.domain.ids import is_object_id
from service.domain.stats.histogram import FeatureLayout
from service.usecases.intake import (
    MISSING,
    Chunk,
    Entry,
    Problem,
    Submission,
    association_rule,
    instant_rule,
    row_id,
)
from service.wire.events import PredictionEvent, ServiceFigures
from service.wire.features import feature_slots

MAX_PREDICTION_BYTES: Final = 128 * 1024
"""Of its JSON text; the pipeline refuses a longer one."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(PredictionEvent).decode
_NO_LAYOUT: Final = FeatureLayout()
_NOT_FLAT: Final = "must be an object of numbers, strings, booleans and nulls"
Wrong = tuple[str, str | None]


class PredictionRow(NamedTuple):
    """A prediction as it was given; types are right, nothing else is known."""

    association_id: str | None
    prediction: float | Sequence[tuple[str, float]]
    """A number, or shares of classes."""
    timestamp: datetime | None = None
    features: bytes = b"{}"
    """JSON text."""
    service: ServiceFigures | None = None


class Destination(NamedTuple):
    """The model and the monitoring batch that a whole request names."""

    model_id: str | None = None
    batch_id: str | None = None


class _Event(PredictionEvent, gc=False, rename="camel", omit_defaults=True):
    """What has no value is left out."""


def destination_problems(submission: Submission, to: Destination) -> list[Problem]:
    """What is wrong with them. Whether the batch is locked is another question: `require_open`."""
    facts, found = submission.facts, []
    if to.model_id is not None:
        if not is_object_id(to.model_id):
            found.append(Problem(None, "modelId", "must be 1 to 128 characters of A-Z, a-z, 0-9, dot, _ and -"))
        elif to.model_id not in facts.deployment.models and len(facts.deployment.models) >= MAX_MODELS:
            found.append(Problem(None, "modelId", f"the deployment has {MAX_MODELS} models already"))
    if to.batch_id is not None:
        if not facts.deployment.batch_enabled:
            found.append(Problem(None, "batchId", "batch monitoring is off for the deployment"))
        elif facts.batch is None:
            found.append(Problem(None, "batchId", "there is no such monitoring batch"))
    return found


def require_open(submission: Submission) -> None:
    """Raises `Conflict` where the monitoring batch takes no further rows."""
    batch = submission.facts.batch
    if batch is not None and batch.refusal is not None:
        raise Conflict(f"monitoring batch {batch.id} is locked")


def check_predictions(submission: Submission, rows: Sequence[tuple[int, PredictionRow]], to: Destination) -> Chunk:
    """Rows by their numbers; no limit to how many. Without a timestamp the record's own will be taken.

    A row that needs an ID and has none gets one made of the submission and its number, so that it has the same one
    when the submission is sent once more.
    """
    chunk, facts, latest = Chunk(), submission.facts, submission.latest
    deployment = facts.deployment
    _, nested = feature_slots([row.features for _, row in rows], _NO_LAYOUT)
    broken = frozenset(nested)
    for place, (number, row) in enumerate(rows):
        given = row.association_id
        if given is None and facts.ids_generated:
            given = f"{submission.id}-{number}"
        prediction, faults = _prediction(deployment, row.prediction)
        wrong: Iterable[Wrong] = (
            ("associationId", _association_rule(given, deployment)),
            ("timestamp", None if row.timestamp is None else instant_rule(row.timestamp, latest)),
            ("features", _NOT_FLAT if place in broken else None),
        )
        if faults or any(rule for _, rule in wrong):
            chunk.problems += [Problem(number, name, rule) for name, rule in chain(wrong, faults) if rule]
            continue
        event = _Event(
            deployment.id, Raw(prediction), given, row.timestamp, to.model_id, to.batch_id, None, Raw(row.features)
        )
        event.service = row.service
        key = row_id(submission.id, number) if given is None else given
        chunk.add(Entry(number, key.encode(), _encode(event)))
    return chunk


def with_service(entry: Entry, service: ServiceFigures) -> Entry:
    """The same row, with figures of the request that brought it."""
    event = _decode(entry.value)
    told = {name: getattr(event, name) for name in event.__struct_fields__} | {"service": service}
    return entry._replace(value=_encode(_Event(**told)))


def _association_rule(given: str | None, deployment: Deployment) -> str | None:
    if given is None:
        return f"{MISSING} by the deployment" if deployment.association_required else None
    return association_rule(given)


def _prediction(deployment: Deployment, given: float | Sequence[tuple[str, float]]) -> tuple[bytes, Sequence[Wrong]]:
    """Its JSON text, and what is wrong with it."""
    if deployment.target_type is TargetType.REGRESSION:
        number = _finite(given)
        wrong = "must be a finite number, for a regression"
        return (b"", [("prediction", wrong)]) if number is None else (_encode(number), [])
    if isinstance(given, (int, float)):
        return b"", [("prediction", "must be a list of classes and their probabilities")]
    shares = dict(given)
    if not shares:
        return b"", [("prediction", "must name at least one class")]
    if faults := _share_faults(deployment, given, shares):
        return b"", faults
    text = _encode(shares)
    if len(text) > MAX_PREDICTION_BYTES:
        return b"", [("prediction", f"must have at most {MAX_PREDICTION_BYTES:,} bytes")]
    return text, []


def _share_faults(
    deployment: Deployment, given: Sequence[tuple[str, float]], shares: Mapping[str, float]
) -> Sequence[Wrong]:
    known = deployment.class_index
    if len(shares) == len(given) and all(label in known and 0 <= share <= 1 for label, share in shares.items()):
        return []
    faults: list[Wrong] = []
    seen: set[str] = set()
    for place, (label, share) in enumerate(given):
        if label not in known:
            faults.append((f"prediction.{place}.label", "must be a class of the deployment"))
        elif label in seen:
            faults.append((f"prediction.{place}.label", "must name each class once"))
        if not 0 <= share <= 1:
            faults.append((f"prediction.{place}.share", "must be a probability between 0 and 1"))
        seen.add(label)
    return faults


def _finite(given: object) -> float | None:
    if not isinstance(given, (int, float)):
        return None
    try:
        number = float(given)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
