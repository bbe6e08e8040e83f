"""`RecordSource`, `RecordSink` and `StatusLog`: three views of one broker."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from service.ports import Fenced, LedgerMismatch, OutRecord, Polled, Publisher, RecordSource, Topic
from service.wire.record_batch import encode
from service.wire.status import HEADER_STATE
from tests.builders import RECENT_MS
from tests.contract.worlds import LogWorld

TASK = 2
POSITIONS = {Topic.PREDICTIONS: 0, Topic.ACTUALS: 0, Topic.REKEY: 0}


def status(key: bytes, state: bytes, task: int = TASK) -> OutRecord:
    """A status whose header says that the row is now `state`."""
    return OutRecord(Topic.STATUS, task, key, b"{}", [(HEADER_STATE, state), ("hindsight-version", b"1")], RECENT_MS)


def tombstone(key: bytes) -> OutRecord:
    return OutRecord(Topic.STATUS, TASK, key, None, [], RECENT_MS)


async def produce_predictions(logs: LogWorld, count: int) -> int:
    """Values 0, 1, 2, ... as text; returns the first offset."""
    offsets = [await logs.produce(Topic.PREDICTIONS, TASK, b"k%d" % i, b"%d" % i) for i in range(count)]
    return offsets[0]


async def poll_values(source: RecordSource, count: int) -> list[bytes | None]:
    """Values of predictions, until there are `count` of them."""
    values: list[bytes | None] = []
    async with asyncio.timeout(20):
        while len(values) < count:
            polled = await source.poll(TASK, 1000, 1.0)
            values += [record.value for record in polled.records.get(Topic.PREDICTIONS, ())]
    return values


async def poll_some(source: RecordSource) -> Polled:
    async with asyncio.timeout(20):
        while not (polled := await source.poll(TASK, 1000, 1.0)).size:
            pass
    return polled


# ------------------------------------------------------------------------------------------- source


async def test_a_lone_member_owns_every_task(logs: LogWorld) -> None:
    source = await logs.source()
    assert source.partitions == 4
    assert source.assignment == {0, 1, 2, 3}


async def test_a_record_comes_as_it_was_sent(logs: LogWorld) -> None:
    source = await logs.source()
    offset = await logs.produce(Topic.ACTUALS, TASK, b"key", b"value", [("a", b"1"), ("a", b"2")])
    await source.seek(TASK, {})
    polled = await poll_some(source)
    (record,) = polled.records[Topic.ACTUALS]
    assert (record.offset, record.timestamp, record.key, record.value) == (offset, RECENT_MS, b"key", b"value")
    assert list(record.headers) == [("a", b"1"), ("a", b"2")]
    assert polled.positions[Topic.ACTUALS] == offset + 1


async def test_reading_goes_on_where_a_seek_says(logs: LogWorld) -> None:
    source = await logs.source()
    first = await produce_predictions(logs, 5)
    assert (await source.seek(TASK, {Topic.PREDICTIONS: first + 3}))[Topic.PREDICTIONS] == first + 3
    assert await poll_values(source, 2) == [b"3", b"4"]
    await source.seek(TASK, {Topic.PREDICTIONS: first + 1})
    assert await poll_values(source, 4) == [b"1", b"2", b"3", b"4"]


async def test_a_role_left_out_of_a_seek_starts_at_its_begin(logs: LogWorld) -> None:
    source = await logs.source()
    await produce_predictions(logs, 2)
    positions = await source.seek(TASK, {Topic.ACTUALS: 0})
    assert positions == {Topic.PREDICTIONS: 0, Topic.ACTUALS: 0, Topic.REKEY: 0}
    assert await poll_values(source, 2) == [b"0", b"1"]


async def test_no_poll_is_greater_than_allowed_and_none_repeats(logs: LogWorld) -> None:
    source = await logs.source()
    await produce_predictions(logs, 25)
    await source.seek(TASK, {})
    values: list[bytes | None] = []
    async with asyncio.timeout(20):
        while len(values) < 25:
            polled = await source.poll(TASK, 10, 1.0)
            assert polled.size <= 10
            for topic, records in polled.records.items():
                assert polled.positions[topic] == records[-1].offset + 1
                values += [record.value for record in records]
    assert values == [b"%d" % i for i in range(25)]


async def test_a_poll_without_records_ends_in_time(logs: LogWorld) -> None:
    source = await logs.source()
    await source.seek(TASK, {})
    async with asyncio.timeout(20):
        assert (await source.poll(TASK, 10, 0.01)).size == 0


async def test_a_poll_wakes_for_a_new_record(logs: LogWorld) -> None:
    source = await logs.source()
    await source.seek(TASK, {})
    waiting = asyncio.create_task(source.poll(TASK, 10, 20.0))
    await asyncio.sleep(0)
    await logs.produce(Topic.PREDICTIONS, TASK, b"k", b"v")
    async with asyncio.timeout(20):
        assert (await waiting).size == 1


async def test_tasks_are_read_apart(logs: LogWorld) -> None:
    source = await logs.source()
    await logs.produce(Topic.PREDICTIONS, 0, b"k", b"zero")
    await logs.produce(Topic.PREDICTIONS, TASK, b"k", b"two")
    for task in (0, TASK):
        await source.seek(task, {})
    assert await poll_values(source, 1) == [b"two"]


async def test_nothing_comes_of_a_paused_task_until_it_is_sought(logs: LogWorld) -> None:
    source = await logs.source()
    first = await produce_predictions(logs, 3)
    await source.seek(TASK, {})
    source.pause(TASK)
    assert (await source.poll(TASK, 10, 0.01)).size == 0
    await source.seek(TASK, {Topic.PREDICTIONS: first})
    assert await poll_values(source, 3) == [b"0", b"1", b"2"]


async def test_a_seek_beyond_the_log_is_refused(logs: LogWorld) -> None:
    source = await logs.source()
    first = await produce_predictions(logs, 3)
    await source.seek(TASK, {Topic.PREDICTIONS: first + 3})
    with pytest.raises(LedgerMismatch):
        await source.seek(TASK, {Topic.PREDICTIONS: first + 4})


async def test_lag_counts_what_is_not_read(logs: LogWorld) -> None:
    source = await logs.source()
    first = await produce_predictions(logs, 7)
    await source.seek(TASK, {Topic.PREDICTIONS: first + 5})
    assert await poll_values(source, 2) == [b"5", b"6"]
    assert source.lag(TASK).records == {Topic.PREDICTIONS: 0, Topic.ACTUALS: 0, Topic.REKEY: 0}


async def test_a_task_that_went_elsewhere_is_fenced(logs: LogWorld) -> None:
    source = await logs.source()
    await source.seek(TASK, {})
    lost = await logs.take_away(source)
    async with asyncio.timeout(30):
        while lost in source.assignment:
            await source.assignment_changed()
    with pytest.raises(Fenced):
        await source.poll(lost, 10, 0.01)


# ------------------------------------------------------------------------------------------- sink


@asynccontextmanager
async def publishing(logs: LogWorld, task: int = TASK) -> AsyncIterator[Publisher]:
    publisher = await logs.sink().open(task)
    try:
        yield publisher
    finally:
        await publisher.close()


async def publish(
    publisher: Publisher, records: Sequence[OutRecord], positions: Mapping[str, int], *, version: int
) -> int:
    return await publisher.publish(encode([records]), positions, version)


async def test_what_is_published_can_be_read(logs: LogWorld) -> None:
    source = await logs.source()
    forwarded = OutRecord(Topic.REKEY, 1, b"key", b"value", [("h", b"1")], RECENT_MS - 5)
    async with publishing(logs) as publisher:
        await publish(publisher, [status(b"d/a", b"A"), forwarded], POSITIONS, version=1)
    await source.seek(1, {})
    async with asyncio.timeout(20):
        while not (polled := await source.poll(1, 10, 1.0)).size:
            pass
    (record,) = polled.records[Topic.REKEY]
    assert (record.timestamp, record.key, record.value) == (RECENT_MS - 5, b"key", b"value")
    assert list(record.headers) == [("h", b"1")]


async def test_the_version_of_the_last_publish_is_known_once_the_next_publisher_is_open(logs: LogWorld) -> None:
    sink = logs.sink()
    async with publishing(logs) as publisher:
        assert await sink.published_version(TASK) is None
        await publish(publisher, [status(b"d/a", b"A")], {Topic.PREDICTIONS: 1, Topic.ACTUALS: 0}, version=1)
        await publish(publisher, [], {Topic.PREDICTIONS: 2, Topic.ACTUALS: 0}, version=2)
        await publisher.settle({Topic.PREDICTIONS: 2, Topic.ACTUALS: 0}, 2)
    async with publishing(logs):
        assert await sink.published_version(TASK) == 2
        assert await sink.published_version(0) is None


async def test_opening_a_publisher_fences_the_one_before(logs: LogWorld) -> None:
    async with publishing(logs) as former, publishing(logs, 0) as other_task:
        await publish(former, [status(b"d/a", b"A")], {Topic.PREDICTIONS: 1}, version=1)
        async with publishing(logs) as later:
            with pytest.raises(Fenced):
                await publish(former, [status(b"d/a", b"stale")], {Topic.PREDICTIONS: 9}, version=9)
            await publish(later, [status(b"d/b", b"B")], {Topic.PREDICTIONS: 2}, version=2)
        await publish(other_task, [status(b"d/c", b"C", task=0)], {Topic.PREDICTIONS: 1}, version=1)
    async with publishing(logs):
        assert await logs.sink().published_version(TASK) == 2
    assert (await replayed(logs, 0))[0] == [(b"d/a", b"A"), (b"d/b", b"B")]


# ------------------------------------------------------------------------------------------- status log

Changes = list[tuple[bytes, bytes | None]]


async def replayed(logs: LogWorld, start: int) -> tuple[Changes, int]:
    """Every change from `start`, and the end; each chunk must say where it ends.

    A publisher is opened before, as on every restore: a transaction whose commit has returned may be readable a moment
    later only, and the opening waits for it.
    """
    async with publishing(logs):
        log = logs.status_log()
    changes: Changes = []
    offsets, ends = [start], set[int]()

    def apply(chunk: Sequence[tuple[bytes, bytes | None]], next_offset: int, told_end: int) -> None:
        changes.extend(chunk)
        ends.add(told_end)
        offsets.append(next_offset)

    end = await asyncio.to_thread(log.replay, TASK, start, 0, apply)
    assert offsets == sorted(offsets)
    assert ends <= {end}
    assert offsets[-1] <= max(end, start)
    return changes, end


async def test_an_empty_log_replays_nothing(logs: LogWorld) -> None:
    log = logs.status_log()
    assert await replayed(logs, await asyncio.to_thread(log.begin, TASK)) == ([], 0)


async def test_replay_gives_the_states_in_order(logs: LogWorld) -> None:
    async with publishing(logs) as publisher:
        await publish(publisher, [status(b"d/a", b"A1"), status(b"d/b", b"B1")], POSITIONS, version=1)
        second = [status(b"d/a", b"A2"), status(b"d/c", b""), tombstone(b"d/b")]
        await publish(publisher, second, POSITIONS, version=2)
    changes, _ = await replayed(logs, 0)
    assert changes == [(b"d/a", b"A1"), (b"d/b", b"B1"), (b"d/a", b"A2"), (b"d/c", None), (b"d/b", None)]


async def test_replay_goes_on_after_the_offset_that_a_publish_returned(logs: LogWorld) -> None:
    async with publishing(logs) as publisher:
        after = await publish(publisher, [status(b"d/a", b"A")], POSITIONS, version=1)
    assert (await replayed(logs, after))[0] == []
    async with publishing(logs) as publisher:
        await publish(publisher, [status(b"d/b", b"B")], POSITIONS, version=2)
    changes, end = await replayed(logs, after)
    assert changes == [(b"d/b", b"B")]
    assert (await replayed(logs, end))[0] == []


async def test_a_publish_without_statuses_returns_zero(logs: LogWorld) -> None:
    async with publishing(logs) as publisher:
        await publish(publisher, [status(b"d/a", b"A")], POSITIONS, version=1)
        dead_letter = OutRecord(Topic.DLQ, TASK, b"k", b"garbage", [], RECENT_MS)
        after = await publish(publisher, [dead_letter], POSITIONS, version=2)
    assert after == 0


async def test_a_long_log_is_replayed_whole(logs: LogWorld) -> None:
    records = [status(b"d/%d" % i, b"%d" % i) for i in range(2500)]
    async with publishing(logs) as publisher:
        await publish(publisher, records, POSITIONS, version=1)
    changes, _ = await replayed(logs, 0)
    assert changes == [(record.key, record.headers[0][1]) for record in records]


async def test_a_large_publish_of_the_former_is_fenced_too(logs: LogWorld) -> None:
    """It is sent in several pieces: the first of them is refused while the others are still being handed over."""
    async with publishing(logs) as former:
        await publish(former, [status(b"d/a", b"A")], {Topic.PREDICTIONS: 1}, version=1)
        async with publishing(logs):
            large = [OutRecord(Topic.REKEY, i % 3, b"key", b"." * 600_000, [], RECENT_MS) for i in range(12)]
            with pytest.raises(Fenced):
                await publish(former, sorted(large, key=lambda record: record.partition), {}, version=9)
