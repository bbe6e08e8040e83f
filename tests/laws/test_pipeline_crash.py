"""Crash: whatever fails, whoever takes over, with or without a disk, the input ends as if nothing had happened."""

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from hypothesis import event, given, settings
from hypothesis import strategies as st

from service.adapters.memory import PersistFault, PublishFault
from tests.flow.input import ACTUALS, CHANGED, ODD, Sent, facts, send, world_of_rows
from tests.flow.invariants import check
from tests.flow.world import FlowWorld

BOTH = (0, 1)


class Send(NamedTuple):
    records: int


class Go(NamedTuple):
    """Every task takes so many steps."""

    steps: int


class CommitFails(NamedTuple):
    fault: PersistFault


class PublishFails(NamedTuple):
    fault: PublishFault


class Crash(NamedTuple):
    """The worker is killed, and one of this name takes over."""

    by: str
    disk_is_lost: bool


class Zombie(NamedTuple):
    """The group moves the tasks to one of this name; the former owner hears of it so many steps later."""

    by: str
    steps: int


class Move(NamedTuple):
    """The former owner drains first."""

    by: str


class Compact(NamedTuple):
    pass


class BatchChanges(NamedTuple):
    pass


Act = Send | Go | CommitFails | PublishFails | Crash | Zombie | Move | Compact | BatchChanges
NAMES = st.sampled_from(["one", "two", "three"])
GO = st.builds(Go, st.integers(1, 25))
ACTS = st.one_of(
    st.builds(Send, st.integers(1, 5)),
    GO,
    st.builds(Send, st.integers(1, 5)),
    GO,
    st.builds(CommitFails, st.sampled_from(["before", "after", "unresolved"])),
    st.builds(PublishFails, st.sampled_from(["before", "after"])),
    st.builds(Crash, NAMES, st.booleans()),
    st.builds(Zombie, NAMES, st.integers(0, 30)),
    st.builds(Move, NAMES),
    st.builds(Compact),
    st.builds(BatchChanges),
)
RECORDS = st.lists(CHANGED | ACTUALS | CHANGED | ACTUALS | ODD, min_size=4, max_size=30)


class Play:
    """Acts one after the other; what is left to send goes out at the end."""

    def __init__(self, world: FlowWorld, records: Sequence[Sent]) -> None:
        self.world = world
        self.owner = "one"
        self.waiting = list(records)
        self.changes = 0

    def act(self, act: Act) -> None:  # noqa: PLR0912
        world = self.world
        match act:
            case Send(records):
                self.send(records)
            case Go(steps):
                world.steps(steps)
            case CommitFails(fault):
                world.ledger.fail_next = fault
            case PublishFails(fault):
                world.sink.fail_next = fault
            case Crash(by, disk_is_lost):
                world.kill(self.owner)
                if disk_is_lost:
                    world.lose_disk(self.owner)
                self.take_over(by)
            case Zombie(by, steps):
                if by != self.owner:
                    former = self.owner
                    self.take_over(by)
                    world.steps(steps)
                    world.kill(former)
            case Move(by):
                if by != self.owner:
                    world.stop(self.owner)
                    self.take_over(by)
            case Compact():
                world.compact()
            case BatchChanges():
                self.change_batch()

    def send(self, count: int) -> None:
        for record in self.waiting[:count]:
            send(self.world, record)
        del self.waiting[:count]

    def take_over(self, by: str) -> None:
        self.world.start(by, BOTH)
        self.owner = by

    def change_batch(self) -> None:
        self.changes += 1
        batch = self.world.catalog.open_batch("flights", f"other-{self.changes}")
        self.world.catalog.lock("flights", batch.id)

    def end(self) -> None:
        self.send(len(self.waiting))
        while self.changes < 12:
            self.change_batch()
        check(self.world)


@settings(max_examples=120)
@given(RECORDS, st.lists(ACTS, min_size=6, max_size=30))
def test_every_record_counts_once_whatever_happens(records: list[Sent], acts: list[Act]) -> None:
    with closing(world_of_rows()) as calm:
        Play(calm, records).end()
        undisturbed = facts(calm)
    with closing(world_of_rows()) as world:
        play = Play(world, records)
        for act in acts:
            play.act(act)
            event(type(act).__name__)
        play.end()
        assert facts(world) == undisturbed
