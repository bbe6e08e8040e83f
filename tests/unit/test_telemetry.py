"""Metrics: names, help, what vanishes with a task, and the histogram of whole micro-batches."""

import math
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

from service.telemetry import BulkHistogram, Telemetry

BASE_UNITS = ("_seconds", "_bytes", "_ratio")
COUNTS_OF_THINGS = {
    "hindsight_consumer_lag_records",
    "hindsight_restore_remaining_records",
    "hindsight_microbatch_records",
    "hindsight_rows_open",
    "hindsight_rows_parked",
    "hindsight_audited_version",
    "hindsight_conservation_error",
    "hindsight_task_flooded",
    "hindsight_task_paused",
    "hindsight_tasks_owned",
    "hindsight_database_up",
}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(CollectorRegistry(), version="1.2.3")


def families(telemetry: Telemetry) -> Iterator[Metric]:
    return (family for family in telemetry.registry.collect() if not family.name.startswith("process_"))


def series_of_task(telemetry: Telemetry, task: int) -> set[str]:
    return {
        sample.name
        for family in families(telemetry)
        for sample in family.samples
        if str(task) in (sample.labels.get("task"), sample.labels.get("partition"))
    }


def labels_of(metric: object) -> tuple[str, ...]:
    return tuple(getattr(metric, "_labelnames", ()))


def set_every_series_of_task(telemetry: Telemetry, task: int) -> None:
    for metric in vars(telemetry).values():
        if "task" in labels_of(metric):
            metric.labels(task=task).set(1)
        if "partition" in labels_of(metric):
            for topic in ("predictions", "actuals"):
                metric.labels(topic=topic, partition=task).set(1)


def test_every_name_has_the_prefix_and_ends_in_a_base_unit_or_counts_things(telemetry: Telemetry) -> None:
    for family in families(telemetry):
        assert re.fullmatch(r"hindsight_[a-z_]+", family.name)
        if family.type in ("gauge", "histogram") and family.name not in COUNTS_OF_THINGS:
            assert family.name.endswith(BASE_UNITS), family.name


def test_every_metric_explains_itself(telemetry: Telemetry) -> None:
    for family in families(telemetry):
        assert family.documentation.endswith("."), family.name


def test_no_label_could_hold_the_id_of_a_row(telemetry: Telemetry) -> None:
    used = {label for metric in vars(telemetry).values() for label in labels_of(metric)}
    assert used == {"topic", "partition", "task", "outcome", "reason", "kind", "result", "route", "method", "status"}


def test_an_attribute_is_called_as_its_metric(telemetry: Telemetry) -> None:
    shown = generate_latest(telemetry.registry).decode()
    names = set(re.findall(r"# TYPE hindsight_(\w+) ", shown))
    assert names - {name for name in names if name.endswith("_created")} == set(vars(telemetry)) - {"registry"}


def test_nothing_is_declared_on_the_global_registry(telemetry: Telemetry) -> None:
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("hindsight_")]


def test_a_registry_takes_the_metrics_once(telemetry: Telemetry) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        Telemetry(telemetry.registry)


def test_the_version_and_the_process_are_shown(telemetry: Telemetry) -> None:
    assert telemetry.registry.get_sample_value("hindsight_build_info", {"version": "1.2.3"}) == 1
    assert telemetry.registry.get_sample_value("process_resident_memory_bytes")


def test_a_database_that_nobody_asked_is_neither_up_nor_down(telemetry: Telemetry) -> None:
    assert math.isnan(telemetry.registry.get_sample_value("hindsight_database_up") or 0)


def test_a_forgotten_task_leaves_no_series_and_the_others_stay(telemetry: Telemetry) -> None:
    for task in (1, 11):
        set_every_series_of_task(telemetry, task)
    before = series_of_task(telemetry, 1)
    assert before == series_of_task(telemetry, 11)
    assert {"hindsight_conservation_error", "hindsight_consumer_lag_records"} < before
    telemetry.forget_task(1)
    assert series_of_task(telemetry, 1) == set()
    assert series_of_task(telemetry, 11) == before


def test_forgetting_an_unknown_task_changes_nothing(telemetry: Telemetry) -> None:
    before = generate_latest(telemetry.registry)
    telemetry.forget_task(7)
    assert [line for line in before.splitlines() if line.startswith(b"hindsight_")] == [
        line for line in generate_latest(telemetry.registry).splitlines() if line.startswith(b"hindsight_")
    ]


def test_counters_can_start_at_zero(telemetry: Telemetry) -> None:
    telemetry.start_at_zero(outcomes=["MATCHED"], reasons=["TOO_LARGE"])
    assert telemetry.registry.get_sample_value("hindsight_join_outcomes_total", {"outcome": "MATCHED"}) == 0
    assert telemetry.registry.get_sample_value("hindsight_dead_letters_total", {"reason": "TOO_LARGE"}) == 0


@given(st.lists(st.lists(st.one_of(st.floats(-1, 20), st.sampled_from([0.5, 1.0, 10.0])))))
def test_the_bulk_histogram_counts_as_the_librarys_own(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("age_seconds", "Age.", (0.5, 1, 10), ours)
    single = Histogram("age_seconds", "Age.", buckets=(0.5, 1, 10), registry=theirs)
    for batch in batches:
        bulk.observe_all(batch)
        for value in batch:
            single.observe(value)
    for bound in ("0.5", "1.0", "10.0", "+Inf"):
        labels = {"le": bound}
        assert ours.get_sample_value("age_seconds_bucket", labels) == theirs.get_sample_value(
            "age_seconds_bucket", labels
        )
    assert ours.get_sample_value("age_seconds_count") == theirs.get_sample_value("age_seconds_count")
    assert ours.get_sample_value("age_seconds_sum") == pytest.approx(theirs.get_sample_value("age_seconds_sum"))
