"""From what happened to what the statistics gain: deltas of cells, clocks and counters. Pure and vectorised."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import Deployment, TargetType
from service.domain.instants import HOUR_US, LATEST_US
from service.domain.monitoring_batch import hours_of
from service.domain.outcomes import Outcome
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.histogram import count_slots
from service.domain.stats.traffic import OUTCOMES, Traffic
from service.domain.watermark import Heard
from service.pipeline.assign import Assigned, Slots
from service.pipeline.columns import NO_NOTES, Actuals, Predictions, Strayed
from service.pipeline.join import Happened, Joined
from service.pipeline.join_columns import HappenedColumns, Place, picked
from service.pipeline.registry import BatchKey
from service.ports import AccuracyCellKey, ClockRow, PredictionCellKey
from service.wire.pairs import accuracy_of

_NO_SEGMENT = ""
_WIDE = 1 << 16
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
    pairs, places = _pairs(joined), list(joined.places)
    kinds: dict[Hashable, int] = {}
    kind_of = np.full(len(places), -1)
    for place in np.flatnonzero(np.bincount(pairs.places, minlength=len(places))).tolist():
        kind_of[place] = kinds.setdefault(_kind(deployments[places[place][0]]), len(kinds))
    for kind in kinds.values():
        mine = np.flatnonzero(kind_of[pairs.places] == kind)
        one = deployments[places[pairs.places[mine[0]]][0]]
        deltas.accuracy.update(_accuracy(one, places, pairs.only(mine)))
    return deltas


def _kind(deployment: Deployment) -> Hashable:
    """Deployments of one kind judge pairs alike."""
    if deployment.target_type is TargetType.REGRESSION:
        return deployment.target_type
    classes, models = tuple(deployment.class_index.items()), tuple(deployment.models.items())
    return deployment.target_type, classes, deployment.positive_class, deployment.threshold, models


class _Counted(NamedTuple):
    """Columns of predictions (n,) whose traffic and features count."""

    positions: NDArray[np.int64]
    places: NDArray[np.int64]
    at: NDArray[np.int64]
    due: NDArray[np.int64]
    """0 where no row waits."""


def _counted(joined: Joined) -> _Counted:
    number = joined.places.setdefault
    columns = [
        _Counted(
            np.array(part.positions, dtype=np.int64),
            part.places,
            part.heads["predicted_at"],
            np.minimum(part.heads["due"], LATEST_US),
        )
        for part in joined.parts
        if isinstance(part, HappenedColumns) and part.outcome is Outcome.ACCEPTED
    ]
    rows = [
        (i, number((name, row.model, row.batch), len(joined.places)), row.predicted_at, min(row.due, LATEST_US) * kept)
        for i, name, row, kept in joined.counted
    ]
    columns.append(_Counted(*np.array(rows, dtype=np.int64).reshape(-1, 4).T))
    return _Counted(*map(np.concatenate, zip(*columns, strict=True)))


def _traffic(assigned: Assigned, joined: Joined, deleted: frozenset[BatchKey]) -> dict[PredictionCellKey, Traffic]:
    numbers, instants, codes = _happened(joined, deleted)
    if not len(numbers):
        return {}
    counted = _counted(joined)
    numbers = np.concatenate([numbers, counted.places])
    hours = hours_of(np.concatenate([instants, counted.at]))
    members, groups = _grouped(numbers, hours // HOUR_US)
    count = len(members)
    outcomes = count_slots(groups[: len(codes)], count, codes[:, None], OUTCOMES)
    counted_groups = groups[len(codes) :]
    predictions = np.bincount(counted_groups, minlength=count).tolist()
    first, last = np.full(count, _NEVER_FIRST), np.full(count, _NEVER_LAST)
    np.minimum.at(first, counted_groups, counted.at)
    np.maximum.at(last, counted_groups, counted.at)
    due = np.zeros(count, dtype=np.int64)
    np.maximum.at(due, counted_groups, counted.due)
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
    group_of = np.full(len(assigned.predictions.key), -1, dtype=np.int64)
    group_of[counted.positions] = counted_groups
    for i, notes in assigned.predictions.arrivals.notes.items():
        if notes.skip_drift:
            group_of[i] = -1
    alike: dict[tuple[int, int], list[Slots]] = {}
    for slots in assigned.features:
        alike.setdefault((slots.width, slots.slots.shape[1]), []).append(slots)
    for (width, _), some in alike.items():
        _count_features(deltas, group_of, some, width)
    places = list(joined.places)
    return {
        PredictionCellKey._make((*places[place], hour, _NO_SEGMENT)): delta
        for place, hour, delta in zip(numbers[members].tolist(), hours[members].tolist(), deltas, strict=True)
    }


def _happened(
    joined: Joined, deleted: frozenset[BatchKey]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of everything that happened (n,): its place, the instant that decides the hour, and the outcome.

    Records without a row count where no model and no batch stands.
    """
    columns = []
    for part in joined.parts:
        if isinstance(part, HappenedColumns):
            columns.append((part.places, part.heads["predicted_at"], np.full(len(part.places), int(part.outcome))))
        else:
            columns.append(_happened_one_by_one(part, joined.places, deleted))
    places, instants, codes = map(np.concatenate, zip(*columns, strict=True))
    return places, instants, codes


def _happened_one_by_one(
    happened: Sequence[Happened], numbers: dict[Place, int], deleted: frozenset[BatchKey]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    number, places, instants = numbers.setdefault, [], []
    for one in happened:
        row, name = one[5], one[2]
        if row is not None and row.prediction and (not deleted or (name, row.batch) not in deleted):
            places.append(number((name, row.model, row.batch), len(numbers)))
            instants.append(row.predicted_at)
        else:
            places.append(number((name, "", ""), len(numbers)))
            instants.append(one[10])
    columns = (places, instants, [one[0] for one in happened])
    first, second, third = (np.array(column, dtype=np.int64) for column in columns)
    return first, second, third


def _grouped(first: NDArray[np.int64], *others: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that agree in all columns (n,) are a group: the first member of each group, and the group of each row."""
    groups, count = _ranks(first)
    for column in others:
        ranks, most = _ranks(column)
        groups, count = _ranks(groups * most + ranks)
    members = np.empty(count, dtype=np.int64)
    members[groups[::-1]] = np.arange(len(first))[::-1]
    return members, groups


def _ranks(column: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The position of each value (n,) among the distinct ones in order, and how many those are."""
    if not len(column):
        return column, 0
    least = column.min()
    span = int(column.max()) - int(least) + 1
    if span > _WIDE + 4 * len(column):
        values, ranks = np.unique(column, return_inverse=True)
        return ranks, len(values)
    found = np.zeros(span, dtype=np.int64)
    found[column - least] = 1
    ranks = np.cumsum(found) - 1
    return ranks[column - least], int(ranks[-1]) + 1


def _count_features(deltas: Sequence[Traffic], group_of: NDArray[np.int64], alike: Sequence[Slots], width: int) -> None:
    """Count the slots of models with the same number of features and of slots."""
    groups = np.concatenate([group_of[np.asarray(one.positions)] for one in alike])
    slots = np.concatenate([one.slots for one in alike])
    if (counted := groups >= 0).all():
        present, compact = np.unique(groups, return_inverse=True)
    else:
        present, compact = np.unique(groups[counted], return_inverse=True)
        slots = slots[counted]
    counts = count_slots(compact, len(present), slots, width)
    for group, row in zip(present.tolist(), counts, strict=True):
        deltas[group].features = row


class _Pairs(NamedTuple):
    """Columns of pairs (n,)."""

    signs: NDArray[np.int64]
    places: NDArray[np.int64]
    predicted_at: NDArray[np.int64]
    label_day: NDArray[np.int64]
    prediction: Sequence[bytes]
    actual: Sequence[bytes]

    def only(self, rows: NDArray[np.int64]) -> "_Pairs":
        if len(rows) == len(self.signs):
            return self
        positions = rows.tolist()
        return _Pairs(
            self.signs[rows],
            self.places[rows],
            self.predicted_at[rows],
            self.label_day[rows],
            picked(self.prediction, positions),
            picked(self.actual, positions),
        )


def _pairs(joined: Joined) -> _Pairs:
    number = joined.places.setdefault
    rows = [pair.row for pair in joined.pairs]
    numbers = [
        (sign, number((name, row.model, row.batch), len(joined.places)), row.predicted_at, row.label_day)
        for sign, name, row in joined.pairs
    ]
    columns = [
        _Pairs(
            np.ones(len(part.places), dtype=np.int64),
            part.places,
            part.heads["predicted_at"],
            part.heads["label_day"],
            part.prediction,
            part.actual,
        )
        for part in joined.parts
        if isinstance(part, HappenedColumns) and part.outcome is Outcome.MATCHED
    ]
    signs, places, predicted_at, label_day = np.array(numbers, dtype=np.int64).reshape(-1, 4).T
    texts = [row.prediction for row in rows], [row.actual for row in rows]
    columns.append(_Pairs(signs, places, predicted_at, label_day, *texts))
    return _Pairs(
        np.concatenate([one.signs for one in columns]),
        np.concatenate([one.places for one in columns]),
        np.concatenate([one.predicted_at for one in columns]),
        np.concatenate([one.label_day for one in columns]),
        list(chain.from_iterable(one.prediction for one in columns)),
        list(chain.from_iterable(one.actual for one in columns)),
    )


def _accuracy(deployment: Deployment, places: Sequence[Place], pairs: _Pairs) -> dict[AccuracyCellKey, Accuracy]:
    hours = hours_of(pairs.predicted_at)
    members, groups = _grouped(pairs.places, hours // HOUR_US, pairs.label_day)
    models = [places[number][1] for number in pairs.places.tolist()]
    cells = accuracy_of(deployment, models, pairs.prediction, pairs.actual, pairs.signs, groups, len(members))
    keys = (column[members].tolist() for column in (pairs.places, hours, pairs.label_day))
    return {
        AccuracyCellKey._make((*places[place], hour, _NO_SEGMENT, day)): cell
        for place, hour, day, cell in zip(*keys, cells, strict=True)
    }


def _submissions(joined: Joined) -> dict[tuple[str, str], int]:
    counts: Counter[tuple[str, str]] = Counter()
    for part in joined.parts:
        for happened in () if isinstance(part, HappenedColumns) else part:  # columns have no notes
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
    acted = _heard(actuals, assigned.refused_actuals)
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
            times = columns.at if len(taken) == len(columns.at) else columns.at[taken]
            heard[name] = Heard(int(times.min()), int(times.max()))
    return heard


def _is_ahead(stray: Strayed, deployment: Deployment) -> bool:
    """Whether its home will refuse it for its time: then it tells no time here, either."""
    return stray.at > stray.received_ms * 1000 + deployment.join.spans.max_future_skew


def _wider(heard: Heard | None, at: int) -> Heard:
    return Heard(at, at) if heard is None else Heard(min(heard.first, at), max(heard.last, at))
