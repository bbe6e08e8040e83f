"""Gives each record its deployment's rules: is it valid, which model made it, which monitoring batch does it join.

Comes before the join because a refused prediction must not open a row; whether it is refused at all depends on the
row, though: a repeated prediction is a duplicate even when its batch has been locked since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import MAX_MODELS, ActualOrder, Deployment, JoinSpec
from service.domain.errors import Reason, Rejection
from service.domain.ids import has_association_id, is_object_id
from service.domain.join_window import Spans
from service.domain.monitoring_batch import MonitoringBatch, hour_of, policy_batch_name
from service.domain.stats.histogram import FeatureLayout
from service.pipeline.columns import Actuals, Decoded, Predictions, Refused
from service.pipeline.decode import letter_of
from service.pipeline.registry import Known
from service.wire.events import Identity
from service.wire.features import feature_slots
from service.wire.values import canonical_actual, check_prediction, decode_predictions

Refusal = tuple[Reason, str]
_NO_LAYOUT = FeatureLayout()
_NO_SUCH = "deploymentId: no such deployment"
_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True, kw_only=True)
class Slots:
    """Feature slots of some predictions of one model."""

    positions: Sequence[int]
    slots: NDArray[np.int64]
    """(positions, features of the layout)"""
    width: int
    """Slots of the whole layout."""


@dataclass(slots=True, kw_only=True)
class Assigned:
    """Decoded columns, and beside them what the deployments make of each record."""

    predictions: Predictions
    actuals: Actuals
    undecoded: list[Refused]
    """Records of known deployments that did not decode."""
    refused: list[Refused] = field(default_factory=list)
    """These, and the records that their deployments' rules refuse."""
    model: list[str]
    batch: list[str]
    """Monitoring batch ID of each prediction, empty for none."""
    refusal: list[Refusal | None]
    """Why a prediction may not open a row."""
    canonical: list[bytes | None]
    """Canonical value of each actual, None where it was refused."""
    refused_predictions: set[int] = field(default_factory=set)
    features: list[Slots] = field(default_factory=list)
    spans: Mapping[str, Spans]
    unknown: list[Refused] = field(default_factory=list)
    """Records that name no deployment, or none that exists: dead letters without a status."""


def spans_of(join: JoinSpec) -> Spans:
    return Spans(
        window=join.window // _MICROSECOND,
        grace=join.grace // _MICROSECOND,
        early_ttl=join.early_ttl // _MICROSECOND,
        by_arrival=join.actual_order is ActualOrder.ARRIVAL,
    )


def assign(decoded: Decoded, known: Known) -> Assigned:
    """The micro-batch with the rules of its deployments applied."""
    predictions, actuals = decoded.predictions, decoded.actuals
    assigned = Assigned(
        predictions=predictions,
        actuals=actuals,
        undecoded=[],
        model=[""] * len(predictions.row_id),
        batch=[""] * len(predictions.row_id),
        refusal=[None] * len(predictions.row_id),
        canonical=[None] * len(actuals.row_id),
        spans={name: spans_of(deployment.join) for name, deployment in known.deployments.items()},
    )
    for refused in decoded.refused:
        name = refused.identity.deployment_id
        if name is None:
            assigned.unknown.append(refused)
        elif name in known.deployments:
            assigned.undecoded.append(refused)
        else:
            assigned.unknown.append(_unknown(refused))
    assigned.refused.extend(assigned.undecoded)
    for name, positions in predictions.by_deployment().items():
        if name in known.deployments:
            _assign_predictions(assigned, known, known.deployments[name], positions)
        else:
            for i in positions:
                _refuse_prediction(assigned, i, Reason.UNKNOWN_DEPLOYMENT, _NO_SUCH, assigned.unknown)
    for name, positions in actuals.by_deployment().items():
        for i in positions:
            _assign_actual(assigned, known.deployments.get(name), i)
    return assigned


def _unknown(refused: Refused) -> Refused:
    return refused._replace(
        reason=Reason.UNKNOWN_DEPLOYMENT, detail=f"{_NO_SUCH}; {refused.detail}", identity=Identity()
    )


def _assign_predictions(assigned: Assigned, known: Known, deployment: Deployment, positions: Sequence[int]) -> None:
    predictions = assigned.predictions
    values = decode_predictions([predictions.prediction[i] for i in positions])
    skew = deployment.join.max_future_skew // _MICROSECOND
    by_model: dict[str, list[int]] = {}
    for i, value in zip(positions, values, strict=True):
        try:
            check_prediction(deployment, value)
            _check_skew(predictions.predicted_at[i], predictions.record[i].timestamp, skew)
            model = _model_of(deployment, predictions.model[i])
        except Rejection as error:
            _refuse_prediction(assigned, i, error.reason, error.detail, assigned.refused)
            continue
        assigned.model[i] = model
        by_model.setdefault(model, []).append(i)
        _assign_batch(assigned, known, deployment, i)
    for model, members in by_model.items():
        _assign_features(assigned, deployment, model, members)


def _model_of(deployment: Deployment, given: str | None) -> str:
    if given is None:
        return deployment.current_model
    if given in deployment.models:
        return given
    # the registry has learned every well-formed model that still fits
    if is_object_id(given):
        raise Rejection(Reason.TOO_MANY_MODELS, f"modelId: the deployment has {MAX_MODELS} models already")
    raise Rejection(Reason.BAD_MODEL_ID, "modelId: must match [A-Za-z0-9._-]{1,128}")


def _check_skew(event_at: int, received_ms: int, skew: int) -> None:
    if event_at > received_ms * 1000 + skew:
        raise Rejection(
            Reason.FUTURE_TIMESTAMP, "timestamp: lies further ahead of the record's Kafka timestamp than maxFutureSkew"
        )


def _assign_batch(assigned: Assigned, known: Known, deployment: Deployment, i: int) -> None:
    predictions = assigned.predictions
    if not has_association_id(predictions.row_id[i]) and deployment.association_required:
        assigned.refusal[i] = (Reason.MISSING_ASSOCIATION_ID, "associationId: the deployment requires one")
        return
    batch_id, batch_name = predictions.batch_id[i], predictions.batch_name[i]
    if not deployment.batch_enabled:
        if batch_id is not None or batch_name is not None:
            assigned.refusal[i] = (Reason.BAD_BATCH, "batchId: batch monitoring is off for the deployment")
        return
    batch: MonitoringBatch | None
    if batch_id is not None:
        batch = known.batches.get((deployment.id, batch_id))
        if batch is None:
            assigned.refusal[i] = (Reason.UNKNOWN_BATCH, "batchId: no such monitoring batch")
            return
    elif batch_name is not None:
        batch = known.named[deployment.id, batch_name]
    else:
        name = policy_batch_name(deployment.batch_policy, hour_of(predictions.predicted_at[i]))
        if name is None:
            return
        batch = known.scheduled[deployment.id, name]
    if batch.refusal is not None:
        assigned.refusal[i] = (batch.refusal, f"batchId: monitoring batch {batch.id} takes no further rows")
    assigned.batch[i] = batch.id


def _assign_features(assigned: Assigned, deployment: Deployment, model: str, members: Sequence[int]) -> None:
    predictions = assigned.predictions
    layout = deployment.layouts.get(model, _NO_LAYOUT)
    slots, broken = feature_slots([predictions.features[i] for i in members], layout)
    for row in broken:
        detail = "features: must be an object of numbers, strings, booleans and nulls"
        _refuse_prediction(assigned, members[row], Reason.BAD_FEATURES, detail, assigned.refused)
    if layout.features:
        assigned.features.append(Slots(positions=members, slots=slots, width=layout.slots))


def _refuse_prediction(assigned: Assigned, i: int, reason: Reason, detail: str, to: list[Refused]) -> None:
    columns = assigned.predictions
    assigned.refused_predictions.add(i)
    to.append(_refused_of(columns, i, True, reason, detail, known=to is assigned.refused))


def _assign_actual(assigned: Assigned, deployment: Deployment | None, i: int) -> None:
    actuals = assigned.actuals
    if deployment is None:
        assigned.unknown.append(_refused_of(actuals, i, False, Reason.UNKNOWN_DEPLOYMENT, _NO_SUCH, known=False))
        return
    try:
        skew = deployment.join.max_future_skew // _MICROSECOND
        _check_skew(actuals.actual_at[i], actuals.record[i].timestamp, skew)
        assigned.canonical[i] = canonical_actual(deployment, actuals.value[i])
    except Rejection as error:
        assigned.refused.append(_refused_of(actuals, i, False, error.reason, error.detail, known=True))


def _refused_of(
    columns: Predictions | Actuals, i: int, is_prediction: bool, reason: Reason, detail: str, *, known: bool
) -> Refused:
    row_id = columns.row_id[i]
    identity = Identity(columns.deployment[i], row_id if has_association_id(row_id) else None) if known else Identity()
    return Refused(
        is_prediction, columns.origin[i], columns.notes[i], identity, reason, detail, letter_of(columns.record[i])
    )
