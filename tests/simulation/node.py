"""One worker process of a simulation: its ports, each of which the schedule may delay, refuse, stall or kill at.

Every call that leaves the process comes by its gate before and after the effect, so that whatever can happen to a
process happens between any two effects. A dead process has no further effect: each of its calls raises `Crashed`, and
its disk was copied away from under it.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from inspect import iscoroutinefunction
from typing import Any, cast

from service.adapters.memory import HandClock, MemoryBroker, MemorySource, MemoryStatusLog, MemoryStore, MemoryStores
from service.ports import (
    ApplyChunk,
    Batch,
    Catalog,
    Ledger,
    Polled,
    Publisher,
    RecordSink,
    RecordSource,
    StatusLog,
    StorePosition,
    Unavailable,
)


class Crashed(BaseException):
    """The process is gone. No code of the service catches it for good."""


@dataclass(slots=True, kw_only=True)
class Rates:
    """How likely each thing is at one passing of a gate. All zero: a calm world."""

    waits: float = 0.0
    refuses: float = 0.0
    stalls: float = 0.0
    crashes: float = 0.0
    commit_fails: float = 0.0
    publish_fails: float = 0.0


@dataclass(slots=True)
class Weather:
    """What goes for all processes alike."""

    rates: Rates
    database_down: bool = False
    broker_down: bool = False


class Node:
    """A process while it lives. `stalled_until` is an instant of the loop's time: nothing of it goes on before."""

    def __init__(self, member: str, weather: Weather, chance: random.Random, stores: MemoryStores) -> None:
        self.member = member
        self.weather = weather
        self.chance = chance
        self.stores = stores
        self.is_alive = True
        self.stalled_until = 0.0

    async def gate(self) -> None:
        """Here everything may happen."""
        self.check_alive()
        rates, roll = self.weather.rates, self.chance.random()
        if roll < rates.waits:
            await asyncio.sleep(self.chance.choice([0, 0, 0, 0.001, 0.02, 0.3, 2.0]))
        elif roll < rates.waits + rates.stalls:
            self.stall(self.chance.choice([1.0, 5.0, 15.0]))
        elif roll < rates.waits + rates.stalls + rates.crashes:
            self.crash()
        while (left := self.stalled_until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 - may be prolonged
            await asyncio.sleep(left)
        self.check_alive()

    def stall(self, seconds: float) -> None:
        self.stalled_until = max(self.stalled_until, asyncio.get_running_loop().time() + seconds)

    def may_crash(self) -> None:
        """A gate of calls that do not wait."""
        self.check_alive()
        if self.chance.random() < self.weather.rates.crashes:
            self.crash()

    def crash(self) -> None:
        """End here; raises in whoever asked for it."""
        self.die()
        raise Crashed(self.member)

    def die(self) -> None:
        self.is_alive = False
        self.stores.crash()

    def check_alive(self) -> None:
        if not self.is_alive:
            raise Crashed(self.member)


class NodeClock:
    """A machine's own clock: the world's, and how far it is off."""

    def __init__(self, world: HandClock) -> None:
        self.off = timedelta(0)
        self._world = world

    def now(self) -> datetime:
        return self._world.now() + self.off

    def monotonic(self) -> float:
        return self._world.monotonic()


class _Gated:
    """A port whose every call passes the gate and may be refused."""

    def __init__(self, node: Node, target: Any, is_down: Callable[[], bool]) -> None:
        self._node = node
        self._target = target
        self._is_down = is_down

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)
        if not iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._call(lambda: method(*args, **kwargs))

        return call

    async def _call(self, effect: Callable[[], Awaitable[Any]]) -> Any:
        node = self._node
        await node.gate()
        if self._is_down() or node.chance.random() < node.weather.rates.refuses:
            raise Unavailable("the simulation refuses this call")
        result = await effect()
        await node.gate()
        return result


class _GatedLedger(_Gated):
    async def persist(self, batch: Any) -> None:
        node = self._node

        async def commit() -> None:
            if node.chance.random() < node.weather.rates.commit_fails:
                self._target.fail_next = node.chance.choice(["before", "after", "unresolved"])
            await self._target.persist(batch)

        await self._call(commit)


class _GatedPublisher(_Gated):
    async def publish(self, batches: Sequence[Batch], positions: Mapping[str, int], version: int) -> int:
        node = self._node

        async def publish() -> int:
            if node.chance.random() < node.weather.rates.publish_fails:
                self._target._sink.fail_next = node.chance.choice(["before", "after"])
            return cast(int, await self._target.publish(batches, positions, version))

        return cast(int, await self._call(publish))

    async def settle(self, positions: Mapping[str, int], version: int) -> None:
        await self._target.settle(positions, version)

    async def close(self) -> None:
        await self._target.close()


class _GatedSink(_Gated):
    async def open(self, task: int) -> Publisher:
        publisher = await self._call(lambda: self._target.open(task))
        return cast(Publisher, _GatedPublisher(self._node, publisher, self._is_down))


class _GatedSource(_Gated):
    @property
    def assignment(self) -> frozenset[int]:
        return cast(frozenset[int], self._target.assignment)

    async def assignment_changed(self) -> None:
        await self._node.gate()  # before: what was heard and not told would be lost if this call were given up
        await self._target.assignment_changed()

    async def poll(self, task: int, max_records: int, wait_s: float) -> Polled:
        await self._node.gate()
        if self._is_down():
            await asyncio.sleep(wait_s)
            polled = Polled({}, {})
        else:
            polled = await self._target.poll(task, max_records, wait_s)
        await self._node.gate()
        return polled


class _FragileLog:
    """The status log, read in small pieces: a process may die before any of them is taken."""

    def __init__(self, node: Node, broker: MemoryBroker) -> None:
        self._node = node
        self._log = MemoryStatusLog(broker, chunk=5)

    def replay(self, task: int, start: int, at_least: int, apply: ApplyChunk) -> int:
        def take(rows: Sequence[tuple[bytes, bytes | None]], offset: int, end: int) -> None:
            self._node.may_crash()
            apply(rows, offset, end)

        return self._log.replay(task, start, at_least, take)

    def begin(self, task: int) -> int:
        return self._log.begin(task)


class NodeStores:
    """The local disk of a process; it may die before and after any write."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.opened: dict[int, MemoryStore] = {}

    def open(self, task: int) -> "NodeStore":
        self._node.check_alive()
        self.opened[task] = self._node.stores.open(task)
        return NodeStore(self._node, self.opened[task])

    def tasks_on_disk(self) -> frozenset[int]:
        return self._node.stores.tasks_on_disk()


class NodeStore:
    def __init__(self, node: Node, store: MemoryStore) -> None:
        self._node = node
        self._store = store

    @property
    def position(self) -> StorePosition | None:
        return self._store.position

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._store.get_many(keys)

    def apply(
        self, rows: Mapping[bytes, bytes | None], timers: Iterable[tuple[bytes, bytes | None]], position: StorePosition
    ) -> None:
        self._node.may_crash()
        self._store.apply(rows, timers, position)
        self._node.may_crash()

    def timers(self, first: bytes, end: bytes, most: int) -> list[tuple[bytes, bytes]]:
        return self._store.timers(first, end, most)

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        return self._store.rows()

    def wipe(self) -> None:
        self._node.may_crash()
        self._store.wipe()

    def size_bytes(self) -> int:
        return self._store.size_bytes()

    def close(self) -> None:
        self._store.close()


def ledger_of(node: Node, ledger: Ledger) -> Ledger:
    return cast(Ledger, _GatedLedger(node, ledger, lambda: node.weather.database_down))


def catalog_of(node: Node, catalog: Catalog) -> Catalog:
    return cast(Catalog, _Gated(node, catalog, lambda: node.weather.database_down))


def sink_of(node: Node, sink: RecordSink) -> RecordSink:
    return cast(RecordSink, _GatedSink(node, sink, lambda: node.weather.broker_down))


def source_of(node: Node, broker: MemoryBroker) -> RecordSource:
    source = MemorySource(broker, node.member)
    return cast(RecordSource, _GatedSource(node, source, lambda: node.weather.broker_down))


def status_log_of(node: Node, broker: MemoryBroker) -> StatusLog:
    return _FragileLog(node, broker)


def aged(stores: MemoryStores) -> MemoryStores:
    """A copy of a disk, to come back to later."""
    copy = deepcopy(stores)
    copy.crash()
    return copy
