"""A world of processes that a schedule drives: broker, database, disks, and any number of workers over them."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from aiokafka.partitioner import murmur2
from prometheus_client import CollectorRegistry

from service.adapters.memory import MemorySink, MemoryStores
from service.domain.deployment import ActualOrder, BatchPolicy, Deployment, JoinSpec, LatePolicy
from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.pipeline.guarded_clock import GuardedClock
from service.pipeline.limits import Limits
from service.pipeline.owned import World
from service.pipeline.registry import Registry
from service.pipeline.supervisor import Supervisor
from service.pipeline.task import Replaced
from service.ports import Owner, Topic
from service.telemetry import Telemetry
from tests.builders import deployment, regression
from tests.flow.world import FlowWorld, Worker
from tests.simulation.at_rest import check_cells, check_rows
from tests.simulation.journal import Journal, SeenBroker, SeenCatalog, SeenLedger
from tests.simulation.node import (
    Crashed,
    Node,
    NodeClock,
    NodeStores,
    Rates,
    Weather,
    catalog_of,
    ledger_of,
    sink_of,
    source_of,
    status_log_of,
)
from tests.simulation.verdict import Verdict
from tests.simulation.workload import DEPLOYMENTS, EDGES, VALUES, Rules, Sent

LAYOUT = FeatureLayout(
    features=(
        NumericBins(name="distance", first_slot=0, edges=EDGES),
        CategoricalBins(name="carrier", first_slot=len(EDGES) + 2, values=VALUES),
    )
)


@dataclass(slots=True)
class Process:
    """A worker process, from its start until its end is noticed."""

    node: Node
    clock: NodeClock
    worker: Worker
    disk: str
    """Name of the disk that it runs on, which is that of its instance but for a twin."""
    is_twin: bool = False


class SimulatedWorld(FlowWorld):
    """Processes by member name. Who owns what is what the schedule says; two may believe it at once."""

    def __init__(self, chance: random.Random, partitions: int, rates: Rates, limits: Limits) -> None:
        super().__init__(partitions=partitions, started=False)
        self.journal = Journal()
        self.broker = SeenBroker(partitions, self.journal)
        self.catalog: SeenCatalog = SeenCatalog(self.clock)
        self.catalog.journal = self.journal
        self.ledger = SeenLedger(self.catalog, self.journal)
        self.sink = MemorySink(self.broker)
        self.chance = chance
        self.weather = Weather(rates)
        self.processes: dict[str, Process] = {}
        self.rules = {rules.id: rules for rules in DEPLOYMENTS}
        self.repeats = False
        """The broker has forgotten what was committed: what is published then may be a repetition."""
        self._cleaned_first: dict[tuple[int, int], int] = {}
        """When a cleaner first came by a tombstone, by task and offset; milliseconds since 1970."""
        self._disks_by_name: dict[str, MemoryStores] = {}
        self.give_tasks: Callable[[], None] = lambda: None
        """Called when a process may have ended while the world comes to rest."""
        self._limits = limits
        self._started = 0
        self._started_of: Counter[str] = Counter()
        for rules in DEPLOYMENTS:
            self.catalog.put(_deployment(rules))

    # ---------------------------------------------------------------- processes

    def begin(self, instance: str, tasks: Collection[int], *, disk: str = "", is_twin: bool = False) -> Process:
        """A process of this instance comes up on the disk that it left, or on this one."""
        disk = disk or instance
        self._started += 1
        self._started_of[instance] += 1
        member = f"{instance}#{self._started}"
        node = Node(member, self.weather, self.chance, self._disks_by_name.setdefault(disk, MemoryStores()))
        clock, stores, telemetry = NodeClock(self.clock), NodeStores(node), Telemetry(CollectorRegistry())
        world = World(
            clock=GuardedClock(clock),
            source=source_of(node, self.broker),
            sink=sink_of(node, self.sink),
            status_log=status_log_of(node, self.broker),
            stores=stores,
            ledger=ledger_of(node, self.ledger),
            owner=Owner(instance=instance, process=UUID(int=self._started)),
        )
        registry = Registry(catalog_of(node, self.catalog), auto_create=False)
        supervisor = Supervisor(world, registry, telemetry, self._limits)
        running = self._loop.create_task(supervisor.run(), name=member)
        worker = Worker(member, stores, supervisor, telemetry, running)  # type: ignore[arg-type]
        self.workers[member] = worker
        self.processes[member] = Process(node, clock, worker, disk, is_twin)
        self.broker.assign(member, tasks)
        return self.processes[member]

    def end_process(self, process: Process) -> None:
        """Take away what is left of a process that died, or kill one that lives."""
        process.node.die()
        process.worker.running.cancel()
        self.broker.assign(process.node.member, ())
        self.workers.pop(process.node.member, None)
        self.processes.pop(process.node.member, None)

    def notice(self) -> None:
        """Take away the processes that have ended. Raises what a process died of, unless the schedule killed it."""
        for process in list(self.processes.values()):
            running = process.worker.running
            if running.done():
                error = None if running.cancelled() else running.exception()
                self.end_process(process)
                if error is not None and not isinstance(error, Crashed) and not self._was_replaced(process, error):
                    raise error
            elif not process.node.is_alive:
                self.end_process(process)

    def raise_failures(self) -> None:
        self.notice()
        self.give_tasks()

    def _was_replaced(self, process: Process, error: BaseException) -> bool:
        """Another process of the instance has taken over: a twin, or a dead one whose last request was under way."""
        instance = process.node.member.partition("#")[0]
        return isinstance(error, Replaced) and self._started_of[instance] > 1

    def disk(self, name: str) -> MemoryStores:
        return self._disks_by_name.setdefault(name, MemoryStores())

    def put_disk(self, name: str, stores: MemoryStores) -> None:
        self._disks_by_name[name] = stores

    # ---------------------------------------------------------------- input and changes

    def produce(self, sent: Sent) -> None:
        home = self.home_of_key(sent.key or "")
        if sent.key is None:
            home = self.chance.randrange(self.broker.partitions)
        elif sent.stray:
            home = (home + 1) % self.broker.partitions
        role = sent.topic
        key = sent.key.encode() if sent.key is not None else None
        offset = self.broker.produce(
            role, key, sent.value, partition=home, headers=sent.headers, timestamp=sent.timestamp_ms
        )
        self.journal.sent[sent.topic, home, offset] = sent

    def home_of_key(self, key: str) -> int:
        """Java's default partitioner, by the client library's word."""
        return int((murmur2(key.encode()) & 0x7FFFFFFF) % self.broker.partitions)

    def rule(self, rules: Rules) -> None:
        self.rules[rules.id] = rules
        known = self.catalog._deployments[rules.id]
        made = _deployment(rules)
        self.catalog.put(
            replace(known, join=made.join, association_required=made.association_required,
                    batch_policy=made.batch_policy)
        )  # fmt: skip
        self.catalog.rule(rules)

    def clean(self, kept: timedelta) -> None:
        """The cleaner compacts the status topic. A tombstone goes once it was there so long ago that a cleaner came by
        (KIP-534): its own timestamp may be much older, where a slot was published again."""
        until = self.now_ms - kept // timedelta(milliseconds=1)
        for task in range(self.broker.partitions):
            log = self.broker.log(Topic.STATUS, task)
            log.compact()
            log.records = [
                one
                for one in log.records
                if one.value is not None or self._cleaned_first.setdefault((task, one.offset), self.now_ms) > until
            ]

    def retain(self, span: timedelta) -> None:
        """Retention of the status topic: older records go, as far as no row that lives hangs on them.

        That is what the rule of at least thirty days beyond the longest row is for.
        """
        until = self.now_ms - span // timedelta(milliseconds=1)
        for task in range(self.broker.partitions):
            log = self.broker.log(Topic.STATUS, task)
            last = {one.key: one for one in log.records}
            needed = [one.offset for one in last.values() if one.value is not None or one.timestamp > until]
            log.truncate(min(needed, default=log.end))

    def furthest_behind(self) -> timedelta:
        """How far the slowest clock of any input is behind the wall: it goes on from where its last event stood."""
        tasks = range(self.broker.partitions)
        stood = [row.clock.stream_time for task in tasks for row in self.clocks(task).values()]
        now = self.now_ms * 1000
        return timedelta(microseconds=max((now - at for at in stood if at is not None), default=0))

    def verdict(self) -> Verdict:
        verdict = Verdict(self.journal, DEPLOYMENTS, self.broker.partitions, self.home_of_key, self.repeats)
        verdict.run()
        return verdict

    def is_publishing(self) -> bool:
        """A clock that others wait for is committed now and then, even when nothing comes in."""
        versions = {task: self.ledger._task(task).checkpoint.version for task in range(self.broker.partitions)}
        return any(version and self.broker.published.get(task) != version for task, version in versions.items())

    def check_at_rest(self) -> Verdict:
        """Everything: the journal, and what ledger, stores and topics hold now."""
        while self.is_publishing():  # time has to pass: a publish that has failed is noticed after the next poll
            self.wait(timedelta(milliseconds=20))
        verdict = self.verdict()
        for task in range(self.broker.partitions):
            must = verdict.oracle.tasks[task]
            check_cells(task, must, self.ledger.every_prediction_cell(task), self.ledger.every_accuracy_cell(task))
            check_rows(task, must, dict(self.store(task).rows()))
        assert self.conservation_error() == 0, "conservation is broken"
        return verdict

    def close(self) -> None:
        for process in list(self.processes.values()):
            self.end_process(process)
        while pending := asyncio.all_tasks(self._loop):
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(pending))
        self._loop.close()


def _deployment(rules: Rules) -> Deployment:
    made = regression(rules.id) if rules.regression else deployment(rules.id)
    spec = JoinSpec(
        window=rules.window,
        grace=rules.grace,
        early_ttl=rules.early_ttl,
        allowed_lateness=rules.allowed_lateness,
        max_future_skew=rules.max_future_skew,
        late_policy=LatePolicy(rules.late),
        actual_order=ActualOrder.ARRIVAL if rules.by_arrival else ActualOrder.EVENT_TIME,
    )
    return replace(
        made,
        join=spec,
        association_required=rules.association_required,
        batch_enabled=rules.batch_enabled,
        batch_policy=BatchPolicy(rules.policy),
        layouts={"model-1": LAYOUT},
    )
