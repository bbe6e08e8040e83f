"""The real pipeline over in-memory adapters, in a world where time only passes when everybody waits.

A test deploys, sends records, lets the world settle and looks at what came of them. Nothing here decides anything: it
starts supervisors as `bootstrap` does, and reads topics, stores and ledger from outside.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry

from service.adapters.memory import (
    HandClock,
    MemoryBroker,
    MemoryCatalog,
    MemoryLedger,
    MemoryRecord,
    MemorySink,
    MemorySource,
    MemoryStatusLog,
    MemoryStore,
    MemoryStores,
)
from service.domain.deployment import Deployment
from service.domain.flood import Flood
from service.domain.ids import murmur2
from service.domain.outcomes import Outcome
from service.domain.row import RowState, decode_row
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.domain.timers import unpacked_keys
from service.pipeline.audit import audit
from service.pipeline.guarded_clock import GuardedClock
from service.pipeline.limits import Limits
from service.pipeline.owned import World
from service.pipeline.registry import Registry
from service.pipeline.retention import RetentionSpec
from service.pipeline.supervisor import Supervisor
from service.ports import AccuracyCellKey, Checkpoint, ClockRow, Owner, PredictionCellKey, Topic
from service.telemetry import Telemetry
from tests.flow.published import DeadLetter, Status, dead_letter, key_of, only
from tests.flow.virtual_loop import VirtualLoop

PREFIX = "monitoring"
START = datetime(2026, 1, 2, 12, tzinfo=UTC)
"""After the event times that `tests.builders` gives."""
_LOOK_EVERY_S = 0.05
_SETTLES_WITHIN_S = 600.0


@dataclass(slots=True)
class Worker:
    """One worker process."""

    name: str
    stores: "KeptStores"
    supervisor: Supervisor
    telemetry: Telemetry
    running: asyncio.Task[None]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(f"hindsight_{name}", labels)


class KeptStores(MemoryStores):
    """Remembers what was opened, so that a test can look into it."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: dict[int, MemoryStore] = {}

    def open(self, task: int) -> MemoryStore:
        self.opened[task] = super().open(task)
        return self.opened[task]


@dataclass(slots=True)
class Numbers:
    """All statistics, summed over the tasks."""

    traffic: dict[PredictionCellKey, Traffic] = field(default_factory=dict)
    accuracy: dict[AccuracyCellKey, Accuracy] = field(default_factory=dict)


class FlowWorld:
    """A broker, a database, and the workers that a test starts; the first one is there already."""

    def __init__(
        self,
        *deployments: Deployment,
        partitions: int = 4,
        auto_create: bool = False,
        slot_bytes: int = 1 << 20,
        max_records: int = 10_000,
        cells: int = 1000,
        flood: int = 5_000,
        started: bool = True,
        retention: RetentionSpec = RetentionSpec(),  # noqa: B008
    ) -> None:
        self.clock = HandClock(START)
        self.broker = MemoryBroker(partitions)
        self.catalog = MemoryCatalog(self.clock)
        self.ledger = MemoryLedger(self.catalog)
        self.sink = MemorySink(self.broker)
        self.workers: dict[str, Worker] = {}
        self._auto_create = auto_create
        self._limits = Limits(
            max_records=max_records,
            slot_bytes=slot_bytes,
            cells=cells,
            prefix=PREFIX,
            retention=retention,
            flood=flood,
        )
        self._loop = VirtualLoop(lambda seconds: self.clock.advance(timedelta(seconds=seconds)))
        self._processes = 0
        self._disks: dict[str, KeptStores] = {}
        self._seen = [0] * partitions
        self._tape: list[list[MemoryRecord]] = [[] for _ in range(partitions)]
        self.unchecked = False
        """Set by a test that has damaged something: nothing is checked when it ends."""
        for deployment in deployments:
            self.catalog.put(deployment)
        if started:
            self.start("one", range(partitions))

    # ---------------------------------------------------------------- sending

    def predict(
        self,
        value: bytes,
        *,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp: int | None = None,
    ) -> int:
        """Produce a prediction to the partition of its key, or to this one; returns its offset."""
        return self._produce(Topic.PREDICTIONS, value, partition, headers, timestamp)

    def tell(
        self,
        value: bytes,
        *,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp: int | None = None,
    ) -> int:
        """Produce an actual to the partition of its key, or to this one; returns its offset."""
        return self._produce(Topic.ACTUALS, value, partition, headers, timestamp)

    def predicted(self, value: bytes, **how: Any) -> Status:
        """Produce a prediction (as `predict`) and settle; returns the only status that came of it."""
        self.predict(value, **how)
        return only(self.settle())

    def told(self, value: bytes, **how: Any) -> Status:
        """Produce an actual (as `tell`) and settle; returns the only status that came of it."""
        self.tell(value, **how)
        return only(self.settle())

    def home(self, association_id: str) -> int:
        """Partition of an association ID."""
        return murmur2(association_id.encode()) % self.broker.partitions

    def _produce(
        self,
        topic: str,
        value: bytes,
        partition: int | None,
        headers: Sequence[tuple[str, bytes]],
        timestamp: int | None,
    ) -> int:
        at = self.now_ms if timestamp is None else timestamp
        return self.broker.produce(topic, key_of(value), value, partition=partition, headers=headers, timestamp=at)

    @property
    def now_ms(self) -> int:
        return round(self.clock.now().timestamp() * 1000)

    # ---------------------------------------------------------------- workers

    def start(self, name: str, tasks: Collection[int]) -> Worker:
        """A process of this instance name comes up and is given these tasks. It finds the disk that it left."""
        stores = self._disks.setdefault(name, KeptStores())
        self._processes += 1
        telemetry = Telemetry(CollectorRegistry())
        world = World(
            clock=GuardedClock(self.clock),
            source=MemorySource(self.broker, name),
            sink=self.sink,
            status_log=MemoryStatusLog(self.broker),
            stores=stores,
            ledger=self.ledger,
            owner=Owner(instance=name, process=UUID(int=self._processes)),
        )
        supervisor = Supervisor(world, Registry(self.catalog, self._auto_create), telemetry, self._limits)
        running = self._loop.create_task(supervisor.run(), name=name)
        self.workers[name] = Worker(name, stores, supervisor, telemetry, running)
        self.broker.assign(name, tasks)
        return self.workers[name]

    def kill(self, name: str) -> None:
        """The process is gone where it stands; its disk stays. The group gives its tasks to nobody yet."""
        worker = self.workers.pop(name)
        worker.stores.crash()
        worker.running.cancel()
        self._run(_ended(worker.running))
        self.broker.assign(name, ())

    def stop(self, name: str) -> None:
        """The process drains and ends."""
        worker = self.workers.pop(name)
        worker.supervisor.stop()
        self._run(_ended(worker.running))
        self.broker.assign(name, ())

    def lose_disk(self, name: str, tasks: Iterable[int] | None = None) -> None:
        """The state stores of an instance that does not run are gone."""
        for task in range(self.broker.partitions) if tasks is None else tasks:
            self._disks[name].lose(task)

    def compact(self) -> None:
        """The cleaner has passed over all status partitions; only a test still sees what was there."""
        for task in range(self.broker.partitions):
            self._tape[task] = self._published(task)
            self.broker.compact(task)

    def raise_failures(self) -> None:
        """Raise what ended a worker."""
        for worker in self.workers.values():
            if worker.running.done():
                worker.running.result()

    def steps(self, count: int) -> None:
        """Let every task go on by this many steps, without letting time pass unless all of them wait."""

        async def steps() -> None:
            for _ in range(count):
                await asyncio.sleep(0)

        self._run(steps())

    def settle(self) -> list[Status]:
        """Go on until everything that was sent is counted and published; returns the statuses since the last look."""
        self._run(self._settled())
        return self.news()

    def pass_time(self, span: timedelta) -> list[Status]:
        """So much wall time goes by while nothing is sent; returns the statuses since the last look."""
        self.clock.jump(self.clock.now() + span)
        self.wait(timedelta(seconds=5))
        return self.settle()

    def wait(self, span: timedelta) -> None:
        """Let time pass."""
        self._run(asyncio.sleep(span.total_seconds()))

    def resume(self, task: int | None = None) -> dict[int, Flood]:
        """A person lets the task, or every one, go on after a flood."""
        return self._loop.run_until_complete(self.ledger.resume(task))

    def close(self) -> None:
        for name in list(self.workers):
            self.kill(name)
        self._loop.close()

    async def _settled(self) -> None:
        deadline = self._loop.time() + _SETTLES_WITHIN_S
        while not await self._at_rest():
            assert self._loop.time() < deadline, "the world does not come to rest"
            self.raise_failures()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _at_rest(self) -> bool:
        for task in range(self.broker.partitions):
            owners = [worker for name, worker in self.workers.items() if task in self.broker.assignment(name)]
            if not owners:
                continue
            if not any(task in owner.supervisor.tasks and owner.supervisor.restored for owner in owners):
                return False
            row = await self.ledger.read(task)
            ends = {role: self.broker.log(role, task).end for role in (Topic.PREDICTIONS, Topic.ACTUALS, Topic.REKEY)}
            if any(row.offsets.get(role, 0) != end for role, end in ends.items()):
                return False
            if self.broker.published.get(task, 0) != row.version:
                return False
            if await self.ledger.outbox(task, self.broker.partitions, 1) or await self.ledger.deletions(task):
                return False
        return True

    def _run(self, what: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(what)

    # ---------------------------------------------------------------- looking

    def statuses(self) -> list[Status]:
        """Everything on the status topic, by task and in order."""
        return [status for task in range(self.broker.partitions) for status in self.statuses_of(task)]

    def news(self) -> list[Status]:
        """Statuses since the last look."""
        found = []
        for task in range(self.broker.partitions):
            statuses = self.statuses_of(task)
            found += statuses[self._seen[task] :]
            self._seen[task] = len(statuses)
        return found

    def statuses_of(self, task: int) -> list[Status]:
        """Everything on one partition of the status topic, what was compacted included."""
        return [
            Status(task, record.key or b"", json.loads(record.value or b"{}"), dict(record.headers), record.timestamp)
            for record in self._published(task)
        ]

    def _published(self, task: int) -> list[MemoryRecord]:
        """Everything that was ever on the task's status partition."""
        tape = self._tape[task]
        return tape + self.broker.log(Topic.STATUS, task).read(tape[-1].offset + 1 if tape else 0, 1 << 30)

    def dead_letters(self) -> list[DeadLetter]:
        return [dead_letter(record) for record in self._log(Topic.DLQ)]

    def forwarded(self) -> list[MemoryRecord]:
        """Everything on the rekey topic."""
        return self._log(Topic.REKEY)

    def batch_events(self) -> list[tuple[str, str]]:
        """(name of the batch, what happened to it), by task and in order."""
        events = [json.loads(record.value or b"") for record in self._log(Topic.BATCHES)]
        return [(event["batchName"], event["event"]) for event in events]

    def _log(self, topic: str) -> list[MemoryRecord]:
        logs = [self.broker.log(topic, task) for task in range(self.broker.partitions)]
        return [record for log in logs for record in log.read(0, 1 << 30)]

    def store(self, task: int) -> MemoryStore:
        """The store of the worker that the task is assigned to."""
        owner = next(worker for name, worker in self.workers.items() if task in self.broker.assignment(name))
        return owner.stores.opened[task]

    def states(self) -> dict[bytes, bytes]:
        """Packed rows of all tasks, by key."""
        return {key: state for task in self._served() for key, state in self.store(task).rows()}

    def rows(self) -> dict[str, RowState]:
        """Rows of all tasks, by `deployment/row ID`."""
        return {key.decode(): decode_row(state) for key, state in self.states().items()}

    def timed(self) -> set[bytes]:
        """Keys of all rows that a timer of their store names."""
        stores = [self.store(task)._disk.entries for task in self._served()]
        entries = [value for entries in stores for key, value in entries.items() if key < b"\x02"]
        return {key for entry in entries for key in unpacked_keys(entry)}

    def numbers(self) -> Numbers:
        numbers = Numbers()
        for task in range(self.broker.partitions):
            for key, traffic in self.ledger.every_prediction_cell(task).items():
                numbers.traffic[key] = numbers.traffic.get(key, Traffic()).merged(traffic)
            for label_key, accuracy in self.ledger.every_accuracy_cell(task).items():
                numbers.accuracy[label_key] = numbers.accuracy.get(label_key, Accuracy()).merged(accuracy)
        return numbers

    def accuracy(self) -> Accuracy:
        """Accuracy over all cells."""
        total = Accuracy()
        for accuracy in self.numbers().accuracy.values():
            total = total.merged(accuracy)
        return total

    def confusion(self) -> dict[tuple[int, int], int]:
        """Matched rows by (actual class index, predicted class index)."""
        found = {(pair // 1024, pair % 1024): rows for pair, rows in self.accuracy().confusion.items()}
        assert sum(found.values()) == self.accuracy().matched
        return found

    def outcomes(self) -> Counter[str]:
        """Outcome counts of all cells."""
        counts: Counter[str] = Counter()
        for traffic in self.numbers().traffic.values():
            for code, count in enumerate(traffic.outcomes.tolist()):
                counts[Outcome(code).name] += count
        return +counts

    def checkpoint(self, task: int) -> Checkpoint:
        return self._loop.run_until_complete(self.ledger.read(task))

    def clocks(self, task: int) -> dict[str, ClockRow]:
        return self._loop.run_until_complete(self.ledger.clocks(task))

    def submissions(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        for task in range(self.broker.partitions):
            counts.update(self.ledger.every_submission(task))
        return counts

    def conservation_error(self) -> int:
        """Worked out from the store and the ledger, as the workers do."""
        return sum(audit(self.store(task).rows(), self.clocks(task)).error for task in self._served())

    def _served(self) -> list[int]:
        assigned = {task for name in self.workers for task in self.broker.assignment(name)}
        return sorted(assigned)


async def _ended(running: asyncio.Task[None]) -> None:
    await asyncio.wait([running])
    if not running.cancelled() and (error := running.exception()):
        raise error
