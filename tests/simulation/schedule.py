"""One schedule under one seed: what is sent, what fails, who owns what, and when.

`play(seed)` runs it to its end and raises at the first thing that is wrong. The same seed always does the same.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from service.pipeline import flow, join_columns
from service.pipeline import task as runner
from service.pipeline.aggregate import Deltas, aggregate
from service.pipeline.assign import Assigned
from service.pipeline.limits import Limits
from tests.flow.world import PREFIX
from tests.simulation.journal import Journal
from tests.simulation.node import Rates, aged
from tests.simulation.verdict import SKEW_US
from tests.simulation.workload import BREAKING, Workload, changed
from tests.simulation.world import Process, SimulatedWorld

_INSTANCES = ("one", "two", "three")
_CALM = Rates()
_IDLE_POLL_S = 2.0
"""A task with nothing to do looks that often. As often as in a worker, looking took half of the time of a schedule."""
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Played:
    """What one schedule did."""

    seed: int
    journal: Journal
    acts: dict[str, int]
    commits: int


def play(seed: int) -> Played:
    """Run the schedule of this seed. Raises whatever is wrong."""
    schedule = Schedule(seed)
    few = 1 if seed % 2 else join_columns.FEW  # else no schedule has so many records at once that it joins by columns
    with (
        closing(schedule.world) as world,
        patch.object(flow, "aggregate", _breaking),
        patch.object(runner, "_IDLE_POLL_S", _IDLE_POLL_S),
        patch.object(join_columns, "FEW", few),
    ):
        world._run(schedule.run())
        schedule.end()
        return Played(seed, world.journal, schedule.acts, world.ledger.commits)


def _breaking(assigned: Assigned, *rest: Any) -> Deltas:
    """A stage that breaks on what no rule foresaw."""
    if BREAKING in (*assigned.predictions.row_id, *assigned.actuals.row_id):
        raise ZeroDivisionError
    return aggregate(assigned, *rest)


class Schedule:
    """Acts one after the other, each after some time."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        partitions = chance.choice([1, 2, 3])
        trouble = chance.choice([0.3, 1.0, 2.0])
        rates = Rates(
            waits=chance.choice([0.02, 0.3]),
            refuses=0.01 * trouble,
            stalls=0.002 * trouble,
            crashes=0.003 * trouble,
            commit_fails=0.08 * trouble,
            publish_fails=0.05 * trouble,
        )
        limits = Limits(
            max_records=chance.choice([3, 20, 1000]),
            slot_bytes=chance.choice([4_000, 1 << 20]),
            cells=chance.choice([1, 5, 1000]),
            prefix=PREFIX,
        )
        self.world = SimulatedWorld(chance, partitions, rates, limits)
        self.world.give_tasks = self._ensure_owners
        self.workload = Workload(chance)
        self.acts: dict[str, int] = {}
        self._owners: dict[int, str] = {}
        self._last_event = 0.0
        """When the last thing will have happened that was put off, in the loop's time."""
        self._left = chance.choice([20, 60, 120])
        self._kept_disks: dict[str, object] = {}
        self._forgets = chance.random() < 0.1
        self._menu: list[tuple[int, Callable[[], None]]] = [
            (30, self.send),
            (8, self.crash),
            (5, self.stall),
            (6, self.rebalance),
            (3, self.twin),
            (4, self.database_goes),
            (4, self.broker_goes),
            (4, self.clean),
            (4, self.snapshot),
            (10, self.people),
            (5, self.hours_pass),
            (3, self.days_pass),
            (3, self.clock_moves),
            (3, self.stop),
        ]

    # ---------------------------------------------------------------- the run

    async def run(self) -> None:
        self._ensure_owners()
        weights, acts = [weight for weight, _ in self._menu], [act for _, act in self._menu]
        for _ in range(self.chance.choice([10, 30, 60])):
            (act,) = self.chance.choices(acts, weights)
            self.acts[act.__name__] = self.acts.get(act.__name__, 0) + 1
            act()
            await asyncio.sleep(self.chance.choice([0, 0, 0.001, 0.01, 0.1, 1.0, 3.0]))
            self.world.notice()
            if self.chance.random() < 0.4:
                self._ensure_owners()

    def end(self) -> None:
        """Everything works again; what was sent is counted; then every row comes to its end."""
        world = self.world
        world.weather.rates = _CALM
        world.weather.database_down = world.weather.broker_down = False
        while self._left:
            self.send()
        world._run(self._calm())
        world.settle()
        world.check_at_rest()
        for _ in range(3):
            world.pass_time(world.furthest_behind() + timedelta(hours=12))
        world.check_at_rest()
        assert not world.states(), "rows that time should have ended are still there"

    async def _calm(self) -> None:
        """Whoever stood still wakes up, whoever was replaced ends; of two processes of one instance the later stays."""
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(5)
            self.world.notice()
            before = dict(self._owners), set(self.world.processes)
            last = {process.node.member.partition("#")[0]: process for process in self.world.processes.values()}
            for process in [one for one in self.world.processes.values() if one not in last.values()]:
                self._bury(process)
            self._ensure_owners()
            for member in self.world.processes:
                tasks = [task for task, owner in self._owners.items() if owner == member]
                self.world.broker.assign(member, tasks)
            same = before == (self._owners, set(self.world.processes))
            waited_for = [self._last_event, *(one.node.stalled_until for one in self.world.processes.values())]
            quiet = quiet + 1 if same and max(waited_for) < self.world._loop.time() else 0

    # ---------------------------------------------------------------- acts

    def send(self) -> None:
        count = min(self._left, self.chance.choice([1, 3, 10]))
        self._left -= count
        for _ in range(count):
            self.world.produce(self.workload.draw(self.world.clock.now()))

    def crash(self) -> None:
        """One process is gone; what becomes of its disk is another matter."""
        if process := self._any():
            self._bury(process)

    def stall(self) -> None:
        """A process stands still; past its session the group gives its tasks away, and tells it when it wakes."""
        if process := self._any():
            seconds = self.chance.choice([2.0, 12.0, 25.0])
            process.node.stall(seconds)
            if self.chance.random() < 0.7:
                self._give_away(process, after=seconds + self.chance.random())

    def rebalance(self) -> None:
        """Tasks move; who had them hears of it a little later."""
        if self.chance.random() < 0.5 and len(self.world.processes) < 3:
            self._start()
        if process := self._any():
            self._give_away(process, after=self.chance.choice([0.0, 0.0, 0.01, 0.5, 3.0]))

    def twin(self) -> None:
        """A second process of one instance ID, on a disk of its own; the first one is not asked."""
        if (process := self._any()) and not process.is_twin:
            instance = process.node.member.partition("#")[0]
            tasks = [task for task, owner in self._owners.items() if owner == process.node.member]
            twin = self.world.begin(instance, tasks, disk=f"{instance}-twin-{self.chance.random()}", is_twin=True)
            for task in tasks:
                self._owners[task] = twin.node.member
            self._tell_later(process, self.chance.choice([0.0, 1.0, 10.0]))

    def database_goes(self) -> None:
        self.world.weather.database_down = True
        self._later(self.chance.choice([0.2, 3.0, 20.0]), lambda: setattr(self.world.weather, "database_down", False))

    def broker_goes(self) -> None:
        self.world.weather.broker_down = True
        self._later(self.chance.choice([0.2, 3.0, 20.0]), lambda: setattr(self.world.weather, "broker_down", False))

    def clean(self) -> None:
        self.world.clean(7 * _DAY)
        if self._forgets:
            self.world.repeats = True
            self.world.broker.committed.clear()

    def snapshot(self) -> None:
        """A copy of a disk is made, which may come back one day."""
        if process := self._any():
            self._kept_disks[process.disk] = aged(process.node.stores)

    def people(self) -> None:
        """Somebody opens, locks or deletes a batch, or changes a policy."""
        world, chance = self.world, self.chance
        name = chance.choice(list(world.rules))
        batches = [batch for (owner, batch) in world.catalog._batches if owner == name]
        roll = chance.random()
        if roll < 0.3 or (not batches and roll < 0.8):
            batch = world.catalog.open_batch(name, chance.choice(["x", "z"]))
            self.workload.batches.append((name, batch.id))
        elif roll < 0.5:
            world.catalog.lock(name, chance.choice(batches))
        elif roll < 0.6:
            world.catalog.unlock(name, chance.choice(batches))
        elif roll < 0.75:
            world.catalog.delete_batch(name, chance.choice(batches))
        else:
            world.rule(changed(world.rules[name], chance))

    def hours_pass(self) -> None:
        self._pass(self.chance.choice([0.5, 1, 2, 5]) * _HOUR)

    def days_pass(self) -> None:
        """Nothing is sent for so long that old disks must not be trusted, and old tombstones go."""
        self._pass(self.chance.choice([2, 5, 9, 45]) * _DAY)
        self.world.clean(7 * _DAY)
        self.world.retain(40 * _DAY)

    def clock_moves(self) -> None:
        """A machine's clock is set wrong, or right."""
        if process := self._any():
            seconds = SKEW_US // 1_000_000
            process.clock.off = timedelta(seconds=self.chance.choice([-seconds, -30, 0, 0, 30, 7200]))

    def stop(self) -> None:
        """A process is asked to end, drains, and another goes on."""
        if process := self._any():
            process.worker.supervisor.stop()
            self._disown(process)

    # ---------------------------------------------------------------- who owns what

    def _any(self) -> Process | None:
        alive = [process for process in self.world.processes.values() if process.node.is_alive]
        return self.chance.choice(alive) if alive else None

    def _start(self, instance: str = "") -> Process:
        """A process of an instance that does not run comes up, on what became of its disk."""
        running = {member.partition("#")[0] for member in self.world.processes}
        free = [name for name in _INSTANCES if name not in running]
        instance = instance or (self.chance.choice(free) if free else self.chance.choice(_INSTANCES))
        if instance in running:
            return self.world.begin(instance, (), disk=f"{instance}-again-{self.chance.random()}", is_twin=True)
        roll = self.chance.random()
        if roll < 0.2:
            self.world.put_disk(instance, type(self.world.disk(instance))())
        elif roll < 0.5 and instance in self._kept_disks:
            self.world.put_disk(instance, aged(self._kept_disks[instance]))  # type: ignore[arg-type]
        return self.world.begin(instance, ())

    def _ensure_owners(self) -> None:
        """Every task is given to a process that runs."""
        world = self.world
        world.notice()
        if not world.processes:
            self._start()
        members = [
            member for member, process in world.processes.items() if process.node.is_alive and self._stays(process)
        ]
        if not members:
            members = [self._start().node.member]
        for task in range(world.broker.partitions):
            if self._owners.get(task) not in members:
                self._owners[task] = self.chance.choice(members)
        for member in members:
            tasks = {task for task, owner in self._owners.items() if owner == member}
            world.broker.assign(member, world.broker.assignment(member) | tasks)

    def _stays(self, process: Process) -> bool:
        return not process.worker.supervisor._stopping.is_set()

    def _give_away(self, process: Process, after: float) -> None:
        others = [one for one in self.world.processes.values() if one is not process and self._stays(one)]
        other = self.chance.choice(others) if others else self._start()
        for task, owner in list(self._owners.items()):
            if owner == process.node.member:
                self._owners[task] = other.node.member
        tasks = {task for task, owner in self._owners.items() if owner == other.node.member}
        self.world.broker.assign(other.node.member, self.world.broker.assignment(other.node.member) | tasks)
        self._tell_later(process, after)

    def _tell_later(self, process: Process, after: float) -> None:
        """The process hears what is its own now."""

        def tell() -> None:
            member = process.node.member
            if member in self.world.processes:
                self.world.broker.assign(member, [task for task, owner in self._owners.items() if owner == member])

        self._later(after, tell)

    def _disown(self, process: Process) -> None:
        for task, owner in list(self._owners.items()):
            if owner == process.node.member:
                del self._owners[task]

    def _bury(self, process: Process) -> None:
        self._disown(process)
        self.world.end_process(process)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        self._last_event = max(self._last_event, self.world._loop.time() + seconds)
        self.world._loop.call_later(seconds, what)

    def _pass(self, span: timedelta) -> None:
        self.world.clock.advance(span)
