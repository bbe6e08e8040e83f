"""What one record of a row added to the statistics: in which cell, and how much; worked out by the code that counts.

A cell is one (deployment, model, monitoring batch, hour of the prediction); accuracy is divided by label day, too.
"""

import math

import msgspec
import numpy as np

from service.domain.deployment import Deployment, TargetType
from service.domain.errors import Reason
from service.domain.instants import HOUR_US
from service.domain.join_window import TRANSITIONS, Event
from service.domain.outcomes import REJECTIONS, Outcome
from service.domain.row import RowPhase, RowState
from service.domain.stats.accuracy import PAIR_STRIDE
from service.domain.stats.moments import as_decimal
from service.wire.held_row import label_day_text
from service.wire.instants import rfc3339
from service.wire.pairs import accuracy_of
from service.wire.status import Instant, RowStatus

_COUNTED = (Outcome.ACCEPTED.name, Outcome.MATCHED.name)
_REFUSED = frozenset(outcome.name for outcome in REJECTIONS)
_ONE = np.ones(1, dtype=np.int64)
_GROUP = np.zeros(1, dtype=np.int64)


class Cell(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """Model and batch are left out where a record counts that no prediction stands for."""

    hour: Instant | None = None
    """Its start; None where the record's event time is not known any more."""
    model_id: str | None = None
    batch_id: str | None = None
    label_day: str | None = None


class TrafficShare(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """One more of an outcome; with `predictions` one more prediction and its features."""

    cell: Cell
    outcome: str
    predictions: int = 0


class AccuracyShare(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """A pair that was added (1) or taken away (-1): confusion and log-loss, or the terms of a regression error."""

    sign: int
    cell: Cell
    actual_class: str | None = None
    predicted_class: str | None = None
    log_loss: float | None = None
    error: float | None = None
    absolute_error: float | None = None
    squared_error: float | None = None


def traffic_share(
    status: RowStatus, kind: str | None, event_at: Instant | None, refused_at: Instant | None
) -> TrafficShare:
    """Of a status that a record of this kind brought about, or time alone (None).

    Where no prediction stands for it, its own event time decides; for a refused record the time that Kafka gave.
    """
    if status.prediction is not None and status.predicted_at and status.reason != Reason.DELETED:
        cell = Cell(hour=_hour_text(status.predicted_at), model_id=status.model_id, batch_id=status.batch_id)
    else:
        at = refused_at if status.status in _REFUSED else event_at
        cell = Cell(hour=None if at is None else _hour_text(at))
    counted = kind == "prediction" and status.status in _COUNTED
    return TrafficShare(cell=cell, outcome=status.status, predictions=int(counted))


def end_share(row: RowState) -> TrafficShare | None:
    """Of the end of a row that stood so: it was matched or parked, or it has expired. None: it could not end."""
    ending = TRANSITIONS.get((RowPhase(row.phase), Event.DROP))
    if ending is None:
        return None
    outcome = Outcome.FORGOTTEN if ending.outcome is Outcome.ORPHAN else ending.outcome  # the orphan has its own status
    if row.prediction:
        cell = Cell(hour=_hour(row.predicted_at), model_id=row.model or None, batch_id=row.batch or None)
    else:
        cell = Cell(hour=_hour(row.actual_at))
    return TrafficShare(cell=cell, outcome=outcome.name)


def accuracy_shares(deployment: Deployment, before: RowState | None, after: RowState | None) -> list[AccuracyShare]:
    """What the step from one state of a row to the next took away and added; a row only counts while it is matched."""
    if after is None or (before is not None and before.revision == after.revision):
        return []
    shares = []
    if before is not None and before.phase == RowPhase.MATCHED:
        shares.append(_share(deployment, before, -1))
    if after.phase == RowPhase.MATCHED:
        shares.append(_share(deployment, after, +1))
    return shares


def _share(deployment: Deployment, row: RowState, sign: int) -> AccuracyShare:
    cell = Cell(
        hour=_hour(row.predicted_at),
        model_id=row.model or None,
        batch_id=row.batch or None,
        label_day=label_day_text(row.label_day),
    )
    (added,) = accuracy_of(deployment, [row.model], [row.prediction], [row.actual], _ONE, _GROUP, 1)
    if deployment.target_type is TargetType.REGRESSION:
        terms = (_number(sum_) for sum_ in (added.error, added.absolute_error, added.squared_error))
        error, absolute, squared = terms
        return AccuracyShare(sign=sign, cell=cell, error=error, absolute_error=absolute, squared_error=squared)
    labels = list(deployment.class_index)
    (pair,) = added.confusion
    return AccuracyShare(
        sign=sign,
        cell=cell,
        actual_class=labels[pair // PAIR_STRIDE],
        predicted_class=labels[pair % PAIR_STRIDE],
        log_loss=_number(added.log_loss) if added.log_loss_rows else None,
    )


def _hour(at_us: int) -> Instant:
    return rfc3339(at_us - at_us % HOUR_US)


def _hour_text(at: Instant) -> Instant:
    """The start of the UTC hour of an instant as statuses write it."""
    return f"{at[:13]}:00:00.000000Z"


def _number(quanta: int) -> float | None:
    number = float(as_decimal(quanta))
    return number if math.isfinite(number) else None
