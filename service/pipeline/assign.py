"""Gives each record its deployment's rules: is it valid, which model made it, which monitoring batch does it join.

Comes before the join because a refused prediction must not open a row; whether it is refused at all depends on the
row, though: a repeated prediction is a duplicate even when its batch has been locked since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import MAX_MODELS, BatchPolicy, Deployment, Spans
from service.domain.errors import Reason, Rejection
from service.domain.ids import has_association_id, is_object_id
from service.domain.monitoring_batch import MonitoringBatch, policy_batch_name, policy_starts
from service.domain.stats.histogram import FeatureLayout
from service.pipeline.columns import Actuals, Decoded, Predictions, Refused
from service.pipeline.decode import refused_at
from service.pipeline.registry import Known
from service.wire.events import Identity, Unusable
from service.wire.features import feature_slots
from service.wire.values import all_valid, canonical_actual, canonical_actuals, check_prediction, decode_predictions

Refusal = tuple[Reason, str]
_TOO_EARLY = Rejection(
    Reason.FUTURE_TIMESTAMP, "timestamp: lies further ahead of the record's Kafka timestamp than maxFutureSkew"
)
_NOT_FLAT = Rejection(Reason.BAD_FEATURES, "features: must be an object of numbers, strings, booleans and nulls")
_NO_LAYOUT = FeatureLayout()
_NO_SUCH = "deploymentId: no such deployment"


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
    refusal: dict[int, Refusal] = field(default_factory=dict)
    """Why a prediction may not open a row."""
    canonical: list[bytes]
    """Canonical value of each actual, empty where it was refused."""
    refused_predictions: set[int] = field(default_factory=set)
    refused_actuals: set[int] = field(default_factory=set)
    features: list[Slots] = field(default_factory=list)
    spans: Mapping[str, Spans]
    unknown: list[Refused] = field(default_factory=list)
    """Records that name no deployment, or none that exists: dead letters without a status."""


def assign(decoded: Decoded, known: Known) -> Assigned:
    """The micro-batch with the rules of its deployments applied."""
    predictions, actuals = decoded.predictions, decoded.actuals
    assigned = Assigned(
        predictions=predictions,
        actuals=actuals,
        undecoded=[],
        model=[""] * len(predictions.row_id),
        batch=[""] * len(predictions.row_id),
        canonical=[b""] * len(actuals.row_id),
        spans={name: deployment.join.spans for name, deployment in known.deployments.items()},
    )
    _sort_undecoded(assigned, decoded, known)
    for name, positions in predictions.by_deployment().items():
        if name in known.deployments:
            _assign_predictions(assigned, known, known.deployments[name], positions)
        else:
            for i in positions:
                assigned.refused_predictions.add(i)
                assigned.unknown.append(refused_at(predictions.arrivals, i, True, _unknown_deployment()))
    for name, positions in actuals.by_deployment().items():
        if name in known.deployments:
            _assign_actuals(assigned, known.deployments[name], positions)
        else:
            for i in positions:
                assigned.refused_actuals.add(i)
                assigned.unknown.append(refused_at(actuals.arrivals, i, False, _unknown_deployment()))
    return assigned


def _sort_undecoded(assigned: Assigned, decoded: Decoded, known: Known) -> None:
    for refused in decoded.refused:
        name = refused.identity.deployment_id
        if name is None:
            assigned.unknown.append(refused)
        elif name in known.deployments:
            assigned.undecoded.append(refused)
        else:
            detail = f"{_NO_SUCH}; {refused.detail}"
            assigned.unknown.append(
                refused._replace(reason=Reason.UNKNOWN_DEPLOYMENT, detail=detail, identity=Identity())
            )
    assigned.refused.extend(assigned.undecoded)


def _unknown_deployment() -> Unusable:
    return Unusable(Reason.UNKNOWN_DEPLOYMENT, _NO_SUCH, Identity())


# ------------------------------------------------------------------------------------------- predictions


def _assign_predictions(assigned: Assigned, known: Known, deployment: Deployment, positions: list[int]) -> None:
    predictions = assigned.predictions
    values = decode_predictions([predictions.prediction[i] for i in positions])
    if not all_valid(deployment, values):
        for i, value in zip(positions, values, strict=True):
            try:
                check_prediction(deployment, value)
            except Rejection as error:
                _refuse_prediction(assigned, deployment, i, error)
    for i in _ahead(predictions, deployment, positions):
        _refuse_prediction(assigned, deployment, i, _TOO_EARLY)
    _assign_models(assigned, deployment, positions)
    valid = [i for i in positions if i not in assigned.refused_predictions]
    _assign_batches(assigned, known, deployment, valid)
    if deployment.association_required:
        for i in valid:
            if not has_association_id(predictions.row_id[i]):
                assigned.refusal[i] = (Reason.MISSING_ASSOCIATION_ID, "associationId: the deployment requires one")
    _assign_features(assigned, deployment, valid)


def _ahead(columns: Predictions | Actuals, deployment: Deployment, positions: Sequence[int]) -> list[int]:
    """Records whose event time lies too far ahead of the time that Kafka gave."""
    rows = slice(None) if len(positions) == len(columns.at) else np.array(positions, dtype=np.int64)
    latest = columns.received_ms[rows] * 1000 + deployment.join.spans.max_future_skew
    return [positions[i] for i in np.flatnonzero(columns.at[rows] > latest).tolist()]


def _assign_models(assigned: Assigned, deployment: Deployment, positions: list[int]) -> None:
    events = assigned.predictions.events
    named = [events[i].model_id for i in positions]
    known = {model: deployment.current_model if model is None else model for model in set(named)}
    for i, model in zip(positions, named, strict=True):
        assigned.model[i] = known[model]
    for model in set(known.values()) - deployment.models.keys():
        # the registry has learned every well-formed model that still fits
        full = Rejection(Reason.TOO_MANY_MODELS, f"modelId: the deployment has {MAX_MODELS} models already")
        bad = Rejection(Reason.BAD_MODEL_ID, "modelId: must match [A-Za-z0-9._-]{1,128}")
        for i, given in zip(positions, named, strict=True):
            if given == model:
                _refuse_prediction(assigned, deployment, i, full if is_object_id(model) else bad)


def _assign_batches(assigned: Assigned, known: Known, deployment: Deployment, positions: list[int]) -> None:
    events = assigned.predictions.events
    free = []
    for i in positions:
        batch_id, batch_name = events[i].batch_id, events[i].batch_name
        if batch_id is None and batch_name is None:
            free.append(i)
        elif not deployment.batch_enabled:
            assigned.refusal[i] = (Reason.BAD_BATCH, "batchId: batch monitoring is off for the deployment")
        elif batch_id is not None:
            _join_batch(assigned, i, known.batches.get((deployment.id, batch_id)))
        elif batch_name is not None:
            _join_batch(assigned, i, known.named[deployment.id, batch_name])
    if deployment.batch_enabled and deployment.batch_policy is not BatchPolicy.NONE and free:
        starts = policy_starts(deployment.batch_policy, assigned.predictions.at[free])
        distinct, places = np.unique(starts, return_inverse=True)
        names = [policy_batch_name(deployment.batch_policy, start) for start in distinct.tolist()]
        batches = [known.scheduled[deployment.id, name] for name in names]
        ids, closed = [batch.id for batch in batches], any(batch.refusal is not None for batch in batches)
        for i, place in zip(free, places.tolist(), strict=True):
            assigned.batch[i] = ids[place]
            if closed:
                _join_batch(assigned, i, batches[place])


def _join_batch(assigned: Assigned, i: int, batch: MonitoringBatch | None) -> None:
    if batch is None:
        assigned.refusal[i] = (Reason.UNKNOWN_BATCH, "batchId: no such monitoring batch")
        return
    assigned.batch[i] = batch.id
    if batch.refusal is not None:
        assigned.refusal[i] = (batch.refusal, f"batchId: monitoring batch {batch.id} takes no further rows")


def _assign_features(assigned: Assigned, deployment: Deployment, positions: list[int]) -> None:
    by_model: dict[str, list[int]] = {}
    for i in positions:
        by_model.setdefault(assigned.model[i], []).append(i)
    events = assigned.predictions.events
    for model, members in by_model.items():
        layout = deployment.layouts.get(model, _NO_LAYOUT)
        slots, broken = feature_slots([bytes(events[i].features) for i in members], layout)
        for row in broken:
            _refuse_prediction(assigned, deployment, members[row], _NOT_FLAT)
        if layout.features:
            assigned.features.append(Slots(positions=members, slots=slots, width=layout.slots))


def _refuse_prediction(assigned: Assigned, deployment: Deployment, i: int, error: Rejection) -> None:
    if i not in assigned.refused_predictions:
        assigned.refused_predictions.add(i)
        assigned.refused.append(_refused(assigned.predictions, deployment, i, error))


# ----------------------------------------------------------------------------------------------- actuals


def _assign_actuals(assigned: Assigned, deployment: Deployment, positions: Sequence[int]) -> None:
    actuals = assigned.actuals
    ahead = set(_ahead(actuals, deployment, positions))
    values = [actuals.events[i].actual for i in positions]
    if not ahead and (canonical := canonical_actuals(deployment, values)) is not None:
        for i, text in zip(positions, canonical, strict=True):
            assigned.canonical[i] = text
        return
    for i, value in zip(positions, values, strict=True):
        try:
            if i in ahead:
                raise _TOO_EARLY
            assigned.canonical[i] = canonical_actual(deployment, value)
        except Rejection as error:
            assigned.refused_actuals.add(i)
            assigned.refused.append(_refused(actuals, deployment, i, error))


def _refused(columns: Predictions | Actuals, deployment: Deployment, i: int, error: Rejection) -> Refused:
    named = columns.row_id[i] if has_association_id(columns.row_id[i]) else None
    unusable = Unusable(error.reason, error.detail, Identity(deployment.id, named))
    return refused_at(columns.arrivals, i, isinstance(columns, Predictions), unusable)
