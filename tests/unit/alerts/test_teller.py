"""A crash at any moment loses nothing, and what comes again does not turn back what was told."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.alerts.flaps import FlapSpec
from service.alerts.memory import TableMemory
from service.alerts.teller import Record, Teller
from service.alerts.webhook import Delivery
from service.telemetry import Telemetry
from service.wire.notification import Notification, Source

_TELEMETRY = Telemetry(CollectorRegistry())
SPEC = FlapSpec(window=10.0, longest_hold=60.0)


class Crash(Exception):
    pass


class Table:
    """The changelog, which outlives the process, and what a process has read of it."""

    def __init__(self, log: dict[bytes, bytes]) -> None:
        self.data = dict(log)
        self.changelog_topic = self

    def get_topic_name(self) -> str:
        return "changelog"


class World:
    """Effects in order; the one numbered `crash_at` does not happen, and the process ends there."""

    def __init__(self, crashes: Sequence[int]) -> None:
        self.log: dict[bytes, bytes] = {}
        self.told: list[Notification] = []
        self.now = 0.0
        self.committed = 0
        self._crashes = list(crashes)
        self._effects = 0

    def effect(self) -> None:
        self._effects += 1
        if self._crashes and self._effects > self._crashes[0]:
            del self._crashes[0]
            self._effects = 0
            raise Crash

    async def write(self, topic: str, *, key: bytes, value: bytes | None, **_: Any) -> None:
        self.effect()
        if value is None:
            self.log.pop(key, None)
        else:
            self.log[key] = value

    async def deliver(self, notification: Notification, stop: asyncio.Event) -> Delivery:
        self.effect()
        self.told.append(notification)
        return Delivery(result="delivered", status=200, attempts=1)

    def process(self) -> Teller:
        write: Any = self.write
        memory = TableMemory(Table(self.log), write)
        memory.load({0})
        world: Any = self
        return Teller(
            spec=SPEC,
            wanted=None,
            memory=memory,
            webhook=world,
            dead_letters=world,
            telemetry=_TELEMETRY,
            epoch=lambda: self.now,
        )

    @property
    def known(self) -> str:
        """What a receiver knows that drops repeats."""
        return list({told.id: told for told in self.told}.values())[-1].event


async def live(steps: Sequence[tuple[str, int]], crashes: Sequence[int], down: int) -> World:
    world, stop = World(crashes), asyncio.Event()
    begins, moment = [], 0
    for _, pause in steps:
        moment += pause
        begins.append(moment)
    teller = world.process()
    while True:
        try:
            while world.committed < len(steps):
                number = world.committed
                world.now = max(world.now, begins[number])
                for thing in teller.due():
                    await teller.look(thing, stop)
                value = b'{"deploymentId":"d","batchId":"b","event":"%s"}' % steps[number][0].encode()
                await teller.take(Record(Source("t", 0, number, number), b"d/b", value), stop)
                world.effect()  # an offset is committed after the step, and may be lost
                world.committed += 1
            world.now += SPEC.window
            for thing in teller.due():
                await teller.look(thing, stop)
            return world
        except Crash:
            world.now += down
            teller = world.process()


_steps = st.lists(st.tuples(st.sampled_from(["LOCKED", "UNLOCKED"]), st.integers(0, 15)), min_size=1, max_size=12)


@given(_steps, st.lists(st.integers(0, 12), max_size=4), st.sampled_from([0, 9, 30]))
def test_what_a_receiver_knows_at_the_end_is_how_it_is(
    steps: list[tuple[str, int]], crashes: list[int], down: int
) -> None:
    world = asyncio.run(live(steps, crashes, down))
    assert world.known == steps[-1][0]
    assert not [key for key in world.log if b"done" not in key]
    bodies: dict[str, set[tuple[str, int]]] = {}
    for told in world.told:
        bodies.setdefault(told.id, set()).add((told.event, told.changes))
    assert all(len(one) == 1 for one in bodies.values())


@given(_steps)
def test_without_a_crash_nothing_is_told_twice(steps: list[tuple[str, int]]) -> None:
    world = asyncio.run(live(steps, [], 0))
    assert len({told.id for told in world.told}) == len(world.told)
