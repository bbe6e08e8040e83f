"""What a deployment says about its models and about time."""

from datetime import timedelta

from service.domain.deployment import ActualOrder, BatchPolicy, Deployment, JoinSpec, LatePolicy, Spans
from service.domain.instants import DAY_US, HOUR_US, span_us
from service.domain.stats.histogram import FeatureLayout
from tests.builders import deployment

MINUTE_US = HOUR_US // 60


def test_a_model_without_a_threshold_of_its_own_has_that_of_the_deployment() -> None:
    known = deployment(threshold=0.3, models={"own": 0.7, "zero": 0.0, "none": None})
    assert [known.threshold_of(model) for model in ("own", "zero", "none", "unheard")] == [0.7, 0.0, 0.3, 0.3]


def test_spans_are_those_of_the_specification_in_microseconds() -> None:
    spec = JoinSpec(
        window=timedelta(days=1),
        grace=timedelta(days=2),
        early_ttl=timedelta(days=3),
        allowed_lateness=timedelta(hours=4),
        idle_timeout=timedelta(hours=5),
        max_future_skew=timedelta(hours=6),
        late_policy=LatePolicy.REJECT,
        actual_order=ActualOrder.ARRIVAL,
    )
    assert spec.spans == Spans(
        window=DAY_US,
        grace=2 * DAY_US,
        early_ttl=3 * DAY_US,
        allowed_lateness=4 * HOUR_US,
        idle_timeout=5 * HOUR_US,
        max_future_skew=6 * HOUR_US,
        by_arrival=True,
        late_policy=LatePolicy.REJECT,
    )


def test_what_a_deployment_does_that_says_nothing_about_time() -> None:
    """A month for the actual, two more for a late one that corrects; the figures are those of the documentation."""
    assert JoinSpec().spans == Spans(
        window=30 * DAY_US,
        grace=60 * DAY_US,
        early_ttl=90 * DAY_US,
        allowed_lateness=10 * MINUTE_US,
        idle_timeout=MINUTE_US,
        max_future_skew=5 * MINUTE_US,
        by_arrival=False,
        late_policy=LatePolicy.CORRECT,
    )


def test_what_a_deployment_is_of_which_nothing_more_is_said() -> None:
    """As the columns of `deployments` have it, for those that an event has made."""
    assert Deployment(id="d", current_model="m", models={"m": None}) == Deployment(
        id="d",
        version=1,
        target_type=None,
        class_index={},
        classes_learned=False,
        positive_class=None,
        threshold=0.5,
        current_model="m",
        models={"m": None},
        association_required=False,
        join=JoinSpec(),
        batch_enabled=False,
        batch_policy=BatchPolicy.NONE,
        layouts={},
        last_deletion=0,
    )
    assert FeatureLayout().slots == 0


def test_a_span_is_exact_to_the_microsecond_however_long() -> None:
    assert span_us(timedelta(hours=1)) == HOUR_US
    assert span_us(timedelta.max) == 86_399_999_999_999_999_999
