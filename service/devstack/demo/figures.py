"""The figures of the first look: what the workers say of themselves, what the database holds, and when it is over.

It is over when everything that was sent was counted and every row was audited after that: each task's audit names the
ledger version that it saw, and it holds while the ledger stands at that version.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from prometheus_client.parser import text_string_to_metric_families

from service.adapters.postgres.queries import statement
from service.devstack.demo.screen import MonthFigure
from service.usecases.statistics import Figures

_LAG: Final = "hindsight_consumer_lag_records"
_OPEN: Final = "hindsight_rows_open"
_ERROR: Final = "hindsight_conservation_error"
_AUDITED: Final = "hindsight_audited_version"


class Database(Protocol):
    """A pool or a connection of asyncpg."""

    async def fetchrow(self, query: str, *arguments: object) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the pipeline has received and committed."""

    predictions: int = 0
    actuals: int = 0
    batches: int = 0
    versions: Mapping[int, int] = field(default_factory=dict)
    """Ledger version of each task."""

    @property
    def received(self) -> int:
        return self.predictions + self.actuals


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """What one worker, or all of them, say of the tasks that they own."""

    lag_records: int = 0
    rows_open: int = 0
    conservation_error: int = 0
    audited: Mapping[int, int] = field(default_factory=dict)
    """Ledger version of each task for which the two figures above hold."""


async def read_totals(database: Database, deployment_id: str) -> Totals:
    row = await database.fetchrow(statement("received_totals"), deployment_id)
    return Totals(
        predictions=row["predictions"],
        actuals=row["actuals"],
        batches=row["batches"],
        versions=dict(zip(row["tasks"] or (), row["versions"] or (), strict=True)),
    )


def worker_figures(exposed: str) -> WorkerFigures:
    """The figures in one worker's `/metrics`."""
    sums = dict.fromkeys((_LAG, _OPEN, _ERROR), 0.0)
    audited: dict[int, int] = {}
    for family in text_string_to_metric_families(exposed):
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += sample.value
            elif sample.name == _AUDITED:
                audited[int(sample.labels["task"])] = int(sample.value)
    return WorkerFigures(
        lag_records=int(sums[_LAG]),
        rows_open=int(sums[_OPEN]),
        conservation_error=int(sums[_ERROR]),
        audited=audited,
    )


def together(workers: Iterable[WorkerFigures]) -> WorkerFigures:
    """The sum over workers; a task is owned by one of them at a time."""
    figures = list(workers)
    return WorkerFigures(
        lag_records=sum(one.lag_records for one in figures),
        rows_open=sum(one.rows_open for one in figures),
        conservation_error=sum(one.conservation_error for one in figures),
        audited={task: version for one in figures for task, version in one.audited.items()},
    )


def is_counted(totals: Totals, *, predictions: int, actuals: int) -> bool:
    """Whether everything that was sent has been received, and committed."""
    return (totals.predictions, totals.actuals) == (predictions, actuals)


def is_audited(totals: Totals, workers: WorkerFigures, *, tasks: int) -> bool:
    """Whether nothing waits, and the figures of the workers are those of what is committed."""
    return len(totals.versions) == tasks and workers.lag_records == 0 and workers.audited == totals.versions


def statuses(months: Iterable[Figures]) -> dict[str, int]:
    """Records per status, over all groups."""
    counts: dict[str, int] = {}
    for month in months:
        for status, count in month.outcomes.items():
            counts[status] = counts.get(status, 0) + count
    return counts


def month_figures(months: Collection[Figures]) -> Sequence[MonthFigure]:
    return [_month(month) for month in months]


def _month(month: Figures) -> MonthFigure:
    sums = month.accuracy
    if sums is None or not sums.matched:
        matched = sums.matched if sums else 0
        return MonthFigure(
            month=month.group, predictions=month.predictions, matched=matched, accuracy=None, log_loss=None
        )
    right = sum(cell.rows for cell in sums.confusion if cell.actual == cell.predicted)
    return MonthFigure(
        month=month.group,
        predictions=month.predictions,
        matched=sums.matched,
        accuracy=right / sums.matched,
        log_loss=float(sums.log_loss / sums.log_loss_rows) if sums.log_loss_rows else None,
    )


class Rate:
    """Events a second over the last few seconds."""

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._seen: list[tuple[float, int]] = []

    def at(self, now: float, events: int) -> float:
        """The rate, once `events` is the total at `now`."""
        self._seen.append((now, events))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._window_s:
            del self._seen[0]
        began, first = self._seen[0]
        return (events - first) / (now - began) if now > began else 0.0
