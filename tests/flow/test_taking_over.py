"""Tasks that change hands: after a stop, a crash at any effect, a lost or stale disk, and with a zombie still running.

effects of a micro-batch      persist --- store --- publish
what a crash leaves behind      |           |          |
  before persist                -           -          -       the records are read again
  after persist                 x           -          -       slot published, store replayed
  after store                   x           x          -       slot published
  after publish                 x           x          x       nothing to mend
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from service.adapters.memory import PersistFault, PublishFault
from service.pipeline.task import Replaced
from service.ports import LedgerMismatch, Topic
from tests.builders import ASSOCIATION_ID, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.published import words
from tests.flow.world import FlowWorld

ALL = range(4)
IDS = [f"row-{number}" for number in range(20)]


def filled(world: FlowWorld) -> FlowWorld:
    for number, one in enumerate(IDS):
        world.predict(prediction(one))
        if number % 2:
            world.tell(actual(one))
    world.tell(actual("early"))
    world.settle()
    return world


def goes_on(world: FlowWorld) -> None:
    """Every open row can still be matched, by whoever owns it now."""
    for one in IDS:
        world.tell(actual(one))
    answers = words(world.settle())
    assert (answers.count("MATCHED"), answers.count("DUPLICATE")) == (10, 10)
    assert world.confusion() == {(1, 1): 20}


def test_a_stopped_worker_leaves_everything_to_the_next(world: FlowWorld) -> None:
    filled(world)
    world.stop("one")
    world.start("two", ALL)
    goes_on(world)


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_a_worker_that_comes_back_goes_on(world: FlowWorld, disk: str) -> None:
    filled(world)
    before, timed = world.states(), world.timed()
    world.kill("one")
    if disk == "lost":
        world.lose_disk("one")
    world.start("one", ALL)
    world.settle()
    assert world.states() == before
    assert world.timed() >= {key for key in timed if key in before}
    goes_on(world)


#   worker one   v1 v2 .                 . v5
#   worker two         . v3 v4 (killed) .
#   disk of one  v1 v2                     v2 + replay of v3, v4


def test_a_disk_that_missed_some_micro_batches_catches_up(world: FlowWorld) -> None:
    filled(world)
    world.kill("one")
    world.start("two", ALL)
    for one in IDS:
        world.tell(actual(one, at=1_767_277_000.5))
        world.settle()
    states = world.states()
    world.kill("two")
    world.start("one", ALL)
    world.settle()
    assert world.states() == states


#   worker one   v1 (row)  v2 (a dead letter: no status)  .                .
#   worker two                                            . v3 (the actual)
#   disk of one  what it remembers of the status log after v2 must not reach beyond v1's status


def test_a_disk_whose_last_micro_batch_said_nothing_misses_nothing(opened: Opened) -> None:
    world = opened(deployment(), partitions=1)
    world.predicted(prediction())
    for _ in range(3):
        world.predict(b"?")
        world.settle()
    world.kill("one")
    world.start("two", [0])
    world.told(actual())
    states = world.states()
    world.kill("two")
    world.start("one", [0])
    world.settle()
    assert world.states() == states


def test_a_disk_that_is_older_than_tombstones_live_is_not_trusted(world: FlowWorld) -> None:
    """Whatever is in it may have ended long ago: a ghost that no tombstone will ever remove."""
    filled(world)
    world.kill("one")
    disk = world._disks["one"].open(world.home(ASSOCIATION_ID))
    disk._disk.entries[b"flights/ghost"] = next(iter(disk.rows()))[1]
    disk.close()
    world.wait(timedelta(days=3, hours=13))
    world.start("one", ALL)
    world.settle()
    assert b"flights/ghost" not in world.states()
    goes_on(world)


def test_a_disk_of_another_life_of_the_database_is_not_trusted(world: FlowWorld) -> None:
    filled(world)
    world.kill("one")
    for task in ALL:
        disk = world._disks["one"].open(task)
        position = disk.position
        assert position is not None
        disk.apply({b"flights/ghost": b"?"}, (), position._replace(incarnation="other"))
        disk.close()
    world.start("one", ALL)
    world.settle()
    assert b"flights/ghost" not in world.states()
    goes_on(world)


def test_a_disk_that_is_ahead_of_the_ledger_is_not_trusted(world: FlowWorld) -> None:
    filled(world)
    world.kill("one")
    for task in ALL:
        disk = world._disks["one"].open(task)
        position = disk.position
        assert position is not None
        disk.apply({b"flights/ghost": b"?"}, (), position._replace(version=position.version + 1))
        disk.close()
    world.start("one", ALL)
    world.settle()
    assert b"flights/ghost" not in world.states()


def test_a_disk_from_before_the_status_log_begins_is_not_trusted(opened: Opened) -> None:
    world = opened(deployment(), partitions=1)
    world.predicted(prediction("ghost"))
    world.kill("one")
    world.start("two", [0])
    world.predicted(prediction("row"))
    world.predicted(prediction("row"))
    world.compact()
    world.kill("two")
    world.broker.log(Topic.STATUS, 0).truncate(2)
    world.start("one", [0])
    world.settle()
    assert world.rows().keys() == {"flights/row"}
    # the ghost is still open for the ledger: what retention removed can not be restored
    assert world.conservation_error() == 1
    world.unchecked = True


# ------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("fault", ["before", "after", "unresolved"])
def test_a_commit_that_fails_is_repeated_and_counts_once(world: FlowWorld, fault: PersistFault) -> None:
    world.ledger.fail_next = fault
    assert world.predicted(prediction()).word == "ACCEPTED"
    assert world.told(actual()).word == "MATCHED"
    assert world.confusion() == {(1, 1): 1}
    assert world.workers["one"].metric("database_up") == 1


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_publish_in_doubt_is_out_once(world: FlowWorld, fault: PublishFault) -> None:
    world.sink.fail_next = fault
    world.predict(prediction(prediction="early"))
    world.predict(prediction())
    batch = world.catalog.open_batch("flights", "January")
    assert sorted(words(world.settle())) == ["ACCEPTED", "INVALID"]
    assert len(world.dead_letters()) == 1
    assert world.batch_events() == [("January", "CREATED")]
    assert batch.version == 1
    assert world.workers["one"].metric("takeovers_total", result="unavailable") == 1


def test_a_micro_batch_is_never_overwritten_before_it_is_out(world: FlowWorld) -> None:
    """The next micro-batch is computed while the one before is being published, and commits only when that is out."""
    world.predict(prediction())
    world.sink.fail_next = "before"
    world.steps(4)
    for number in range(10):
        world.predict(prediction(f"row-{number}", prediction={"late": 0.5}), partition=world.home(ASSOCIATION_ID))
        world.steps(1)
    world.settle()
    assert world.outcomes() == {"ACCEPTED": 11}


@pytest.mark.parametrize("store", ["kept", "lost"])
@pytest.mark.parametrize("steps", range(14))
def test_a_crash_after_any_step_loses_nothing_and_repeats_nothing(opened: Opened, steps: int, store: str) -> None:
    world = opened(deployment(), partitions=1)
    world.predicted(prediction("before"))
    world.predict(prediction())
    world.predict(b"?")
    world.tell(actual())
    world.tell(actual("before"))
    world.steps(steps)
    world.kill("one")
    if store == "lost":
        world.lose_disk("one")
    world.start("one", [0])
    world.settle()
    assert sorted(words(world.statuses())) == ["ACCEPTED", "ACCEPTED", "MATCHED", "MATCHED"]
    assert world.confusion() == {(1, 1): 2}
    assert len(world.dead_letters()) == 1


#   one   |--------- believes that it owns all ---------|   (nobody has told it)
#   two            |------------- owns all ---------------------


def test_a_zombie_changes_nothing(world: FlowWorld) -> None:
    filled(world)
    world.start("two", ALL)
    for one in IDS:
        world.tell(actual(one))
        world.steps(2)
    world.broker.assign("one", ())
    world.settle()
    assert world.confusion() == {(1, 1): 20}


def test_two_workers_share_and_hand_over(opened: Opened) -> None:
    world = opened(deployment(), started=False)
    world.start("one", [0, 1])
    world.start("two", [2, 3])
    filled(world)
    world.broker.assign("one", [])
    world.broker.assign("two", ALL)
    goes_on(world)
    assert world.workers["one"].supervisor.tasks == frozenset()
    assert world.workers["two"].supervisor.restored


# ------------------------------------------------------------------------------------------- what needs a person


def test_a_log_and_a_ledger_that_do_not_belong_together_stop_the_worker(opened: Opened) -> None:
    world = opened(deployment(), partitions=1)
    for number in range(3):
        world.predicted(prediction(f"row-{number}"))
    world.kill("one")
    world.broker.commit(0, [], {}, version=1)
    world.start("one", [0])
    with pytest.raises(LedgerMismatch, match="version 1 was published, but the ledger stands at 3"):
        world.wait(timedelta(seconds=40))
        world.raise_failures()
    world.unchecked = True
    world.workers.clear()


def test_records_that_retention_took_before_they_were_read_stop_the_worker(opened: Opened) -> None:
    world = opened(deployment(), partitions=1)
    world.predicted(prediction("row"))
    world.kill("one")
    for number in range(3):
        world.predict(prediction(f"row-{number}"))
    world.broker.log(Topic.PREDICTIONS, 0).truncate(3)
    world.start("one", [0])
    with pytest.raises(LedgerMismatch, match=r"predictions/0: offset 1 is outside the log \[3, 4\]"):
        world.wait(timedelta(seconds=1))
        world.raise_failures()
    world.unchecked = True
    world.workers.clear()


def test_a_second_process_of_one_name_ends_the_first(world: FlowWorld) -> None:
    filled(world)
    first = world.workers["one"]
    world.start("one", ALL)
    world.predict(prediction())
    world.wait(timedelta(seconds=5))
    assert isinstance(first.running.exception(), Replaced)
    world.settle()
    assert not world.workers["one"].running.done()


@pytest.mark.parametrize(("found", "ends"), [(["gone", "gone"], True), (["gone", "", "gone", ""], False)])
def test_topics_that_do_not_fit_any_more(opened: Opened, found: list[str], ends: bool) -> None:
    """Found twice in a row ends the worker; once may be a broker that does not know all of its topics yet."""
    world = opened(deployment())

    async def check_fit() -> None:
        if found and (problem := found.pop(0)):
            raise LedgerMismatch(problem)

    supervisor = world.workers["one"].supervisor
    supervisor._world = replace(supervisor._world, check_fit=check_fit)
    world.wait(timedelta(seconds=30))
    assert not found
    if ends:
        with pytest.raises(LedgerMismatch, match="gone"):
            world.raise_failures()
        world.unchecked = True
        world.workers.clear()
    else:
        assert world.predicted(prediction()).word == "ACCEPTED"


def test_a_broker_that_tells_old_offsets_for_a_while(opened: Opened) -> None:
    """It has just come up, and has not read all of its own log yet."""
    world = opened(deployment(), partitions=1)
    for number in range(4):
        world.predicted(prediction(f"row-{number}"))
    world.kill("one")
    told, real = [1, 2, 1], world.sink.published_version

    async def published_version(task: int) -> int | None:
        return told.pop() if told else await real(task)

    world.sink.published_version = published_version  # type: ignore[method-assign]
    world.start("two", [0])
    assert world.predicted(prediction("row-0")).word == "DUPLICATE"
    assert not told
