"""Drift as somebody asks for it: names and bounds that do not fit, what is compared, and periods as baselines."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from service.domain.errors import Conflict, Invalid, NotFound
from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.usecases.baselines import Baseline, BaselineCounts
from service.usecases.drift import (
    MAX_BUCKETS,
    BaselineKind,
    BucketCounts,
    CountsOf,
    DriftQuestion,
    TooManyBuckets,
    describe,
    drift,
    fix_period,
)
from service.usecases.statistics import Grouping
from tests.unit.usecases.test_deployments import KeptDeployments, applied

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
ORIGIN = CategoricalBins(name="origin", first_slot=0, values=("EWR", "JFK"))
DELAY = NumericBins(name="delay", first_slot=4, edges=(10.0,))
OLD, NEW = FeatureLayout(features=(ORIGIN,)), FeatureLayout(features=(ORIGIN, DELAY))


def baseline(kind: str, layout: FeatureLayout, *counts: int) -> Baseline:
    return Baseline(
        model_id="m1",
        kind=kind,
        version=1,
        method="by hand",
        counted=BaselineCounts(rows=10, layout=layout, counts=counts),
    )


class KeptCounts:
    """The port over some buckets; `asked` is what it was asked for last, `kept` what it was given."""

    def __init__(self, *buckets: Sequence[int], batches: Sequence[str] = ()) -> None:
        self.buckets = [BucketCounts(bucket=f"{place}", counts=counts) for place, counts in enumerate(buckets)]
        self.batches = batches
        self.asked: tuple[CountsOf, Grouping, int] | None = None
        self.kept: list[Baseline] = []

    async def counts(self, of: CountsOf, *, by: Grouping, limit: int) -> list[BucketCounts] | None:
        self.asked = (of, by, limit)
        if of.batch_id is not None and of.batch_id not in self.batches:
            return None
        if len(self.buckets) > limit:
            raise TooManyBuckets
        return self.buckets

    async def keep(self, deployment_id: str, baseline: Baseline) -> int:
        self.kept.append(baseline)
        return len(self.kept)


async def flights(*baselines: Baseline) -> KeptDeployments:
    deployments = KeptDeployments()
    await applied(deployments)
    deployments.kept["flights"] = replace(deployments.kept["flights"], baselines=baselines)
    return deployments


async def test_features_come_worst_first_and_those_without_figures_last() -> None:
    """Bucket 0 is all that the baseline is; in 1 the delays have moved; 2 was counted before delays had bins."""
    known = baseline("training", NEW, 5, 5, 0, 0, 5, 5, 0)
    counts = KeptCounts((5, 5, 0, 0, 5, 5, 0), (6, 5, 0, 0, 11, 0, 0), (0, 9, 0, 0), ())
    found = await drift(await flights(known), counts, DriftQuestion(deployment_id="flights", by=Grouping.DAY))

    assert found.baseline == known and found.model_id == "m1"
    same, moved, older, none = found.buckets
    assert [(one.feature, one.psi) for one in same.features] == [("delay", 0.0), ("origin", 0.0)]
    assert [(one.feature, one.n, one.m) for one in moved.features] == [("delay", 11, 10), ("origin", 11, 10)]
    assert [(one.feature, one.n, one.psi is None) for one in older.features] == [
        ("origin", 9, False),
        ("delay", 0, True),
    ]
    assert [(one.feature, one.n, one.psi) for one in none.features] == [("delay", 0, None), ("origin", 0, None)]
    assert counts.asked == (
        CountsOf(deployment_id="flights", model_id="m1"), Grouping.DAY, MAX_BUCKETS
    )  # fmt: skip


async def test_a_feature_newer_than_the_baseline_has_no_figures() -> None:
    deployments = await flights(baseline("training", NEW, 1, 1, 0, 0, 1, 1, 0), baseline("period", OLD, 1, 1, 0, 0))
    asked = DriftQuestion(deployment_id="flights", baseline=BaselineKind.PERIOD)
    (one,) = (await drift(deployments, KeptCounts((1, 1, 0, 0, 2, 0, 0)), asked)).buckets
    assert [(feature.feature, feature.n, feature.m) for feature in one.features] == [("origin", 2, 2), ("delay", 2, 0)]


async def test_bounds_batch_and_model_are_handed_on() -> None:
    counts = KeptCounts((1, 0, 0, 0), batches=["b"])
    asked = DriftQuestion(deployment_id="flights", model_id="m1", start=START, end=END, batch_id="b")
    await drift(await flights(baseline("training", OLD, 1, 0, 0, 0)), counts, asked)
    assert counts.asked is not None
    assert counts.asked[0] == CountsOf(deployment_id="flights", model_id="m1", start=START, end=END, batch_id="b")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model_id": "m9"}, "model: deployment 'flights' has no model 'm9'"),
        ({"batch_id": "b9"}, "batch: deployment 'flights' has no monitoring batch 'b9'"),
        ({"batch_id": "b\0"}, "batch: must be 1 to 128 of"),
        ({"baseline": BaselineKind.PERIOD}, "baseline: model 'm1' has no baseline of kind period; there is training"),
        ({"start": START + timedelta(minutes=1)}, "from: must be a whole hour"),
        ({"end": END + timedelta(microseconds=1)}, "to: must be a whole hour"),
        ({"end": END.replace(tzinfo=timezone(timedelta(hours=5, minutes=30)))}, "to: must be a whole hour"),
        ({"start": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}, "from: must be between the years"),
        ({"start": START, "end": START}, "to: must be after from"),
    ],
)
async def test_questions_that_do_not_fit(changes: dict[str, Any], told: str) -> None:
    deployments = await flights(baseline("training", OLD, 1, 0, 0, 0))
    with pytest.raises(Invalid, match=told):
        await drift(deployments, KeptCounts((1, 0, 0, 0)), DriftQuestion(deployment_id="flights", **changes))


async def test_no_deployment_and_no_baseline_at_all() -> None:
    with pytest.raises(NotFound):
        await drift(KeptDeployments(), KeptCounts(), DriftQuestion(deployment_id="flights"))
    with pytest.raises(Invalid, match="no baseline of kind training; there is none at all"):
        await drift(await flights(), KeptCounts(), DriftQuestion(deployment_id="flights"))


async def test_an_answer_has_so_many_buckets_and_no_more() -> None:
    deployments = await flights(baseline("training", OLD, 1, 0, 0, 0))
    asked = DriftQuestion(deployment_id="flights", by=Grouping.HOUR)
    most = await drift(deployments, KeptCounts(*[(1, 0, 0, 0)] * MAX_BUCKETS), asked)
    assert len(most.buckets) == MAX_BUCKETS
    with pytest.raises(Invalid, match="bucket: hour gives more than 1,000"):
        await drift(deployments, KeptCounts(*[(1, 0, 0, 0)] * (MAX_BUCKETS + 1)), asked)


async def test_as_json() -> None:
    deployments = await flights(replace(baseline("period", OLD, 1, 0, 0, 0), start=START, end=END))
    asked = DriftQuestion(deployment_id="flights", baseline=BaselineKind.PERIOD)
    shown = describe(await drift(deployments, KeptCounts((1, 0, 0, 0)), asked), asked.by)
    assert shown == {
        "modelId": "m1",
        "baseline": {
            "kind": "period", "rows": 10, "method": "by hand", "version": 1,
            "from": "2026-01-01T00:00:00+00:00", "to": "2026-02-01T00:00:00+00:00",
        },
        "by": "all",
        "buckets": [{"bucket": "0", "features": [{
            "feature": "origin", "n": 1, "m": 1, "psi": 0.0, "klDivergence": 0.0, "jsDivergence": 0.0, "hellinger": 0.0,
            "dissimilarity": 0.0, "wasserstein": None, "energy": None,
        }]}],
    }  # fmt: skip


# ------------------------------------------------------------------------------------ a period as baseline


async def test_a_period_is_counted_in_the_bins_that_the_model_has() -> None:
    deployments = await flights(baseline("training", OLD, 1, 0, 0, 0), baseline("holdout", NEW, 1, 0, 0, 0, 1, 0, 0))
    counts = KeptCounts((3, 4, 0, 1, 6))
    berlin = timezone(timedelta(hours=1))

    fixed = await fix_period(deployments, counts, "flights", start=START.astimezone(berlin), end=END)

    (kept,) = counts.kept
    assert counts.asked == (
        CountsOf(deployment_id="flights", model_id="m1", start=START, end=END), Grouping.ALL, 1
    )  # fmt: skip
    assert (kept.kind, kept.start, kept.end, kept.method) == ("period", START, END, "by hand")
    assert kept.start is not None and kept.start.tzinfo is UTC
    assert kept.counted == BaselineCounts(rows=8, layout=NEW, counts=(3, 4, 0, 1, 6, 0, 0))
    assert fixed == replace(kept, version=1)


async def test_a_period_needs_bins_and_rows() -> None:
    with pytest.raises(Conflict, match="'m1' has no bins yet: its first baseline must be a file"):
        await fix_period(await flights(), KeptCounts((1,)), "flights", start=START, end=END)
    deployments = await flights(baseline("training", OLD, 1, 0, 0, 0))
    for empty in (KeptCounts(), KeptCounts(()), KeptCounts((0, 0, 0, 0))):
        with pytest.raises(Invalid, match="from, to: no features .* from 2026-01-01T00:00Z to 2026-02-01T00:00Z"):
            await fix_period(deployments, empty, "flights", start=START, end=END)
        assert empty.kept == []


async def test_a_period_of_another_model_or_of_no_time() -> None:
    deployments = await flights(baseline("training", OLD, 1, 0, 0, 0))
    with pytest.raises(Invalid, match="model: "):
        await fix_period(deployments, KeptCounts((1,)), "flights", start=START, end=END, model_id="m9")
    with pytest.raises(Invalid, match="to: must be after from"):
        await fix_period(deployments, KeptCounts((1,)), "flights", start=END, end=START)
