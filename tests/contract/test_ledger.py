"""`Ledger`: one transaction per micro-batch, by the task's present owner only.

A micro-batch that is persisted twice counts once: under the owner's own epoch, a ledger that is one version further
than expected can only hold this very micro-batch, since an owner persists one at a time. So the second call returns as
the first one did. That is how a commit in doubt is resolved, and why the same call may be repeated after `Unavailable`.
"""

from dataclasses import replace
from datetime import date
from uuid import UUID

import numpy as np
import pytest

from service.domain.flood import Flood
from service.domain.ids import murmur2
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.domain.watermark import DeploymentClock, InputClock
from service.ports import (
    AccuracyCellKey,
    Checkpoint,
    ClockRow,
    Deletions,
    Fenced,
    MicroBatch,
    Owner,
    PredictionCellKey,
    SettingsMoved,
)
from tests.builders import after, deployment
from tests.contract.worlds import LedgerWorld

TASK = 1
ONE = Owner(instance="worker-1", process=UUID(int=1))
OTHER = Owner(instance="worker-2", process=UUID(int=2))
HOUR = 1_767_261_600_000_000
DAY = (date(2026, 1, 2) - date(1970, 1, 1)).days
TRAFFIC_KEY = PredictionCellKey("flights", "model-1", "", HOUR, "")
ACCURACY_KEY = AccuracyCellKey("flights", "model-1", "", HOUR, "", DAY)
TRAFFIC = Traffic(
    predictions=3,
    first_at=HOUR + 1,
    last_at=HOUR + 3_599_999_999,
    last_due=HOUR + 9_999_999_999,
    outcomes=np.array([3, 0, 1], dtype=np.int64),
    features=np.array([0, 2, 1, (1 << 62)], dtype=np.int64),
)
ACCURACY = Accuracy(
    matched=2,
    error=-(10**30),
    absolute_error=10**218 + 1,
    squared_error=3,
    actual=-1,
    actual_square=10**230,
    log_loss_rows=2,
    log_loss=123_456_789_012_345_678_901,
    confusion={0: 1, 1025: 1},
)
CLOCK = ClockRow(
    clock=DeploymentClock(
        predictions=InputClock(at=HOUR + 5, stood_at=HOUR + 1_234_567, silent_since=HOUR + 1_234_566),
        actuals=InputClock(at=HOUR + 4, stood_at=HOUR + 7, silent_since=HOUR + 6),
        watermark=HOUR - 600_000_000,
    ),
    predictions_received=3,
    actuals_received=2,
    dispositions={"ACTUAL_DUPLICATE": 1},
    deletions_applied=0,
    has_strays=True,
    rolled_until=HOUR - 86_400_000_000,
    dropped_until=HOUR - 2 * 86_400_000_000,
)


def full(checkpoint: Checkpoint) -> MicroBatch:
    return after(
        checkpoint,
        seq=17,
        offsets={"predictions": 3, "actuals": 2},
        origins={"predictions/0": 41},
        slot=b"\x00slot\xff",
        prediction_cells={TRAFFIC_KEY: TRAFFIC},
        accuracy_cells={ACCURACY_KEY: ACCURACY},
        clocks={"flights": CLOCK},
        submissions={("s-1", "MATCHED"): 2, ("s-1", "INVALID"): 1},
    )


def same_traffic(one: Traffic, other: Traffic) -> bool:
    return (
        (one.predictions, one.first_at, one.last_at, one.last_due)
        == (other.predictions, other.first_at, other.last_at, other.last_due)
        and np.array_equal(one.outcomes, other.outcomes)
        and np.array_equal(one.features, other.features)
    )


@pytest.fixture
async def mine(world: LedgerWorld) -> Checkpoint:
    """The task as its owner has taken it over, in a database that knows one deployment."""
    await world.put(deployment())
    return await world.ledger.take_over(TASK, ONE)


# ------------------------------------------------------------------------------------------- ownership


async def test_a_new_task_starts_at_nothing(world: LedgerWorld) -> None:
    checkpoint = await world.ledger.take_over(TASK, ONE)
    assert (checkpoint.version, checkpoint.seq, checkpoint.offsets, checkpoint.origins) == (0, 0, {}, {})
    assert (checkpoint.task, checkpoint.owner, checkpoint.slot) == (TASK, ONE, b"")


async def test_taking_over_raises_the_epoch_and_keeps_the_rest(world: LedgerWorld, mine: Checkpoint) -> None:
    await world.ledger.persist(full(mine))
    theirs = await world.ledger.take_over(TASK, OTHER)
    assert theirs.epoch == mine.epoch + 1
    assert (theirs.owner, theirs.version, theirs.seq, theirs.slot) == (OTHER, 1, 17, b"\x00slot\xff")
    assert (theirs.offsets, theirs.origins) == ({"predictions": 3, "actuals": 2}, {"predictions/0": 41})
    assert theirs.incarnation == mine.incarnation


async def test_a_flood_is_kept_until_a_person_resumes(world: LedgerWorld, mine: Checkpoint) -> None:
    """What a micro-batch does not say of it stays, so that none can undo what the person did."""
    assert mine.flood == Flood()
    flood = Flood(runs={"predictions": 5_001, "actuals": 2}, paused_by="predictions")
    await world.ledger.persist(after(mine, flood=flood))
    assert (await world.ledger.take_over(TASK, OTHER)).flood == flood
    again = await world.ledger.take_over(TASK, ONE)
    await world.ledger.persist(after(again))
    assert (await world.ledger.read(TASK)).flood == flood

    assert await world.ledger.resume(TASK + 1) == {}
    assert await world.ledger.resume(TASK) == {TASK: flood}
    assert await world.ledger.resume(TASK) == {}
    await world.ledger.persist(after(await world.ledger.read(TASK)))
    assert (await world.ledger.read(TASK)).flood == Flood()


async def test_every_flooded_task_is_resumed_and_no_run_of_another_ends(world: LedgerWorld, mine: Checkpoint) -> None:
    flood, run = Flood(runs={"rekey": 9}, paused_by="rekey"), Flood(runs={"actuals": 4})
    other, third = await world.ledger.take_over(0, ONE), await world.ledger.take_over(2, ONE)
    await world.ledger.persist(after(mine, flood=flood))
    await world.ledger.persist(after(other, flood=flood))
    await world.ledger.persist(after(third, flood=run))
    assert await world.ledger.resume(None) == {0: flood, TASK: flood}
    assert (await world.ledger.read(2)).flood == run


async def test_a_flood_is_written_with_its_micro_batch_or_not_at_all(world: LedgerWorld, mine: Checkpoint) -> None:
    flooded = after(mine, flood=Flood(runs={"actuals": 9}, paused_by="actuals"))
    await world.ledger.take_over(TASK, OTHER)
    with pytest.raises(Fenced):
        await world.ledger.persist(flooded)
    assert (await world.ledger.read(TASK)).flood == Flood()


async def test_reading_changes_nothing(world: LedgerWorld, mine: Checkpoint) -> None:
    assert await world.ledger.read(TASK) == mine
    assert await world.ledger.read(TASK) == mine


async def test_tasks_have_epochs_of_their_own(world: LedgerWorld, mine: Checkpoint) -> None:
    await world.ledger.take_over(0, OTHER)
    assert await world.ledger.read(TASK) == mine


async def test_a_former_owner_is_fenced_and_writes_nothing(world: LedgerWorld, mine: Checkpoint) -> None:
    theirs = await world.ledger.take_over(TASK, OTHER)
    with pytest.raises(Fenced):
        await world.ledger.persist(full(mine))
    assert await world.ledger.read(TASK) == theirs
    assert await world.ledger.clocks(TASK) == {}
    assert await world.ledger.prediction_cells(TASK, [TRAFFIC_KEY]) == {}


async def test_a_former_owner_is_fenced_even_when_its_micro_batch_was_committed(
    world: LedgerWorld, mine: Checkpoint
) -> None:
    await world.ledger.persist(full(mine))
    await world.ledger.take_over(TASK, OTHER)
    with pytest.raises(Fenced):
        await world.ledger.persist(full(mine))


# ------------------------------------------------------------------------------------------- one transaction


async def test_everything_of_a_micro_batch_is_there_afterwards(world: LedgerWorld, mine: Checkpoint) -> None:
    ledger = world.ledger
    await ledger.persist(full(mine))
    stored = await ledger.read(TASK)
    assert (stored.epoch, stored.version, stored.seq) == (mine.epoch, 1, 17)
    assert (stored.offsets, stored.origins) == ({"predictions": 3, "actuals": 2}, {"predictions/0": 41})
    assert (stored.slot, stored.owner) == (b"\x00slot\xff", ONE)
    assert await ledger.clocks(TASK) == {"flights": CLOCK}
    assert same_traffic((await ledger.prediction_cells(TASK, [TRAFFIC_KEY]))[TRAFFIC_KEY], TRAFFIC)
    assert await ledger.accuracy_cells(TASK, [ACCURACY_KEY]) == {ACCURACY_KEY: ACCURACY}
    assert await ledger.submissions(TASK, [("s-1", "MATCHED"), ("s-1", "INVALID"), ("s-1", "EARLY")]) == {
        ("s-1", "MATCHED"): 2,
        ("s-1", "INVALID"): 1,
    }


async def test_versions_go_up_by_one(world: LedgerWorld, mine: Checkpoint) -> None:
    for version in range(3):
        checkpoint = await world.ledger.read(TASK)
        assert checkpoint.version == version
        await world.ledger.persist(after(checkpoint, slot=b"%d" % version))
    assert (await world.ledger.read(TASK)).slot == b"2"


async def test_the_same_micro_batch_twice_counts_once(world: LedgerWorld, mine: Checkpoint) -> None:
    await world.ledger.persist(full(mine))
    stored = await world.ledger.read(TASK)
    await world.ledger.persist(full(mine))
    assert await world.ledger.read(TASK) == stored


async def test_a_committed_micro_batch_stays_committed_when_a_setting_moves_afterwards(
    world: LedgerWorld, mine: Checkpoint
) -> None:
    known = await world.put(deployment())
    batch = replace(full(mine), deployment_versions={known.id: known.version})
    await world.ledger.persist(batch)
    await world.put(replace(known, threshold=0.7))
    await world.ledger.persist(batch)
    assert (await world.ledger.read(TASK)).version == 1


@pytest.mark.parametrize("expected", [0, 3])
async def test_a_version_that_can_not_be_is_refused(world: LedgerWorld, mine: Checkpoint, expected: int) -> None:
    await world.ledger.persist(after(mine))
    await world.ledger.persist(after(await world.ledger.read(TASK)))
    stored = await world.ledger.read(TASK)
    with pytest.raises(Fenced):
        await world.ledger.persist(after(replace(stored, version=expected), slot=b"wrong"))
    assert await world.ledger.read(TASK) == stored


async def test_statistics_are_absolute(world: LedgerWorld, mine: Checkpoint) -> None:
    await world.ledger.persist(full(mine))
    less = Traffic(predictions=1, first_at=HOUR, last_at=HOUR, outcomes=np.array([1], dtype=np.int64))
    none_left = Accuracy()
    changed = after(
        await world.ledger.read(TASK),
        prediction_cells={TRAFFIC_KEY: less},
        accuracy_cells={ACCURACY_KEY: none_left},
        clocks={"flights": replace(CLOCK, predictions_received=4)},
        submissions={("s-1", "MATCHED"): 5},
    )
    await world.ledger.persist(changed)
    assert same_traffic((await world.ledger.prediction_cells(TASK, [TRAFFIC_KEY]))[TRAFFIC_KEY], less)
    assert await world.ledger.accuracy_cells(TASK, [ACCURACY_KEY]) == {ACCURACY_KEY: none_left}
    assert (await world.ledger.clocks(TASK))["flights"].predictions_received == 4
    assert await world.ledger.submissions(TASK, [("s-1", "MATCHED")]) == {("s-1", "MATCHED"): 5}


async def test_what_was_given_and_what_was_read_can_be_changed_freely(world: LedgerWorld, mine: Checkpoint) -> None:
    given = Traffic(predictions=1, outcomes=np.array([1], dtype=np.int64))
    await world.ledger.persist(after(mine, prediction_cells={TRAFFIC_KEY: given}))
    given.outcomes[0] = 99
    read = (await world.ledger.prediction_cells(TASK, [TRAFFIC_KEY]))[TRAFFIC_KEY]
    read.predictions = 99
    again = (await world.ledger.prediction_cells(TASK, [TRAFFIC_KEY]))[TRAFFIC_KEY]
    assert (again.predictions, again.outcomes.tolist()) == (1, [1])


async def test_a_clock_that_heard_nothing_comes_back_so(world: LedgerWorld, mine: Checkpoint) -> None:
    await world.ledger.persist(after(mine, clocks={"flights": ClockRow()}))
    assert await world.ledger.clocks(TASK) == {"flights": ClockRow()}


async def test_a_deployment_with_strays_is_held_by_the_least_clock_of_the_other_tasks(
    world: LedgerWorld, mine: Checkpoint
) -> None:
    ledger = world.ledger

    def clock(predictions: int, actuals: int, has_strays: bool = False) -> ClockRow:
        inputs = [InputClock(at=HOUR + at, stood_at=HOUR, silent_since=HOUR) for at in (predictions, actuals)]
        return ClockRow(clock=DeploymentClock(predictions=inputs[0], actuals=inputs[1]), has_strays=has_strays)

    await ledger.persist(after(mine, clocks={"flights": clock(1, 2), "taxis": clock(1, 1)}))
    assert await ledger.held_at(TASK) == {}
    for task, rows in enumerate([(clock(9, 7, True), clock(3, 3)), (clock(8, 5), ClockRow(has_strays=True))]):
        other = await ledger.take_over(TASK + 1 + task, ONE)
        clocks = dict(zip(("flights", "taxis"), rows, strict=True))
        await ledger.persist(replace(after(other, clocks=clocks), task=TASK + 1 + task))
    assert await ledger.held_at(TASK) == {"flights": HOUR + 5, "taxis": HOUR + 3}
    assert await ledger.held_at(TASK + 2) == {"flights": HOUR + 1, "taxis": HOUR + 1}


async def test_hours_become_a_day_and_days_go(world: LedgerWorld, mine: Checkpoint) -> None:
    ledger, day = world.ledger, 86_400_000_000
    start = HOUR - HOUR % day
    keys = [TRAFFIC_KEY._replace(hour=start + hour * 3_600_000_000) for hour in (0, 5, 23, 24, 29)]
    labels = [ACCURACY_KEY._replace(hour=key.hour) for key in keys]
    other = TRAFFIC_KEY._replace(deployment_id="taxis", hour=start)
    cells = {key: replace(TRAFFIC, predictions=i) for i, key in enumerate([*keys, other])}
    await ledger.persist(after(mine, prediction_cells=cells, accuracy_cells=dict.fromkeys(labels, ACCURACY)))
    assert await ledger.first_day(TASK, "flights", 0, start + 9 * day) == start
    assert await ledger.first_day(TASK, "flights", start + day, start + 9 * day) == start + day
    assert await ledger.first_day(TASK, "flights", start + 2 * day, start + 9 * day) is None
    assert await ledger.first_day(TASK, "flights", 0, start) is None
    traffic, accuracy = await ledger.cells_of_day(TASK, "flights", start)
    assert {key: cell.predictions for key, cell in traffic.items()} == dict(zip(keys[:3], range(3), strict=True))
    assert accuracy == dict.fromkeys(labels[:3], ACCURACY)

    whole = {keys[0]: replace(TRAFFIC, predictions=99)}
    rolled = after(await ledger.read(TASK), prediction_cells=whole, rolled_days=[("flights", start)])
    await ledger.persist(replace(rolled, accuracy_cells={labels[0]: Accuracy(matched=99)}))
    found = await ledger.prediction_cells(TASK, [*keys, other])
    assert {key: cell.predictions for key, cell in found.items()} == {keys[0]: 99, keys[3]: 3, keys[4]: 4, other: 5}
    matched = await ledger.accuracy_cells(TASK, labels)
    assert {key: cell.matched for key, cell in matched.items()} == {
        labels[0]: 99,
        labels[3]: ACCURACY.matched,
        labels[4]: ACCURACY.matched,
    }

    gone = after(await ledger.read(TASK), dropped_hours=[("flights", keys[4].hour)])
    await ledger.persist(replace(gone, prediction_cells={}, accuracy_cells={}))
    assert set(await ledger.prediction_cells(TASK, [*keys, other])) == {keys[4], other}
    assert set(await ledger.accuracy_cells(TASK, labels)) == {labels[4]}


async def test_the_database_tells_the_time(world: LedgerWorld) -> None:
    now = await world.ledger.now()
    assert now.tzinfo is not None
    assert await world.ledger.now() >= now


async def test_only_the_cells_asked_for_and_only_of_the_task(world: LedgerWorld, mine: Checkpoint) -> None:
    others = [
        TRAFFIC_KEY._replace(model_id="model-2"),
        TRAFFIC_KEY._replace(batch_id="b"),
        TRAFFIC_KEY._replace(hour=HOUR + 3_600_000_000),
        TRAFFIC_KEY._replace(segment="origin=EWR"),
    ]
    cells = {key: replace(TRAFFIC, predictions=i) for i, key in enumerate([TRAFFIC_KEY, *others])}
    labels = {ACCURACY_KEY: ACCURACY, ACCURACY_KEY._replace(label_day=DAY + 1): Accuracy(matched=7)}
    await world.ledger.persist(after(mine, prediction_cells=cells, accuracy_cells=labels))
    asked = [others[3], TRAFFIC_KEY, TRAFFIC_KEY._replace(deployment_id="unknown")]
    found = await world.ledger.prediction_cells(TASK, asked)
    assert {key: cell.predictions for key, cell in found.items()} == {others[3]: 4, TRAFFIC_KEY: 0}
    assert list(await world.ledger.accuracy_cells(TASK, [ACCURACY_KEY])) == [ACCURACY_KEY]
    assert await world.ledger.prediction_cells(TASK, []) == {}
    assert await world.ledger.prediction_cells(TASK + 1, asked) == {}
    assert await world.ledger.accuracy_cells(TASK + 1, [ACCURACY_KEY]) == {}
    assert await world.ledger.clocks(TASK + 1) == {}


# ------------------------------------------------------------------------------------------- settings


async def test_the_settings_that_were_read_still_hold(world: LedgerWorld, mine: Checkpoint) -> None:
    known = await world.put(deployment())
    monday = await world.open_batch(known.id, "monday")
    versions = {(known.id, monday.id): monday.version}
    await world.ledger.persist(after(mine, deployment_versions={known.id: known.version}, batch_versions=versions))
    assert (await world.ledger.read(TASK)).version == 1


async def test_a_changed_deployment_leaves_nothing_written(world: LedgerWorld, mine: Checkpoint) -> None:
    known = await world.put(deployment())
    await world.put(replace(known, threshold=0.7))
    with pytest.raises(SettingsMoved):
        await world.ledger.persist(replace(full(mine), deployment_versions={known.id: known.version}))
    assert await world.ledger.read(TASK) == mine
    assert await world.ledger.clocks(TASK) == {}
    assert await world.ledger.accuracy_cells(TASK, [ACCURACY_KEY]) == {}


async def test_a_locked_batch_leaves_nothing_written(world: LedgerWorld, mine: Checkpoint) -> None:
    monday = await world.open_batch("flights", "monday")
    await world.lock("flights", monday.id)
    with pytest.raises(SettingsMoved):
        await world.ledger.persist(replace(full(mine), batch_versions={("flights", monday.id): monday.version}))
    assert await world.ledger.read(TASK) == mine


async def test_a_batch_that_does_not_exist_is_a_moved_setting(world: LedgerWorld, mine: Checkpoint) -> None:
    with pytest.raises(SettingsMoved):
        await world.ledger.persist(after(mine, batch_versions={("flights", "nowhere"): 1}))


async def test_after_a_refusal_the_recomputed_micro_batch_goes_through(world: LedgerWorld, mine: Checkpoint) -> None:
    known = await world.put(deployment())
    moved = await world.put(replace(known, threshold=0.7))
    with pytest.raises(SettingsMoved):
        await world.ledger.persist(after(mine, deployment_versions={known.id: known.version}))
    await world.ledger.persist(after(mine, deployment_versions={moved.id: moved.version}))
    assert (await world.ledger.read(TASK)).version == 1


# ------------------------------------------------------------------------------------------- outbox and deletions


def keys_of(task: int, partitions: int, count: int) -> list[bytes]:
    """Batch keys whose home is this task."""
    keys = (b"flights/%d" % i for i in range(1000))
    return [key for key in keys if murmur2(key) % partitions == task][:count]


async def test_events_wait_at_their_home_task_in_order(world: LedgerWorld, mine: Checkpoint) -> None:
    await world.empty_outbox()
    ours, theirs = keys_of(TASK, 4, 2), keys_of(TASK + 1, 4, 1)
    for key, value in [(ours[1], b"1"), (theirs[0], b"2"), (ours[0], b"3"), (ours[1], b"4")]:
        await world.emit(key, value)
    waiting = await world.ledger.outbox(TASK, 4, 10)
    assert [(key, value) for _, key, value in waiting] == [(ours[1], b"1"), (ours[0], b"3"), (ours[1], b"4")]
    assert await world.ledger.outbox(TASK, 4, 2) == waiting[:2]
    assert [value for _, _, value in await world.ledger.outbox(TASK + 1, 4, 10)] == [b"2"]


async def test_events_are_gone_with_the_micro_batch_that_carries_them(world: LedgerWorld, mine: Checkpoint) -> None:
    await world.empty_outbox()
    (key,) = keys_of(TASK, 4, 1)
    for value in (b"1", b"2", b"3"):
        await world.emit(key, value)
    first, second, third = await world.ledger.outbox(TASK, 4, 10)
    with pytest.raises(SettingsMoved):
        await world.ledger.persist(after(mine, outbox_ids=[first[0]], batch_versions={("flights", "nowhere"): 1}))
    assert await world.ledger.outbox(TASK, 4, 10) == [first, second, third]
    await world.ledger.persist(after(mine, outbox_ids=[first[0], second[0]]))
    assert await world.ledger.outbox(TASK, 4, 10) == [third]


async def test_deletions_are_listed_until_the_task_has_applied_them(world: LedgerWorld, mine: Checkpoint) -> None:
    monday = await world.open_batch("flights", "monday")
    tuesday = await world.open_batch("flights", "tuesday")
    await world.ledger.persist(after(mine, clocks={"flights": ClockRow()}))
    assert await world.ledger.deletions(TASK) == {}
    await world.delete_batch("flights", monday.id)
    assert await world.ledger.deletions(TASK) == {"flights": Deletions(1, [monday.id])}
    applied = after(await world.ledger.read(TASK), clocks={"flights": ClockRow(deletions_applied=1)})
    await world.ledger.persist(applied)
    assert await world.ledger.deletions(TASK) == {}
    await world.delete_batch("flights", tuesday.id)
    assert await world.ledger.deletions(TASK) == {"flights": Deletions(2, [tuesday.id])}


async def test_deletions_concern_every_task(world: LedgerWorld, mine: Checkpoint) -> None:
    monday = await world.open_batch("flights", "monday")
    await world.delete_batch("flights", monday.id)
    await world.ledger.persist(after(mine, clocks={"flights": ClockRow(deletions_applied=1)}))
    other = await world.ledger.take_over(TASK + 1, OTHER)
    await world.ledger.persist(after(other, clocks={"flights": ClockRow()}))
    assert await world.ledger.deletions(TASK) == {}
    assert await world.ledger.deletions(TASK + 1) == {"flights": Deletions(1, [monday.id])}


async def test_the_cells_of_a_dropped_batch_go_and_no_others(world: LedgerWorld, mine: Checkpoint) -> None:
    in_batch, in_other = TRAFFIC_KEY._replace(batch_id="b-1"), TRAFFIC_KEY._replace(batch_id="b-2")
    labels_in_batch = ACCURACY_KEY._replace(batch_id="b-1")
    cells = {TRAFFIC_KEY: TRAFFIC, in_batch: TRAFFIC, in_other: TRAFFIC}
    labels = {ACCURACY_KEY: ACCURACY, labels_in_batch: ACCURACY}
    other = await world.ledger.take_over(TASK + 1, OTHER)
    for checkpoint in (mine, other):
        await world.ledger.persist(after(checkpoint, prediction_cells=cells, accuracy_cells=labels))
    await world.ledger.persist(after(await world.ledger.read(TASK), dropped_batches=[("flights", "b-1")]))
    assert set(await world.ledger.prediction_cells(TASK, cells)) == {TRAFFIC_KEY, in_other}
    assert set(await world.ledger.accuracy_cells(TASK, labels)) == {ACCURACY_KEY}
    assert set(await world.ledger.prediction_cells(TASK + 1, cells)) == set(cells)
