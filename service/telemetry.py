"""Every metric of the service, declared once, on the registry that is passed in.

An attribute is called as its metric is without the prefix `hindsight_`; units are base units; no label ever holds the
ID of a row, an association or a batch. A series of a task (`task`, or `partition`: task *i* owns partition *i* of each
topic) vanishes with `forget_task` when the task moves away, so that no figure of a former owner stays on a dashboard.

Not here: what the figures mean for people (`deploy/monitoring/`), and the endpoint that shows them (`service.api.ops`).
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

PREFIX: Final = "hindsight_"

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SLOW: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0)
_RECORDS: Final = (1, 10, 50, 100, 500, 1_000, 2_500, 5_000, 7_500, 10_000, 20_000, 40_000, 100_000)


class BulkHistogram(Collector):
    """A histogram that takes the values of a whole micro-batch at once.

    The library's own takes a value a call, which would be paid for every record of the hot path. Values that are
    nearly in order, as the ages of the records of a partition are, cost least.
    """

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = (*bounds, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._lock = Lock()
        registry.register(self)

    def observe_all(self, values: Iterable[float]) -> None:
        """Count each value in the bucket of the least bound that it does not exceed."""
        ordered = sorted(values)
        ends = [bisect_right(ordered, bound) for bound in self._bounds]
        with self._lock:
            self._sum += math.fsum(ordered)
            for bucket, (start, end) in enumerate(pairwise((0, *ends))):
                self._counts[bucket] += end - start

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The buckets as the registry wants them: cumulative."""
        with self._lock:
            counts, total = tuple(self._counts), self._sum
        family = HistogramMetricFamily(self._name, self._documentation)
        cumulative = [float(sum(counts[: bucket + 1])) for bucket in range(len(counts))]
        bounds = [*(str(float(bound)) for bound in self._bounds[:-1]), "+Inf"]
        family.add_metric([], buckets=list(zip(bounds, cumulative, strict=True)), sum_value=total)
        return [family]

    describe = collect


class Telemetry:
    """The metrics of one process; a role sets those that are its own."""

    def __init__(self, registry: CollectorRegistry, *, version: str = "unknown") -> None:
        self.registry = registry
        self._declare_flow(registry)
        self._declare_tasks(registry)
        self._declare_process(registry)
        self._declare_alerts(registry)
        self.build_info.info({"version": version})
        self.database_up.set(math.nan)  # nobody has asked it yet: neither up nor down
        ProcessCollector(registry=registry)

    def _declare_flow(self, registry: CollectorRegistry) -> None:
        self.records_total = Counter(
            f"{PREFIX}records_total",
            "Input records taken in, by topic; a re-keyed record counts once, where it belongs.",
            ["topic"],
            registry=registry,
        )
        self.join_outcomes_total = Counter(
            f"{PREFIX}join_outcomes_total",
            "What became of the records that decoded, by outcome of the join.",
            ["outcome"],
            registry=registry,
        )
        self.dead_letters_total = Counter(
            f"{PREFIX}dead_letters_total",
            "Rejected records, by reason; each is in the dead-letter topic with its bytes.",
            ["reason"],
            registry=registry,
        )
        self.event_to_status_seconds = BulkHistogram(
            f"{PREFIX}event_to_status_seconds",
            "Time from the Kafka timestamp of an input record to the acknowledged publish of its status.",
            _SLOW,
            registry,
        )
        self.microbatch_records = Histogram(
            f"{PREFIX}microbatch_records",
            "Input records of one micro-batch.",
            buckets=_RECORDS,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            f"{PREFIX}commit_seconds",
            "Duration of the Postgres transaction of a micro-batch.",
            buckets=_FAST,
            registry=registry,
        )
        self.publish_seconds = Histogram(
            f"{PREFIX}publish_seconds",
            "Duration of the Kafka transaction of a micro-batch.",
            buckets=_FAST,
            registry=registry,
        )

    def _declare_tasks(self, registry: CollectorRegistry) -> None:
        self.consumer_lag_records = Gauge(
            f"{PREFIX}consumer_lag_records",
            "Records between the position of the task and the end of the log.",
            ["topic", "partition"],
            registry=registry,
        )
        self.consumer_lag_seconds = Gauge(
            f"{PREFIX}consumer_lag_seconds",
            "Age of the oldest unprocessed record by its Kafka timestamp; 0 at the end of the log.",
            ["task"],
            registry=registry,
        )
        self.watermark_lag_seconds = Gauge(
            f"{PREFIX}watermark_lag_seconds",
            "Now minus the watermark; the greatest of the deployments of the task.",
            ["task"],
            registry=registry,
        )
        self.input_skew_seconds = Gauge(
            f"{PREFIX}input_skew_seconds",
            "How far the clock of one input is ahead of the watermark, the greatest of the deployments of the task: "
            "rows of that input wait so much longer.",
            ["task"],
            registry=registry,
        )
        self.rows_open = Gauge(
            f"{PREFIX}rows_open", "Predictions that wait for their actual.", ["task"], registry=registry
        )
        self.rows_parked = Gauge(
            f"{PREFIX}rows_parked", "Actuals that wait for their prediction.", ["task"], registry=registry
        )
        self.state_store_bytes = Gauge(
            f"{PREFIX}state_store_bytes", "Size of the state store on disk.", ["task"], registry=registry
        )
        self.restore_seconds = Gauge(
            f"{PREFIX}restore_seconds", "Duration of the last restore of the task.", ["task"], registry=registry
        )
        self.restore_remaining_records = Gauge(
            f"{PREFIX}restore_remaining_records",
            "Offsets of the status topic that the restore of the task has still to read; 0 once it is restored.",
            ["task"],
            registry=registry,
        )
        self.conservation_error = Gauge(
            f"{PREFIX}conservation_error",
            "Records consumed that neither the rows nor the counters account for, or the other way round; must be 0.",
            ["task"],
            registry=registry,
        )
        self.audited_version = Gauge(
            f"{PREFIX}audited_version",
            "Ledger version for which conservation_error and the row counts of the task hold.",
            ["task"],
            registry=registry,
        )
        self.task_paused = Gauge(
            f"{PREFIX}task_paused",
            "1 while the task can not go on, else 0.",
            ["task"],
            registry=registry,
        )

        self.task_flooded = Gauge(
            f"{PREFIX}task_flooded",
            "1 while the task waits for `hindsight resume` after a flood of undecodable records, else 0.",
            ["task"],
            registry=registry,
        )

    def _declare_process(self, registry: CollectorRegistry) -> None:
        self.tasks_owned = Gauge(f"{PREFIX}tasks_owned", "Tasks that this worker owns.", registry=registry)
        self.rebalances_total = Counter(
            f"{PREFIX}rebalances_total",
            "Rebalances of the consumer group that this worker took part in.",
            registry=registry,
        )
        self.takeovers_total = Counter(
            f"{PREFIX}takeovers_total", "Attempts to take a task over, by result.", ["result"], registry=registry
        )
        self.database_up = Gauge(
            f"{PREFIX}database_up", "1 if the last statement reached Postgres, 0 if not, NaN before.", registry=registry
        )
        self.http_request_seconds = Histogram(
            f"{PREFIX}http_request_seconds",
            "Duration of HTTP requests, by route template.",
            ["route", "method", "status"],
            buckets=_FAST,
            registry=registry,
        )
        self.intake_rows_total = Counter(
            f"{PREFIX}intake_rows_total",
            "Rows that came in over HTTP, by kind (predictions, actuals) and by what became of their request: "
            "accepted, repeated (the same request again), refused, limited, unacknowledged (by the broker).",
            ["kind", "result"],
            registry=registry,
        )
        self.build_info = Info(f"{PREFIX}build", "The running version.", registry=registry)

    def _declare_alerts(self, registry: CollectorRegistry) -> None:
        self.alert_events_total = Counter(
            f"{PREFIX}alert_events_total",
            "Records of the topic of batches, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.alert_changes_suppressed_total = Counter(
            f"{PREFIX}alert_changes_suppressed_total",
            "Changes that were not told by themselves: summed up by a later one, or led back to what was told last.",
            registry=registry,
        )
        self.notifications_total = Counter(
            f"{PREFIX}notifications_total", "Notifications, by how their delivery ended.", ["result"], registry=registry
        )
        self.notification_dead_letters_total = Counter(
            f"{PREFIX}notification_dead_letters_total",
            "Notifications that were not delivered and records that can not be read, by reason; none is lost.",
            ["reason"],
            registry=registry,
        )
        self.notification_seconds = Histogram(
            f"{PREFIX}notification_seconds",
            "Time from the first attempt to deliver a notification to the end of the last.",
            buckets=_SLOW,
            registry=registry,
        )

    def start_at_zero(self, *, outcomes: Iterable[str] = (), reasons: Iterable[str] = ()) -> None:
        """Show these counters as 0 from the start: a rate misses what a series counted before it was first seen."""
        for outcome in outcomes:
            self.join_outcomes_total.labels(outcome)
        for reason in reasons:
            self.dead_letters_total.labels(reason)

    def forget_task(self, task: int) -> None:
        """Remove every series of a task that this process no longer owns."""
        for gauge in (
            self.consumer_lag_seconds,
            self.watermark_lag_seconds,
            self.input_skew_seconds,
            self.rows_open,
            self.rows_parked,
            self.state_store_bytes,
            self.restore_seconds,
            self.restore_remaining_records,
            self.conservation_error,
            self.audited_version,
            self.task_paused,
            self.task_flooded,
        ):
            gauge.remove_by_labels({"task": str(task)})
        self.consumer_lag_records.remove_by_labels({"partition": str(task)})
