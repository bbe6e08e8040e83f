"""Drift of features, on read: the rows of a period against a baseline, in all or by month, day, hour or batch.

Everything is made of the counts per bin that the pipeline keeps; no row is looked at again. What is counted, and so
what `n` and `m` are, stands in `FeatureDrift`. A period of live data can be made a baseline: its counts are the sum of
the cells of that period as they are then, in the bins that the model has already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

import numpy as np

from service.domain.errors import Conflict, Invalid
from service.domain.ids import is_object_id
from service.domain.stats.drift import Counts, FeatureDrift, feature_drift
from service.domain.stats.histogram import FeatureLayout
from service.usecases.baselines import Baseline, BaselineCounts, describe_baseline
from service.usecases.deployments import Deployments, StoredDeployment, show
from service.usecases.statistics import Grouping

MAX_BUCKETS: Final = 1_000
_HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST: Final = datetime(1000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Far from the ends of the calendar, where an instant may have no name in another time zone."""


class BaselineKind(StrEnum):
    TRAINING = "training"
    HOLDOUT = "holdout"
    PERIOD = "period"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsOf:
    """Whose counts: those of one model in the hours from `start` to before `end`, of one batch or of all rows."""

    deployment_id: str
    model_id: str
    start: datetime | None = None
    end: datetime | None = None
    batch_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketCounts:
    """Rows per slot; a tail that is not there means zero."""

    bucket: str
    counts: Sequence[int]


class TooManyBuckets(Exception):
    """There are more than the limit."""


class FeatureCounts(Protocol):
    """What the pipeline has counted of the features, and where baselines are kept. May raise `Unavailable`."""

    async def counts(self, of: CountsOf, *, by: Grouping, limit: int) -> list[BucketCounts] | None:
        """The buckets that have any cell, in order; without deleted batches. None: no such batch.

        Raises `TooManyBuckets` where they are more than `limit`, as soon as that is seen.
        """

    async def keep(self, deployment_id: str, baseline: Baseline) -> int:
        """Keep it in the place of the one of its model and kind, and return its version, which rises by one.

        Its layout must be one that the model has already, so that no worker needs to hear of it.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftQuestion:
    """Without a model, the current one of the deployment; without bounds or a batch, all of it."""

    deployment_id: str
    model_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    by: Grouping = Grouping.ALL
    batch_id: str | None = None
    baseline: BaselineKind = BaselineKind.TRAINING


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketDrift:
    """`features` by PSI, the worst first; those without any are last."""

    bucket: str
    features: Sequence[FeatureDrift]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    model_id: str
    baseline: Baseline
    buckets: Sequence[BucketDrift]


async def drift(deployments: Deployments, features: FeatureCounts, asked: DriftQuestion) -> Drift:
    """Raises `NotFound` for the deployment, and `Invalid` for every other name or field that does not fit."""
    _check_hours(asked.start, asked.end)
    stored = await show(deployments, asked.deployment_id)
    model_id = _model(stored, asked.model_id)
    baseline = _baseline(stored, model_id, asked.baseline)
    if asked.batch_id is not None and not is_object_id(asked.batch_id):
        raise Invalid("batch: must be 1 to 128 of A-Z a-z 0-9 . _ -")
    of = CountsOf(
        deployment_id=asked.deployment_id,
        model_id=model_id,
        start=asked.start,
        end=asked.end,
        batch_id=asked.batch_id,
    )
    try:
        found = await features.counts(of, by=asked.by, limit=MAX_BUCKETS)
    except TooManyBuckets:
        raise Invalid(
            f"bucket: {asked.by} gives more than {MAX_BUCKETS:,} of them; ask for longer ones, or less time"
        ) from None
    if found is None:
        raise Invalid(f"batch: deployment {asked.deployment_id!r} has no monitoring batch {asked.batch_id!r}")
    layout = stored.layout_of(model_id)
    return Drift(model_id=model_id, baseline=baseline, buckets=_buckets(layout, found, baseline.counted.counts))


async def fix_period(
    deployments: Deployments,
    features: FeatureCounts,
    deployment_id: str,
    *,
    start: datetime,
    end: datetime,
    model_id: str | None = None,
) -> Baseline:
    """Make the live rows of these hours the model's baseline of kind `period`, in the place of an earlier one.

    Raises `NotFound`, `Invalid`, or `Conflict` where the model has no bins yet.
    """
    _check_hours(start, end)
    stored = await show(deployments, deployment_id)
    model = _model(stored, model_id)
    layout = stored.layout_of(model)
    if not layout.features:
        raise Conflict(
            f"model {model!r} has no bins yet: its first baseline must be a file; name one in the description and"
            " apply it (hindsight deployments apply)"
        )
    baseline = await of_period(features, stored, model, BaselineKind.PERIOD, start, end)
    if baseline is None:
        raise Invalid(f"from, to: no features of model {model!r} were counted from {_told(start)} to {_told(end)}")
    return replace(baseline, version=await features.keep(deployment_id, baseline))


async def of_period(
    features: FeatureCounts, stored: StoredDeployment, model: str, kind: str, start: datetime, end: datetime
) -> Baseline | None:
    """The live rows of these hours, in the bins that the model has; None where there are none. It is not kept yet."""
    layout = stored.layout_of(model)
    of = CountsOf(deployment_id=stored.settings.id, model_id=model, start=start, end=end)
    found = await features.counts(of, by=Grouping.ALL, limit=1)
    counts = _padded(layout, [one.counts for one in found or ()]).sum(axis=0)
    rows = _rows(layout, counts)
    if not rows:
        return None
    counted = BaselineCounts(rows=rows, layout=layout, counts=tuple(counts.tolist()))
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    method = next(one.method for one in stored.baselines if one.model_id == model)
    return Baseline(model_id=model, kind=kind, counted=counted, start=start, end=end, method=method)


def describe(drift: Drift, by: Grouping) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "modelId": drift.model_id,
        "baseline": describe_baseline(drift.baseline),
        "by": by,
        "buckets": [
            {"bucket": one.bucket, "features": [_described(feature) for feature in one.features]}
            for one in drift.buckets
        ],
    }


def _described(drift: FeatureDrift) -> dict[str, Any]:
    return {
        "feature": drift.feature,
        "n": drift.n,
        "m": drift.m,
        "psi": drift.psi,
        "klDivergence": drift.kl_divergence,
        "jsDivergence": drift.js_divergence,
        "hellinger": drift.hellinger,
        "dissimilarity": drift.dissimilarity,
        "wasserstein": drift.wasserstein,
        "energy": drift.energy,
    }


def _check_hours(start: datetime | None, end: datetime | None) -> None:
    for field, at in (("from", start), ("to", end)):
        if at is not None and (at - _EPOCH) % _HOUR:
            raise Invalid(f"{field}: must be a whole hour in UTC, as counts are kept by the hour")
        if at is not None and not _EARLIEST <= at <= _LATEST:
            raise Invalid(f"{field}: must be between the years {_EARLIEST.year} and {_LATEST.year}")
    if start is not None and end is not None and start >= end:
        raise Invalid("to: must be after from")


def _model(stored: StoredDeployment, asked: str | None) -> str:
    if asked is not None and asked not in stored.models:
        raise Invalid(f"model: deployment {stored.settings.id!r} has no model {asked!r}")
    return asked or stored.settings.model_id


def _baseline(stored: StoredDeployment, model_id: str, kind: BaselineKind) -> Baseline:
    of_model = {one.kind: one for one in stored.baselines if one.model_id == model_id}
    if kind not in of_model:
        there = ", ".join(of_model) or "none at all"
        raise Invalid(f"baseline: model {model_id!r} has no baseline of kind {kind}; there is {there}")
    return of_model[kind]


def _buckets(layout: FeatureLayout, found: Sequence[BucketCounts], baseline: Sequence[int]) -> list[BucketDrift]:
    counts, (known,) = _padded(layout, [one.counts for one in found]), _padded(layout, [baseline])
    by_feature = [feature_drift(bins, counts, known) for bins in layout.features]
    return [
        BucketDrift(bucket=one.bucket, features=sorted((rows[place] for rows in by_feature), key=_worst_first))
        for place, one in enumerate(found)
    ]


def _worst_first(drift: FeatureDrift) -> tuple[bool, float, str]:
    return drift.psi is None, -(drift.psi or 0.0), drift.feature


def _padded(layout: FeatureLayout, rows: Sequence[Sequence[int]]) -> Counts:
    """(rows, slots): of counts under older, shorter layouts the tail is zero."""
    counts = np.zeros((len(rows), layout.slots), dtype=np.int64)
    for place, row in enumerate(rows):
        known = row[: layout.slots]  # features newer than this layout are left for the next question
        counts[place, : len(known)] = known
    return counts


def _rows(layout: FeatureLayout, counts: Counts) -> int:
    """Every row counts once in each feature that had bins then; those of the first features were there longest."""
    return max(int(counts[bins.first_slot : bins.first_slot + bins.slots].sum()) for bins in layout.features)


def _told(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
