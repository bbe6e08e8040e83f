"""From what happened to what the statistics gain: deltas of cells, clocks and counters. Pure and vectorised."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import Deployment, TargetType
from service.domain.monitoring_batch import hour_of
from service.domain.stats.accuracy import PAIR_STRIDE, Accuracy, class_accuracy, predicted_class, regression_accuracy
from service.domain.stats.histogram import count_slots
from service.domain.stats.traffic import OUTCOMES, Traffic
from service.pipeline.assign import Assigned, Slots
from service.pipeline.join import Happened, Joined, Pair
from service.pipeline.registry import BatchKey
from service.ports import AccuracyCellKey, ClockRow, PredictionCellKey
from service.wire.values import Prediction, class_label, decode_predictions

_labels = msgspec.json.Decoder(list[str])
_numbers = msgspec.json.Decoder(list[float])
_NO_SEGMENT = ""


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


class _Groups:
    """Numbers for keys, in the order in which they are first seen."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str, str, int, str], int] = {}

    def number(self, key: tuple[str, str, str, int, str]) -> int:
        return self.numbers.setdefault(key, len(self.numbers))


def _traffic(assigned: Assigned, joined: Joined, deleted: frozenset[BatchKey]) -> dict[PredictionCellKey, Traffic]:
    groups = _Groups()
    outcome_groups = np.array(
        [groups.number(_cell_of(happened, deleted)) for happened in joined.happened], dtype=np.int64
    )
    codes = np.array([happened.outcome for happened in joined.happened], dtype=np.int64)
    counted = joined.counted
    columns = assigned.predictions
    cells = [
        groups.number(
            (columns.deployment[i], assigned.model[i], assigned.batch[i], hour_of(columns.predicted_at[i]), _NO_SEGMENT)
        )
        for i in counted
    ]
    count = len(groups.numbers)
    outcomes = count_slots(outcome_groups, count, codes[:, None], OUTCOMES)
    predictions = np.bincount(np.array(cells, dtype=np.int64), minlength=count).tolist()
    deltas = [Traffic(predictions=n, outcomes=row) for n, row in zip(predictions, outcomes, strict=True)]
    _widen(deltas, cells, [columns.predicted_at[i] for i in counted])
    group_of = np.full(len(columns.row_id), -1, dtype=np.int64)
    group_of[counted] = cells
    for i in counted:
        if columns.notes[i].skip_drift:
            group_of[i] = -1
    for slots in assigned.features:
        _count_features(deltas, group_of, slots)
    return {PredictionCellKey(*key): deltas[number] for key, number in groups.numbers.items()}


def _cell_of(happened: Happened, deleted: frozenset[BatchKey]) -> tuple[str, str, str, int, str]:
    """The cell of the row; records without one count where no model and no batch stands."""
    row = happened.row
    if row is not None and row.prediction and (happened.deployment, row.batch) not in deleted:
        return (happened.deployment, row.model, row.batch, hour_of(row.predicted_at), _NO_SEGMENT)
    return (happened.deployment, "", "", hour_of(happened.event_at), _NO_SEGMENT)


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
    groups = np.array(
        [
            numbers.setdefault(
                (deployment.id, row.model, row.batch, hour_of(row.predicted_at), _NO_SEGMENT, row.label_day),
                len(numbers),
            )
            for _, _, row in pairs
        ]
    )
    signs = np.array([pair.sign for pair in pairs], dtype=np.int64)
    values = decode_predictions([pair.row.prediction for pair in pairs])
    actuals = b"[" + b",".join([pair.row.actual for pair in pairs]) + b"]"
    if deployment.target_type is TargetType.REGRESSION:
        truth = np.array(_numbers.decode(actuals))
        cells = regression_accuracy(groups, len(numbers), signs, truth, np.array(values, dtype=np.float64))
    else:
        pair_codes, shares = _judged(deployment, pairs, values, _labels.decode(actuals))
        cells = class_accuracy(groups, len(numbers), signs, pair_codes, shares)
    return {AccuracyCellKey(*key): cells[number] for key, number in numbers.items()}


def _judged(
    deployment: Deployment, pairs: Sequence[Pair], values: Sequence[Prediction | None], labels: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Confusion pair of each row, and the probability it gave to the true class (NaN: it gave a label only)."""
    index = deployment.class_index
    codes, shares = [], []
    for pair, value, label in zip(pairs, values, labels, strict=True):
        if isinstance(value, dict):
            threshold = deployment.threshold_of(pair.row.model)
            full = _completed(deployment, value)
            predicted = predicted_class(full, index, deployment.positive_class, threshold)
            shares.append(full.get(label, 0.0))
        else:
            predicted = index[class_label(value)]  # type: ignore[arg-type]
            shares.append(float("nan"))
        codes.append(index[label] * PAIR_STRIDE + predicted)
    return np.array(codes, dtype=np.int64), np.array(shares)


def _completed(deployment: Deployment, shares: dict[str, float]) -> dict[str, float]:
    """Of two classes, one share gives the other."""
    if deployment.target_type is not TargetType.BINARY or len(shares) != 1:
        return shares
    ((given, share),) = shares.items()
    return {label: share if label == given else 1 - share for label in deployment.class_index}


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
    predicted = _latest(predictions.deployment, predictions.predicted_at, assigned.refused_predictions)
    refused_actuals = {i for i, value in enumerate(assigned.canonical) if value is None}
    acted = _latest(actuals.deployment, actuals.actual_at, refused_actuals)
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


def _latest(names: Sequence[str], instants: Sequence[int], refused: set[int]) -> dict[str, int]:
    latest: dict[str, int] = {}
    for i, (name, at) in enumerate(zip(names, instants, strict=True)):
        if at > latest.get(name, -1) and i not in refused:
            latest[name] = at
    return latest
