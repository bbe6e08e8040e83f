"""A restore tells how far it is, and ends when told without losing what it has done."""

import asyncio
import threading
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from service.adapters.memory import MemoryBroker, MemorySink, MemoryStatusLog, MemoryStores
from service.adapters.memory.clock import HandClock
from service.domain.row import RowPhase, RowState, encode_row
from service.pipeline.restore import RestoreEnded, Restoring, restore_store
from service.ports import ApplyChunk, Checkpoint, OutRecord, StateStore, Topic
from service.wire.record_batch import encode
from service.wire.status import HEADER_STATE

STATE = encode_row(RowState(RowPhase.OPEN, 1, 0, 0, 5, 9, 0, 0, b"1", b"", "m", ""))
KEYS = [b"d/%d" % number for number in range(25)]
CHECKPOINT = Checkpoint(
    task=0, epoch=1, version=3, seq=25, offsets={}, origins={}, owner=None, slot=b"", incarnation="one"
)


@pytest.fixture
async def log() -> MemoryStatusLog:
    """25 rows, read in chunks of 10."""
    broker = MemoryBroker(partitions=1)
    statuses = [OutRecord(Topic.STATUS, 0, key, b"{}", [(HEADER_STATE, STATE)], 0) for key in KEYS]
    await (await MemorySink(broker).open(0)).publish(encode([statuses]), {}, version=3)
    return MemoryStatusLog(broker, chunk=10)


@pytest.fixture
def store() -> StateStore:
    return MemoryStores().open(0)


async def test_it_tells_how_far_it_is(log: MemoryStatusLog, store: StateStore) -> None:
    clock, told, said = HandClock(), list[int](), list[str]()

    def left(offsets: int) -> None:
        told.append(offsets)
        clock.advance(timedelta(seconds=4))
        said.append(restoring.text())

    restoring = Restoring(0, clock.monotonic, left)
    assert restoring.text() == ""
    with capture_logs() as logged:
        assert await restore_store(log, clock, store, CHECKPOINT, 0, restoring) == 25
    assert told == [15, 5, 0]
    assert said == [
        "the store is being restored: 10 of 25 offsets, 2 a second, 6 s left",
        "the store is being restored: 20 of 25 offsets, 2 a second, 2 s left",
        "",
    ]
    shown = [{key: line[key] for key in ("read", "of", "per_second")} for line in logged if "read" in line]
    assert shown == [{"read": 20, "of": 25, "per_second": 2}]
    assert store.get_many(KEYS) == [STATE] * 25


async def test_told_to_end_it_keeps_what_it_has(log: MemoryStatusLog, store: StateStore) -> None:
    clock, told = HandClock(), list[int]()
    restoring = Restoring(0, clock.monotonic, lambda left: restoring.end())
    with pytest.raises(RestoreEnded, match="10 of 25"):
        await restore_store(log, clock, store, CHECKPOINT, 0, restoring)
    assert store.get_many(KEYS) == [STATE] * 10 + [None] * 15

    again = Restoring(0, clock.monotonic, told.append)
    assert await restore_store(log, clock, store, CHECKPOINT, 0, again) == 25
    assert told == [5, 0], "it went on where the other ended"
    assert store.get_many(KEYS) == [STATE] * 25
    assert store.position is not None
    assert store.position.version == CHECKPOINT.version


async def test_a_store_that_is_restored_in_parts_is_as_old_as_its_first_part(
    log: MemoryStatusLog, store: StateStore
) -> None:
    """What tombstones it may have missed is told by when it was begun, however often it went on since."""
    clock = HandClock()
    began_at = clock.now().timestamp()
    for _ in range(2):
        restoring = Restoring(0, clock.monotonic, lambda left: restoring.end())  # noqa: B023
        with pytest.raises(RestoreEnded):
            await restore_store(log, clock, store, CHECKPOINT, 0, restoring)
        assert store.position is not None
        assert store.position.saved_at == began_at
        clock.advance(timedelta(days=1))
    await restore_store(log, clock, store, CHECKPOINT, 0, Restoring(0, clock.monotonic, lambda left: None))
    assert store.position is not None
    assert store.position.saved_at == clock.now().timestamp()


class SlowLog:
    """Hands on one row after another, each when it is let go."""

    def __init__(self) -> None:
        self.handed = threading.Event()
        self.go_on = threading.Event()

    def begin(self, task: int) -> int:
        return 0

    def replay(self, task: int, start: int, at_least: int, apply: ApplyChunk) -> int:
        for offset, key in enumerate(KEYS):
            self.handed.set()
            self.go_on.wait(10)
            apply([(key, STATE)], offset + 1, len(KEYS))
        return len(KEYS)


async def test_cancelled_it_returns_once_nothing_is_written_any_more(store: StateStore) -> None:
    """Who closes the store then does not close it under the hands of the thread."""
    log, clock = SlowLog(), HandClock()
    restoring = Restoring(0, clock.monotonic, lambda left: None)
    running = asyncio.create_task(restore_store(log, clock, store, CHECKPOINT, 0, restoring))
    await asyncio.to_thread(log.handed.wait, 10)
    running.cancel()
    await asyncio.sleep(0.05)
    assert not running.done(), "the thread still has a chunk to write"
    log.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert store.get_many(KEYS) == [STATE] + [None] * 24
