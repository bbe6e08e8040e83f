"""What the in-memory twins can do beyond their ports: fail on demand, compact, and crash."""

from uuid import UUID

import pytest

from service.adapters.memory import (
    MemoryBroker,
    MemoryCatalog,
    MemoryLedger,
    MemorySink,
    MemorySource,
    MemoryStatusLog,
    MemoryStores,
)
from service.ports import LedgerMismatch, OutRecord, Owner, StorePosition, Topic, Unavailable
from service.wire.record_batch import encode
from service.wire.status import HEADER_STATE
from tests.builders import after

ME = Owner(instance="worker-1", process=UUID(int=1))


def status(key: bytes, state: bytes | None) -> OutRecord:
    return OutRecord(Topic.STATUS, 0, key, None if state is None else b"{}", [(HEADER_STATE, state or b"")], 0)


async def test_a_persist_that_fails_before_the_commit_writes_nothing() -> None:
    ledger = MemoryLedger(MemoryCatalog())
    mine = await ledger.take_over(0, ME)
    ledger.fail_next = "before"
    with pytest.raises(Unavailable):
        await ledger.persist(after(mine))
    assert (await ledger.read(0)).version == 0
    await ledger.persist(after(mine))
    assert ((await ledger.read(0)).version, ledger.commits) == (1, 1)


async def test_a_commit_in_doubt_is_resolved_inside() -> None:
    ledger = MemoryLedger(MemoryCatalog())
    mine = await ledger.take_over(0, ME)
    ledger.fail_next = "after"
    await ledger.persist(after(mine))
    assert ((await ledger.read(0)).version, ledger.commits) == (1, 1)


async def test_a_commit_that_stays_in_doubt_counts_once_when_repeated() -> None:
    ledger = MemoryLedger(MemoryCatalog())
    mine = await ledger.take_over(0, ME)
    ledger.fail_next = "unresolved"
    with pytest.raises(Unavailable):
        await ledger.persist(after(mine))
    await ledger.persist(after(mine))
    assert ((await ledger.read(0)).version, ledger.commits) == (1, 1)


@pytest.mark.parametrize(("fault", "version"), [("before", None), ("after", 1)])
async def test_a_publish_in_doubt_ends_its_publisher(fault: str, version: int | None) -> None:
    sink = MemorySink(MemoryBroker(partitions=1))
    publisher = await sink.open(0)
    sink.fail_next = "before" if fault == "before" else "after"
    for _ in range(2):
        with pytest.raises(Unavailable):
            await publisher.publish(encode([[status(b"d/a", b"A")]]), {}, version=1)
    assert await sink.published_version(0) == version
    assert await (await sink.open(0)).publish([], {}, version=2) == 0


async def test_compaction_keeps_the_last_state_of_each_row() -> None:
    broker = MemoryBroker(partitions=1)
    publisher, log = await MemorySink(broker).open(0), MemoryStatusLog(broker)
    records = [status(b"d/a", b"A1"), status(b"d/b", b"B1"), status(b"d/a", b"A2"), status(b"d/b", None)]
    await publisher.publish(encode([records]), {}, version=1)
    broker.compact(0)
    found: list[tuple[bytes, bytes | None]] = []
    assert log.replay(0, 0, 0, lambda chunk, _, end: found.extend(chunk)) == 4
    assert found == [(b"d/a", b"A2"), (b"d/b", None)]
    broker.log(Topic.STATUS, 0).expire_tombstones()
    found.clear()
    assert log.replay(0, 0, 0, lambda chunk, _, end: found.extend(chunk)) == 4
    assert found == [(b"d/a", b"A2")]


async def test_what_retention_removed_can_not_be_sought() -> None:
    broker = MemoryBroker(partitions=1)
    for value in (b"0", b"1", b"2"):
        broker.produce(Topic.PREDICTIONS, b"k", value)
    broker.log(Topic.PREDICTIONS, 0).truncate(2)
    source = MemorySource(broker, "one")
    with pytest.raises(LedgerMismatch):
        await source.seek(0, {Topic.PREDICTIONS: 1})
    assert (await source.seek(0, {}))[Topic.PREDICTIONS] == 2


def test_a_crash_keeps_the_disk_and_frees_its_lock() -> None:
    stores = MemoryStores()
    position = StorePosition(incarnation="i", version=1, status_offset=1, saved_at=0.0)
    stores.open(0).apply({b"d/a": b"1"}, (), position)
    stores.crash()
    assert stores.open(0).get_many([b"d/a"]) == [b"1"]
    stores.lose(0)
    assert stores.open(0).position is None
