"""Actuals that come in through an API: what each must be, and the event that it becomes."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from service.domain.deployment import Deployment, TargetType
from service.domain.errors import Invalid
from service.usecases.intake import Chunk, Entry, Problem, Submission, association_rule, instant_rule
from service.wire.events import ActualEvent
from service.wire.values import class_label

_encode: Final = msgspec.json.Encoder().encode
_NUMBER: Final = "must be a finite number, for a regression"
_LABEL: Final = "must be a class of the deployment"


class ActualRow(NamedTuple):
    """An actual as it was given; types are right, nothing else is known."""

    association_id: str
    actual: float | str
    """A whole number may be an `int` of any size."""
    timestamp: datetime | None
    was_acted_on: bool | None


class _Event(ActualEvent, gc=False, rename="camel", omit_defaults=True):
    """What has no value is left out."""


def require_association(submission: Submission) -> None:
    """Raises `Invalid` where the deployment joins nothing."""
    if not submission.facts.association_columns:
        raise Invalid("no association ID column is set for the deployment, so no actual can find its prediction")


def check_actuals(
    submission: Submission, rows: Sequence[tuple[int, ActualRow]], *, keep_without_prediction: bool
) -> Chunk:
    """Rows by their numbers; no limit to how many. Without a timestamp the record's own will be taken."""
    chunk, deployment, latest = Chunk(), submission.facts.deployment, submission.latest
    keep = None if keep_without_prediction else False
    known: dict[object, float | str | None] = {}
    for number, row in rows:
        value = known.get((row.actual.__class__, row.actual))
        if value is None:
            value = known[row.actual.__class__, row.actual] = _value(deployment, row.actual)
        wrong = (
            ("associationId", association_rule(row.association_id)),
            ("actual", None if value is not None else _rule(deployment)),
            ("timestamp", None if row.timestamp is None else instant_rule(row.timestamp, latest)),
        )
        if any(rule for _, rule in wrong):
            chunk.problems += [Problem(number, name, rule) for name, rule in wrong if rule]
            continue
        event = _Event(deployment.id, row.association_id, value, row.timestamp, row.was_acted_on, keep)
        chunk.add(Entry(number, row.association_id.encode(), _encode(event)))
    return chunk


def _value(deployment: Deployment, given: float | str) -> float | str | None:
    """As it is sent: a number for a regression, else the label as text. None where it is neither."""
    if deployment.target_type is not TargetType.REGRESSION:
        label = class_label(given) if isinstance(given, str) or _finite(given) is not None else None
        return label if label in deployment.class_index else None
    return None if isinstance(given, str) else _finite(given)


def _finite(given: float) -> float | None:
    try:
        number = float(given)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _rule(deployment: Deployment) -> str:
    return _NUMBER if deployment.target_type is TargetType.REGRESSION else _LABEL
