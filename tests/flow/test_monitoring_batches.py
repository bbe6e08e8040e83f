"""Monitoring batches: how a prediction joins one, and what locking and deleting do to rows, numbers and events."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.adapters.memory import MemoryLedger
from service.domain.deployment import BatchPolicy
from service.domain.monitoring_batch import MonitoringBatch
from service.ports import MicroBatch
from tests.builders import ACTUAL_AT, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.world import FlowWorld

IDS = [f"row-{number}" for number in range(24)]


@pytest.fixture
def world(opened: Opened) -> FlowWorld:
    """A deployment with monitoring batches and no policy."""
    return opened(deployment(batch_enabled=True))


def in_batches(world: FlowWorld) -> dict[str, int]:
    """Predictions counted, by name of the batch."""
    names = {batch.id: batch.name for batch in batches(world)} | {"": ""}
    counts: dict[str, int] = {}
    for key, traffic in world.numbers().traffic.items():
        counts[names[key.batch_id]] = counts.get(names[key.batch_id], 0) + traffic.predictions
    return {name: count for name, count in counts.items() if count}


def matched_in(world: FlowWorld, batch: MonitoringBatch) -> int:
    return sum(cell.matched for key, cell in world.numbers().accuracy.items() if key.batch_id == batch.id)


def batches(world: FlowWorld) -> list[MonitoringBatch]:
    ids = {("flights", f"{number:024x}") for number in range(1, 100)}
    return sorted(asyncio.run(world.catalog.batches(ids)).values(), key=lambda batch: batch.id)


# ------------------------------------------------------------------------------------------- joining one


def test_a_name_means_the_batch_that_has_it_now(world: FlowWorld) -> None:
    """A worker that hears of the renamed batch by its rows must not take it for the one of its old name."""
    world.predict(prediction("before", batchName="January"))
    world.settle()
    (january,) = batches(world)
    world.catalog.rename_batch("flights", january.id, "Winter")
    assert world.told(actual("before")).fields["batchId"] == january.id
    anew = world.predicted(prediction("after", batchName="January")).fields["batchId"]
    assert anew != january.id
    assert world.predicted(prediction("winter", batchName="Winter")).fields["batchId"] == january.id
    assert in_batches(world) == {"Winter": 2, "January": 1}


def test_by_its_id(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    status = world.predicted(prediction(batchId=batch.id))
    assert (status.word, status.fields["batchId"]) == ("ACCEPTED", batch.id)
    assert world.told(actual()).fields["batchId"] == batch.id
    assert (in_batches(world), matched_in(world, batch)) == ({"January": 1}, 1)


def test_an_unknown_id_is_refused(world: FlowWorld) -> None:
    status = world.predicted(prediction(batchId="nothing"))
    assert (status.word, status.reason, status.state) == ("UNKNOWN_BATCH", "unknown_batch", b"")
    assert [letter.reason for letter in world.dead_letters()] == ["unknown_batch"]
    assert world.rows() == {}
    assert world.predicted(prediction(batchId="a/b")).word == "UNKNOWN_BATCH"


def test_the_batch_of_another_deployment_is_unknown(opened: Opened) -> None:
    world = opened(deployment(batch_enabled=True), deployment("other", batch_enabled=True))
    batch = world.catalog.open_batch("other", "January")
    assert world.predicted(prediction(batchId=batch.id)).word == "UNKNOWN_BATCH"


def test_by_its_name_which_opens_it(world: FlowWorld) -> None:
    first = world.predicted(prediction("a", batchName="January"))
    assert first.fields["batchId"] == world.predicted(prediction("b", batchName="January")).fields["batchId"]
    assert world.predicted(prediction("c", batchName="February")).fields["batchId"] != first.fields["batchId"]
    assert in_batches(world) == {"January": 2, "February": 1}
    assert sorted(world.batch_events()) == [("February", "CREATED"), ("January", "CREATED")]


def test_one_batch_comes_of_a_name_that_all_tasks_see_at_once(world: FlowWorld) -> None:
    for one in IDS:
        world.predict(prediction(one, batchName="January"))
    statuses = world.settle()
    assert len({status.task for status in statuses}) == 4
    assert len({status.fields["batchId"] for status in statuses}) == 1
    assert world.batch_events() == [("January", "CREATED")]


def test_the_id_comes_before_the_name(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    assert world.predicted(prediction(batchId=batch.id, batchName="February")).fields["batchId"] == batch.id
    assert [found.name for found in batches(world)] == ["January"]


def test_without_a_word_no_batch_is_joined(world: FlowWorld) -> None:
    assert "batchId" not in world.predicted(prediction()).fields
    assert in_batches(world) == {"": 1}


#   event time   Jan 1 22:59   23:01   Jan 2 00:00
#   hourly         22:00       23:00      00:00
#   daily          -------- 1 --------- | -- 2 --


@pytest.mark.parametrize(
    ("policy", "counts"),
    [
        (BatchPolicy.HOURLY, {"2026-01-01T22:00Z": 1, "2026-01-01T23:00Z": 1, "2026-01-02T00:00Z": 1}),
        (BatchPolicy.DAILY, {"2026-01-01": 2, "2026-01-02": 1}),
        (BatchPolicy.NONE, {"": 3}),
    ],
)
def test_by_policy_the_event_time_decides(opened: Opened, policy: BatchPolicy, counts: dict[str, int]) -> None:
    world = opened(deployment(batch_enabled=True, batch_policy=policy))
    for number, at in enumerate([(1, 22, 59), (1, 23, 1), (2, 0, 0)]):
        day, hour, minute = at
        world.predict(prediction(f"row-{number}", at=datetime(2026, 1, day, hour, minute, tzinfo=UTC)))
    world.settle()
    assert in_batches(world) == counts
    assert {name for name, event in world.batch_events() if event == "CREATED"} == counts.keys() - {""}


def test_a_named_batch_comes_before_the_policy(opened: Opened) -> None:
    world = opened(deployment(batch_enabled=True, batch_policy=BatchPolicy.DAILY))
    world.predicted(prediction(batchName="January"))
    assert in_batches(world) == {"January": 1}


# ------------------------------------------------------------------------------------------- locked


def test_a_locked_batch_takes_no_prediction_but_its_rows_go_on(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    world.predicted(prediction(batchId=batch.id))
    world.catalog.lock("flights", batch.id)
    ways: list[dict[str, Any]] = [{"batchId": batch.id}, {"batchName": "January"}]
    for how in ways:
        refused = world.predicted(prediction("late-comer", **how))
        assert (refused.word, refused.reason, refused.state) == ("BATCH_LOCKED", "batch_locked", b"")
    assert [letter.reason for letter in world.dead_letters()] == ["batch_locked"] * 2
    assert world.predicted(prediction(batchId=batch.id)).word == "DUPLICATE"
    assert world.told(actual()).word == "MATCHED"
    assert matched_in(world, batch) == 1
    world.catalog.unlock("flights", batch.id)
    assert world.predicted(prediction("late-comer", batchId=batch.id)).word == "ACCEPTED"
    assert world.batch_events() == [("January", "CREATED"), ("January", "LOCKED"), ("January", "UNLOCKED")]


#   task      compute: batch is open     persist: SettingsMoved     compute again: BATCH_LOCKED     persist
#   API                             lock


def test_a_lock_set_between_compute_and_commit_is_obeyed(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    assert world.predicted(prediction("before", batchId=batch.id)).word == "ACCEPTED"
    commits: list[int] = []
    persist = MemoryLedger.persist

    async def lock_then_persist(ledger: MemoryLedger, micro_batch: MicroBatch) -> None:
        if not commits:
            world.catalog.lock("flights", batch.id)
        commits.append(micro_batch.expected_version)
        await persist(ledger, micro_batch)

    world.ledger.persist = lock_then_persist.__get__(world.ledger)  # type: ignore[method-assign]
    status = world.predicted(prediction(batchId=batch.id))
    assert status.word == "BATCH_LOCKED"
    assert commits[0] == commits[1], "the same micro-batch, computed twice"
    assert in_batches(world) == {"January": 1}


# ------------------------------------------------------------------------------------------- deleted


def test_a_deleted_batch_takes_its_numbers_with_it_in_every_task(world: FlowWorld) -> None:
    gone, kept = (world.catalog.open_batch("flights", name) for name in ("gone", "kept"))
    for number, one in enumerate(IDS):
        world.predict(prediction(one, batchId=(gone, kept)[number % 2].id))
        world.tell(actual(one))
    assert {status.task for status in world.settle()} == {0, 1, 2, 3}
    before = world.numbers()
    world.catalog.delete_batch("flights", gone.id)
    world.settle()
    after = world.numbers()
    assert in_batches(world) == {"kept": 12}
    assert (matched_in(world, gone), matched_in(world, kept)) == (0, 12)
    assert after.traffic.keys() == {key for key in before.traffic if key.batch_id != gone.id}
    assert after.accuracy == {key: cell for key, cell in before.accuracy.items() if key.batch_id != gone.id}
    assert [world.clocks(task)["flights"].deletions_applied for task in range(4)] == [1] * 4
    assert [event for event in world.batch_events() if event[1] == "DELETED"] == [("gone", "DELETED")]
    lost = sum(int(before.traffic[key].outcomes.sum()) for key in before.traffic.keys() - after.traffic.keys())
    assert sum(world.outcomes().values()) == len(world.statuses()) - lost


def test_a_later_actual_changes_the_row_of_a_deleted_batch_and_no_number(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    world.predict(prediction("matched", batchId=batch.id))
    world.tell(actual("matched"))
    world.predict(prediction("open", batchId=batch.id))
    world.settle()
    world.catalog.delete_batch("flights", batch.id)
    world.settle()
    matched = world.told(actual("open"))
    assert (matched.word, matched.reason, matched.fields["revision"]) == ("MATCHED", "deleted", 2)
    corrected = world.told(actual("matched", "on_time", at=ACTUAL_AT + timedelta(hours=1)))
    assert (corrected.word, corrected.reason, corrected.fields["previousActual"]) == ("CORRECTED", "deleted", "late")
    withdrawn = world.told(actual("matched", None, at=ACTUAL_AT + timedelta(hours=2)))
    assert (withdrawn.word, withdrawn.reason) == ("WITHDRAWN", "deleted")
    assert (in_batches(world), world.accuracy().matched, world.accuracy().confusion) == ({}, 0, {})


def test_a_later_prediction_is_refused_but_a_repeated_one_is_a_duplicate(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    world.predicted(prediction(batchId=batch.id))
    world.catalog.delete_batch("flights", batch.id)
    world.settle()
    refused = world.predicted(prediction("new", batchId=batch.id))
    assert (refused.word, refused.reason) == ("BATCH_DELETED", "batch_deleted")
    assert world.predicted(prediction(batchId=batch.id)).word == "DUPLICATE"
    assert [letter.reason for letter in world.dead_letters()] == ["batch_deleted"]


@pytest.mark.parametrize("between", ["nothing", "an actual", "a prediction by ID"])
@pytest.mark.parametrize("by", ["name", "policy"])
def test_by_name_or_policy_a_new_batch_takes_the_place_of_a_deleted_one(opened: Opened, by: str, between: str) -> None:
    policy = BatchPolicy.DAILY if by == "policy" else BatchPolicy.NONE
    world = opened(deployment(batch_enabled=True, batch_policy=policy))
    how: dict[str, Any] = {} if by == "policy" else {"batchName": "January"}
    first = world.predicted(prediction(**how)).fields["batchId"]
    world.catalog.delete_batch("flights", first)
    world.settle()
    if between == "an actual":
        assert world.told(actual()).reason == "deleted"
    elif between == "a prediction by ID":
        assert world.predicted(prediction("other", batchId=first)).word == "BATCH_DELETED"
    status = world.predicted(prediction("new", **how))
    assert status.word == "ACCEPTED"
    assert status.fields["batchId"] != first
    assert len(batches(world)) == 2


def test_a_deletion_between_compute_and_commit_is_obeyed(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    commits: list[int] = []
    persist = MemoryLedger.persist

    async def delete_then_persist(ledger: MemoryLedger, micro_batch: MicroBatch) -> None:
        if micro_batch.batch_versions and not commits:
            commits.append(1)
            world.catalog.delete_batch("flights", batch.id)
        await persist(ledger, micro_batch)

    world.ledger.persist = delete_then_persist.__get__(world.ledger)  # type: ignore[method-assign]
    assert world.predicted(prediction(batchId=batch.id)).word == "BATCH_DELETED"
    assert in_batches(world) == {}


def test_a_deletion_is_applied_once(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    world.predicted(prediction(batchId=batch.id))
    world.catalog.delete_batch("flights", batch.id)
    world.settle()
    commits = world.ledger.commits
    world.told(actual())
    world.wait(timedelta(seconds=10))
    assert world.ledger.commits == commits + 1


# ------------------------------------------------------------------------------------------- events


def test_the_events_of_a_batch_come_once_and_in_order(world: FlowWorld) -> None:
    for name in ("January", "February", "March"):
        batch = world.catalog.open_batch("flights", name)
        world.catalog.lock("flights", batch.id)
        world.settle()
        world.catalog.unlock("flights", batch.id)
        world.catalog.delete_batch("flights", batch.id)
    world.settle()
    world.wait(timedelta(seconds=5))
    for name in ("January", "February", "March"):
        assert [event for found, event in world.batch_events() if found == name] == [
            "CREATED",
            "LOCKED",
            "UNLOCKED",
            "DELETED",
        ]
    assert world.catalog.outbox == {}


def test_batch_events_are_keyed_by_their_batch_and_published_by_its_home(world: FlowWorld) -> None:
    batch = world.catalog.open_batch("flights", "January")
    world.settle()
    home = world.home(f"flights/{batch.id}")
    (record,) = world.broker.log("batches", home).records
    assert record.key == f"flights/{batch.id}".encode()
    assert world.statuses() == []
