"""The first look: the year is sent while its figures are read again and again, until it is counted and audited.

The producer and the watcher share one event loop; what either does at a time is short, so the table stays alive.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from service.devstack.demo.events import DEPLOYMENT_ID
from service.devstack.demo.figures import (
    Rate,
    Totals,
    WorkerFigures,
    is_audited,
    is_counted,
    month_figures,
    statuses,
    together,
    worker_figures,
)
from service.devstack.demo.producer import BATCH, DemoProducer, Journey
from service.devstack.demo.replay import ACTUAL, PREDICTION, play
from service.devstack.demo.screen import DemoView
from service.devstack.errors import DevStackError, tail
from service.ports import Unavailable
from service.usecases.statistics import Figures, Grouping, Statistics

TICK_S: Final = 0.2
_ASK_WORKERS_EVERY_S: Final = 1.0
_SHARE: Final = 10
"""Reading the statistics may take at most one part in ten of the time."""
_STALLED_AFTER_S: Final = 180.0


class AskedWorker(Protocol):
    """A worker process, as far as it can be asked."""

    @property
    def restarts(self) -> int: ...

    @property
    def log(self) -> Path: ...

    async def fetch(self, path: str) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the first look is played on."""

    totals: Callable[[], Awaitable[Totals]]
    """May raise `Unavailable`, as `statistics` may."""
    statistics: Statistics
    workers: Sequence[AskedWorker]
    tasks: int
    broker: str
    urls: dict[str, str]


@dataclass(slots=True, kw_only=True)
class _Measured:
    """The newest figures; those of a server that is away for a moment stay as they were."""

    totals: Totals = field(default_factory=Totals)
    workers: WorkerFigures = field(default_factory=WorkerFigures)
    months: Sequence[Figures] = ()
    rate: float = 0.0


class FirstLook:
    """One run of the demo. Read `over` and `result` at any time."""

    def __init__(self, stage: Stage, journey: Journey, speed: float | None) -> None:
        self._stage = stage
        self._journey = journey
        self._speed = speed
        self._legs = list(journey.legs)
        self._sent = dict(journey.before)
        self._measured = _Measured()
        self._received_before: int | None = None
        self._began_at: float | None = None
        self._counted_at: float | None = None
        self._produced = False
        self._workers_due_at = 0.0
        self._statistics_due_at = 0.0
        self._rate = Rate()
        self.over = False

    @property
    def total(self) -> int:
        """Events sent so far, in this run and those before, and those that are left."""
        return sum(self._journey.before.values()) + len(self._journey.left)

    async def play(
        self, producer: DemoProducer, show: Callable[[DemoView], None], when_over: Callable[[], Awaitable[bool]]
    ) -> None:
        """Send and watch, until `when_over`, which is called once, is content.

        Raises what ends either, and DevStackError when nothing moves any more before it is over.
        """
        patience, told = _Patience(), False
        async with _beside(self._send_all(producer)) as sending:
            while True:
                await self._measure()
                show(self.view())
                if self.over and not told:
                    told = True
                    if await when_over():
                        return
                if sending.done():
                    sending.result()
                    if not told:
                        patience.check(self._measured.totals, self._stage.workers[0].log)
                await asyncio.sleep(TICK_S)

    def view(self) -> DemoView:
        """For the screen."""
        totals, workers = self._measured.totals, self._measured.workers
        sent = sum(self._sent.values())
        return DemoView(
            elapsed_s=self.elapsed_s,
            produced_predictions=self._sent[PREDICTION],
            produced_actuals=self._sent[ACTUAL],
            total=self.total,
            events_per_s=self._measured.rate if self._counted_at is None else self.events_per_s,
            lag_records=max(workers.lag_records, sent - totals.received),
            rows_open=workers.rows_open,
            outcomes=statuses(self._measured.months),
            months=month_figures(self._measured.months),
            batches=totals.batches,
            conservation_error=workers.conservation_error,
            broker=self._stage.broker,
            urls=self._stage.urls,
            worker_restarts=sum(worker.restarts for worker in self._stage.workers),
        )

    def result(self) -> dict[str, Any]:
        """For machines."""
        totals, workers = self._measured.totals, self._measured.workers
        return {
            "predictions": totals.predictions,
            "actuals": totals.actuals,
            "statuses": statuses(self._measured.months),
            "open": workers.rows_open,
            "batches": totals.batches,
            "conservation_error": workers.conservation_error,
            "elapsed_s": round(self.elapsed_s, 3),
            "events_per_s": round(self.events_per_s, 1),
        }

    @property
    def elapsed_s(self) -> float:
        """From the first event sent, until everything was committed."""
        if self._began_at is None:
            return 0.0
        return (self._counted_at or time.monotonic()) - self._began_at

    @property
    def events_per_s(self) -> float:
        """Of this run as a whole."""
        if self._received_before is None or not self.elapsed_s:
            return 0.0
        return (self._measured.totals.received - self._received_before) / self.elapsed_s

    async def _send_all(self, producer: DemoProducer) -> None:
        async def send(topic: int, keys: list[bytes], values: list[bytes]) -> None:
            legs = [*self._legs[:-1], self._legs[-1].further(topic, len(keys))]
            if self._began_at is None:
                self._began_at = time.monotonic()
            await producer.send(topic, keys, values, legs)
            self._legs = legs
            self._sent[topic] += len(keys)

        await play(self._journey.left, send, sleep=asyncio.sleep, now=time.monotonic, speed=self._speed, batch=BATCH)
        self._produced = True

    async def _measure(self) -> None:
        """Totals first: what is found audited after that is audited for all of them."""
        counted = await self._read_totals()
        over = counted and self.over
        if (counted and not over) or time.monotonic() >= self._workers_due_at:
            over = await self._ask_workers() and counted
            over = over and is_audited(self._measured.totals, self._measured.workers, tasks=self._stage.tasks)
        if over != self.over or time.monotonic() >= self._statistics_due_at:
            over = await self._read_statistics() and over
        self.over = over

    async def _read_totals(self) -> bool:
        """Whether everything is counted that is to be sent."""
        measured, produced = self._measured, self._produced
        with suppress(Unavailable):
            measured.totals = await self._stage.totals()
        now = time.monotonic()
        if self._received_before is None:
            self._received_before = measured.totals.received
        measured.rate = self._rate.at(now, measured.totals.received)
        sent = self._sent
        counted = produced and is_counted(measured.totals, predictions=sent[PREDICTION], actuals=sent[ACTUAL])
        if counted and self._counted_at is None:
            self._counted_at = now
        return counted

    async def _ask_workers(self) -> bool:
        """Whether each of them answered."""
        answers = await asyncio.gather(*(worker.fetch("/metrics") for worker in self._stage.workers))
        self._workers_due_at = time.monotonic() + _ASK_WORKERS_EVERY_S
        heard = [worker_figures(answer) for answer in answers if answer is not None]
        if heard:
            self._measured.workers = together(heard)
        return len(heard) == len(answers)

    async def _read_statistics(self) -> bool:
        """Whether the database answered."""
        began = time.monotonic()
        try:
            months = await self._stage.statistics.figures(DEPLOYMENT_ID, by=Grouping.MONTH, start=None, end=None)
        except Unavailable:
            return False
        self._measured.months = months or ()
        now = time.monotonic()
        self._statistics_due_at = now + max(1.0, (now - began) * _SHARE)
        return True


class _Patience:
    """Ends a wait in which nothing has moved for too long."""

    def __init__(self) -> None:
        self._seen: object = None
        self._moved_at = time.monotonic()

    def check(self, totals: Totals, log: Path) -> None:
        """Raises DevStackError when `totals` have been the same for too long."""
        if totals != self._seen:
            self._seen, self._moved_at = totals, time.monotonic()
        elif time.monotonic() - self._moved_at > _STALLED_AFTER_S:
            end = tail(log.read_text(errors="replace"))
            raise DevStackError(f"nothing was counted for {_STALLED_AFTER_S:g} seconds. The end of {log}:\n{end}")


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Runs `work` as a task, which does not outlive the block; its fault is the block's business."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
