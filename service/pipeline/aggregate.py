"""From what happened to what the statistics gain: deltas of cells, clocks and counters. Pure and vectorised."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import Deployment
from service.domain.instants import LATEST_US
from service.domain.monitoring_batch import hours_of
from service.domain.outcomes import Outcome
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.histogram import count_slots
from service.domain.stats.traffic import OUTCOMES, Traffic
from service.domain.watermark import Heard
from service.pipeline.assign import Assigned, Slots
from service.pipeline.columns import NO_NOTES, Actuals, Predictions, Strayed
from service.pipeline.join import Happened, Joined, Pair
from service.pipeline.registry import BatchKey
from service.ports import AccuracyCellKey, ClockRow, PredictionCellKey
from service.wire.pairs import accuracy_of

_NO_SEGMENT = ""
_NEVER_FIRST, _NEVER_LAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


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


_Place = tuple[str, str, str]
"""Deployment, model, monitoring batch."""


def _traffic(assigned: Assigned, joined: Joined, deleted: frozenset[BatchKey]) -> dict[PredictionCellKey, Traffic]:
    if not joined.happened:
        return {}
    places, numbers, hours = _cells_of(joined.happened, deleted)
    members, groups = _grouped(numbers, hours)
    count, columns = len(members), assigned.predictions
    codes = np.array([happened[0] for happened in joined.happened], dtype=np.int64)
    outcomes = count_slots(groups, count, codes[:, None], OUTCOMES)
    counted = np.array(joined.counted, dtype=np.int64).reshape(-1, 2)
    counted_groups, counted_at = groups[counted[:, 1]], columns.at[counted[:, 0]]
    predictions = np.bincount(counted_groups, minlength=count).tolist()
    first, last = np.full(count, _NEVER_FIRST), np.full(count, _NEVER_LAST)
    np.minimum.at(first, counted_groups, counted_at)
    np.maximum.at(last, counted_groups, counted_at)
    opened = [joined.happened[place] for _, place in joined.counted]
    waiting = [min(one[5].due, LATEST_US) if one[6] else 0 for one in opened]  # type: ignore[union-attr]
    due = np.zeros(count, dtype=np.int64)
    np.maximum.at(due, counted_groups, np.array(waiting, dtype=np.int64))
    deltas = [
        Traffic(
            predictions=n,
            first_at=since if n else None,
            last_at=until if n else None,
            last_due=closing or None,
            outcomes=row,
        )
        for n, since, until, closing, row in zip(
            predictions, first.tolist(), last.tolist(), due.tolist(), outcomes, strict=True
        )
    ]
    group_of = np.full(len(columns.row_id), -1, dtype=np.int64)
    group_of[counted[:, 0]] = counted_groups
    for i, notes in columns.arrivals.notes.items():
        if notes.skip_drift:
            group_of[i] = -1
    for slots in assigned.features:
        _count_features(deltas, group_of, slots)
    return {
        PredictionCellKey._make((*places[place], hour, _NO_SEGMENT)): delta
        for place, hour, delta in zip(numbers[members].tolist(), hours[members].tolist(), deltas, strict=True)
    }


def _cells_of(
    happened: Sequence[Happened], deleted: frozenset[BatchKey]
) -> tuple[list[_Place], NDArray[np.int64], NDArray[np.int64]]:
    """All places, and of each row's cell the position of its place among them and the hour.

    Records without a row count where no model and no batch stands.
    """
    numbers: dict[_Place, int] = {}
    number, places, instants = numbers.setdefault, [], []
    for one in happened:
        row, name = one[5], one[2]
        if row is not None and row.prediction and (not deleted or (name, row.batch) not in deleted):
            places.append(number((name, row.model, row.batch), len(numbers)))
            instants.append(row.predicted_at)
        else:
            places.append(number((name, "", ""), len(numbers)))
            instants.append(one[10])
    return list(numbers), np.array(places), hours_of(np.array(instants, dtype=np.int64))


def _grouped(first: NDArray[np.int64], *others: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that agree in all columns (n,) are a group: a member of each group, and the group of each row (n,)."""
    groups = first
    for column in others:
        groups = np.unique(groups, return_inverse=True)[1]
        values, positions = np.unique(column, return_inverse=True)
        groups = groups * len(values) + positions
    _, members, groups = np.unique(groups, return_index=True, return_inverse=True)
    return members, groups


def _count_features(deltas: Sequence[Traffic], group_of: NDArray[np.int64], slots: Slots) -> None:
    groups = group_of[np.asarray(slots.positions)]
    present, compact = np.unique(groups[groups >= 0], return_inverse=True)
    counts = count_slots(compact, len(present), slots.slots[groups >= 0], slots.width)
    for group, row in zip(present.tolist(), counts, strict=True):
        deltas[group].features = row


def _accuracy(deployment: Deployment, pairs: Sequence[Pair]) -> dict[AccuracyCellKey, Accuracy]:
    rows = [pair[2] for pair in pairs]
    hours = hours_of(np.array([row.predicted_at for row in rows], dtype=np.int64))
    days = np.array([row.label_day for row in rows], dtype=np.int64)
    places: dict[_Place, int] = {}
    number, name = places.setdefault, deployment.id
    numbers = np.array([number((name, row.model, row.batch), len(places)) for row in rows])
    members, groups = _grouped(numbers, hours, days)
    signs = np.array([pair[0] for pair in pairs], dtype=np.int64)
    cells = accuracy_of(deployment, rows, signs, groups, len(members))
    keys = zip(numbers[members].tolist(), hours[members].tolist(), days[members].tolist(), strict=True)
    names = list(places)
    return {
        AccuracyCellKey._make((*names[place], hour, _NO_SEGMENT, day)): cell
        for (place, hour, day), cell in zip(keys, cells, strict=True)
    }


def _submissions(joined: Joined) -> dict[tuple[str, str], int]:
    counts: Counter[tuple[str, str]] = Counter()
    for happened in joined.happened:
        if happened[9] is not NO_NOTES and happened.notes.submission_id is not None:
            counts[happened.notes.submission_id, _word(happened)] += 1
    for refused in joined.dead:
        if refused.identity.deployment_id is None and refused.notes.submission_id is not None:
            counts[refused.notes.submission_id, refused.reason.name] += 1
    return dict(counts)


def _word(happened: Happened) -> str:
    """For what became of a record: the outcome, of an invalid one with its reason."""
    if happened.outcome is Outcome.INVALID and happened.reason is not None:
        return f"{happened.outcome.name}:{happened.reason}"
    return happened.outcome.name


def advance_clocks(
    clocks: Mapping[str, ClockRow],
    assigned: Assigned,
    joined: Joined,
    strayed: Sequence[Strayed],
    deployments: Mapping[str, Deployment],
    wall: int,
) -> dict[str, ClockRow]:
    """The clock rows of every deployment that something happened to: time, what was received, what became of it.

    The watermarks stay as they are (`DeploymentClock.risen`). Received is counted from the records; what became of them
    from the transitions. The two are compared with the rows of the store by the audit, so neither may be derived from
    the other.
    """
    predictions, actuals = assigned.predictions, assigned.actuals
    predicted = _heard(predictions, assigned.refused_predictions)
    acted = _heard(actuals, {i for i, value in enumerate(assigned.canonical) if value is None})
    for stray in strayed:
        if stray.is_leaving and stray.deployment in deployments and not _is_ahead(stray, deployments[stray.deployment]):
            heard = predicted if stray.is_prediction else acted
            heard[stray.deployment] = _wider(heard.get(stray.deployment), stray.at)
    received = Counter(predictions.deployment), Counter(actuals.deployment)
    for refused in assigned.undecoded:
        if refused.identity.deployment_id is not None:
            received[not refused.is_prediction][refused.identity.deployment_id] += 1
    foreign = {stray.deployment for stray in strayed}
    changed = {}
    for name in ({*received[0], *received[1], *foreign} & deployments.keys()) | joined.dispositions.keys():
        row = clocks.get(name, ClockRow())
        dispositions = Counter(row.dispositions)
        dispositions.update({found.name: count for found, count in joined.dispositions.get(name, {}).items()})
        changed[name] = replace(
            row,
            clock=row.clock.heard(predicted.get(name), acted.get(name), wall),
            predictions_received=row.predictions_received + received[0][name],
            actuals_received=row.actuals_received + received[1][name],
            dispositions=dict(dispositions),
            has_strays=row.has_strays or name in foreign,
        )
    return changed


def _heard(columns: Predictions | Actuals, refused: set[int]) -> dict[str, Heard]:
    """Least and greatest event time of each deployment's records that were not refused."""
    heard = {}
    for name, positions in columns.by_deployment().items():
        taken = [i for i in positions if i not in refused] if refused else positions
        if taken:
            times = columns.at[taken]
            heard[name] = Heard(int(times.min()), int(times.max()))
    return heard


def _is_ahead(stray: Strayed, deployment: Deployment) -> bool:
    """Whether its home will refuse it for its time: then it tells no time here, either."""
    return stray.at > stray.received_ms * 1000 + deployment.join.spans.max_future_skew


def _wider(heard: Heard | None, at: int) -> Heard:
    return Heard(at, at) if heard is None else Heard(min(heard.first, at), max(heard.last, at))
