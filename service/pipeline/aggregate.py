"""From what happened to what the statistics gain: deltas of cells, clocks and counters. Pure and vectorised."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import Deployment, TargetType
from service.domain.monitoring_batch import hours_of
from service.domain.stats.accuracy import PAIR_STRIDE, Accuracy, class_accuracy, predicted_class, regression_accuracy
from service.domain.stats.histogram import count_slots
from service.domain.stats.traffic import OUTCOMES, Traffic
from service.pipeline.assign import Assigned, Slots
from service.pipeline.columns import Actuals, Predictions
from service.pipeline.join import Happened, Joined, Pair
from service.pipeline.registry import BatchKey
from service.ports import AccuracyCellKey, ClockRow, PredictionCellKey
from service.wire.values import Prediction, class_label, decode_predictions

_labels = msgspec.json.Decoder(list[str])
_numbers = msgspec.json.Decoder(list[float])
_NO_SEGMENT = ""
_ABSENT = float("nan")


@dataclass(slots=True, kw_only=True)
class Deltas:
    """What one micro-batch adds."""

    traffic: dict[PredictionCellKey, Traffic] = field(default_factory=dict)
    accuracy: dict[AccuracyCellKey, Accuracy] = field(default_factory=dict)
    submissions: dict[tuple[str, str], int] = field(default_factory=dict)


def aggregate(
    assigned: Assigned, joined: Joined, deployments: Mapping[str, Deployment], deleted: frozenset[BatchKey]
) -> Deltas:
    """Deltas of everything but the clocks. Nothing is added to the `deleted` monitoring batches."""
    deltas = Deltas(traffic=_traffic(assigned, joined, deleted), submissions=_submissions(joined))
    by_deployment: dict[str, list[Pair]] = {}
    for pair in joined.pairs:
        by_deployment.setdefault(pair.deployment, []).append(pair)
    for name, pairs in by_deployment.items():
        deltas.accuracy.update(_accuracy(deployments[name], pairs))
    return deltas


_CellTuple = tuple[str, str, str, int, str]


def _traffic(assigned: Assigned, joined: Joined, deleted: frozenset[BatchKey]) -> dict[PredictionCellKey, Traffic]:
    numbers: dict[_CellTuple, int] = {}
    number = numbers.setdefault
    cells = _cells_of(joined.happened, deleted)
    outcome_groups = np.array([number(cell, len(numbers)) for cell in cells], dtype=np.int64)
    codes = np.array([happened[0] for happened in joined.happened], dtype=np.int64)
    counted, columns = joined.counted, assigned.predictions
    hours = hours_of(columns.at).tolist()
    counted_groups = [
        number((columns.deployment[i], assigned.model[i], assigned.batch[i], hours[i], _NO_SEGMENT), len(numbers))
        for i in counted
    ]
    count = len(numbers)
    outcomes = count_slots(outcome_groups, count, codes[:, None], OUTCOMES)
    predictions = np.bincount(np.array(counted_groups, dtype=np.int64), minlength=count).tolist()
    deltas = [Traffic(predictions=n, outcomes=row) for n, row in zip(predictions, outcomes, strict=True)]
    _widen(deltas, counted_groups, columns.at[counted].tolist())
    group_of = np.full(len(columns.row_id), -1, dtype=np.int64)
    group_of[counted] = counted_groups
    for i, notes in columns.arrivals.notes.items():
        if notes.skip_drift:
            group_of[i] = -1
    for slots in assigned.features:
        _count_features(deltas, group_of, slots)
    return {PredictionCellKey(*cell): deltas[group] for cell, group in numbers.items()}


def _cells_of(happened: Sequence[Happened], deleted: frozenset[BatchKey]) -> list[_CellTuple]:
    """The cell of each row; records without one count where no model and no batch stands."""
    kept = [
        row is not None and bool(row.prediction) and (not deleted or (name, row.batch) not in deleted)
        for name, row in [(one.deployment, one.row) for one in happened]
    ]
    instants = [one[5].predicted_at if keep else one[10] for one, keep in zip(happened, kept, strict=True)]  # type: ignore[union-attr]
    hours = hours_of(np.array(instants, dtype=np.int64)).tolist()
    return [
        (one[2], one[5].model, one[5].batch, hour, _NO_SEGMENT) if keep else (one[2], "", "", hour, _NO_SEGMENT)  # type: ignore[union-attr]
        for one, keep, hour in zip(happened, kept, hours, strict=True)
    ]


def _widen(deltas: Sequence[Traffic], cells: Sequence[int], instants: Sequence[int]) -> None:
    for cell, at in zip(cells, instants, strict=True):
        delta = deltas[cell]
        if delta.first_at is None or at < delta.first_at:
            delta.first_at = at
        if delta.last_at is None or at > delta.last_at:
            delta.last_at = at


def _count_features(deltas: Sequence[Traffic], group_of: NDArray[np.int64], slots: Slots) -> None:
    groups = group_of[np.asarray(slots.positions)]
    present, compact = np.unique(groups[groups >= 0], return_inverse=True)
    counts = count_slots(compact, len(present), slots.slots[groups >= 0], slots.width)
    for group, row in zip(present.tolist(), counts, strict=True):
        deltas[group].features = row


def _accuracy(deployment: Deployment, pairs: Sequence[Pair]) -> dict[AccuracyCellKey, Accuracy]:
    numbers: dict[tuple[str, str, str, int, str, int], int] = {}
    number, name = numbers.setdefault, deployment.id
    hours = hours_of(np.array([row.predicted_at for _, _, row in pairs], dtype=np.int64)).tolist()
    groups = np.array(
        [
            number((name, row.model, row.batch, hour, _NO_SEGMENT, row.label_day), len(numbers))
            for (_, _, row), hour in zip(pairs, hours, strict=True)
        ]
    )
    signs = np.array([sign for sign, _, _ in pairs], dtype=np.int64)
    values = decode_predictions([row.prediction for _, _, row in pairs])
    actuals = b"[" + b",".join([row.actual for _, _, row in pairs]) + b"]"
    if deployment.target_type is TargetType.REGRESSION:
        truth = np.array(_numbers.decode(actuals))
        cells = regression_accuracy(groups, len(numbers), signs, truth, np.array(values, dtype=np.float64))
    else:
        truths = np.array([deployment.class_index[label] for label in _labels.decode(actuals)], dtype=np.int64)
        judge = _judged_binary if deployment.target_type is TargetType.BINARY else _judged
        predicted, shares = judge(deployment, [row.model for _, _, row in pairs], values, truths)
        cells = class_accuracy(groups, len(numbers), signs, truths * PAIR_STRIDE + predicted, shares)
    return {AccuracyCellKey(*key): cells[group] for key, group in numbers.items()}


def _judged_binary(
    deployment: Deployment, models: Sequence[str], values: Sequence[Prediction | None], truths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """As `_judged`, by columns."""
    if not all(type(value) is dict for value in values):
        return _judged(deployment, models, values, truths)
    positive, negative = _two_classes(deployment)
    scores = np.array([_score(value, positive, negative) for value in values])  # type: ignore[arg-type]
    limits = {model: deployment.threshold_of(model) for model in set(models)}
    reached = scores >= np.array([limits[model] for model in models])
    place = deployment.class_index[positive]
    predicted = np.where(reached, place, deployment.class_index[negative])
    return predicted, np.where(truths == place, scores, 1 - scores)


def _two_classes(deployment: Deployment) -> tuple[str, str]:
    """The positive and the other class of a binary deployment."""
    labels = list(deployment.class_index)
    positive = deployment.positive_class or labels[-1]
    return positive, next(label for label in labels if label != positive)


def _score(shares: Mapping[str, float], positive: str, negative: str) -> float:
    """Probability of the positive class; of two classes, one share gives the other."""
    return shares[positive] if positive in shares else 1 - shares[negative]


def _judged(
    deployment: Deployment, models: Sequence[str], values: Sequence[Prediction | None], truths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Predicted class of each row, and the share it gave to the true class (NaN: it gave a label only)."""
    index = deployment.class_index
    labels = list(index)
    predicted, shares = [], []
    for model, value, truth in zip(models, values, truths.tolist(), strict=True):
        if isinstance(value, dict):
            full = _completed(deployment, value)
            predicted.append(predicted_class(full, index, deployment.positive_class, deployment.threshold_of(model)))
            shares.append(full.get(labels[truth], 0.0))
        else:
            predicted.append(index[class_label(value)])  # type: ignore[arg-type]
            shares.append(_ABSENT)
    return np.array(predicted, dtype=np.int64), np.array(shares)


def _completed(deployment: Deployment, shares: Mapping[str, float]) -> Mapping[str, float]:
    if deployment.target_type is not TargetType.BINARY:
        return shares
    positive, negative = _two_classes(deployment)
    score = _score(shares, positive, negative)
    return {positive: score, negative: 1 - score}


def _submissions(joined: Joined) -> dict[tuple[str, str], int]:
    counts: Counter[tuple[str, str]] = Counter()
    for happened in joined.happened:
        if happened.notes.submission_id is not None:
            counts[happened.notes.submission_id, happened.outcome.name] += 1
    for refused in joined.dead:
        if refused.identity.deployment_id is None and refused.notes.submission_id is not None:
            counts[refused.notes.submission_id, refused.reason.name] += 1
    return dict(counts)


def advance_clocks(
    clocks: Mapping[str, ClockRow],
    assigned: Assigned,
    joined: Joined,
    deployments: Mapping[str, Deployment],
    now: datetime,
) -> dict[str, ClockRow]:
    """The clock rows of every deployment that these records name: time, what was received, what became of it.

    Received is counted from the records; what became of them from the transitions. The two are compared with the
    rows of the store by the audit, so neither may be derived from the other.
    """
    predictions, actuals = assigned.predictions, assigned.actuals
    predicted = _latest(predictions, assigned.refused_predictions)
    refused_actuals = {i for i, value in enumerate(assigned.canonical) if value is None}
    acted = _latest(actuals, refused_actuals)
    received = Counter(predictions.deployment), Counter(actuals.deployment)
    for refused in assigned.undecoded:
        if refused.identity.deployment_id is not None:
            received[not refused.is_prediction][refused.identity.deployment_id] += 1
    changed = {}
    for name in {*received[0], *received[1]} & deployments.keys():
        row = clocks.get(name, ClockRow())
        dispositions = dict(row.dispositions)
        for disposition, count in joined.dispositions.get(name, {}).items():
            dispositions[disposition.name] = dispositions.get(disposition.name, 0) + count
        changed[name] = ClockRow(
            clock=row.clock.advanced(
                predictions=predicted.get(name),
                actuals=acted.get(name),
                allowed_lateness_us=round(deployments[name].join.allowed_lateness.total_seconds() * 1_000_000),
            ),
            predictions_received=row.predictions_received + received[0][name],
            actuals_received=row.actuals_received + received[1][name],
            dispositions=dispositions,
            deletions_applied=row.deletions_applied,
            predictions_heard_at=now if received[0][name] else row.predictions_heard_at,
            actuals_heard_at=now if received[1][name] else row.actuals_heard_at,
        )
    return changed


def _latest(columns: Predictions | Actuals, refused: set[int]) -> dict[str, int]:
    """Greatest event time of each deployment's records that were not refused."""
    latest = {}
    for name, positions in columns.by_deployment().items():
        taken = [i for i in positions if i not in refused] if refused else positions
        if taken:
            latest[name] = int(columns.at[taken].max())
    return latest
