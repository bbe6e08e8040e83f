"""Everything that the owner of a task holds of it, and the protocol by which it becomes the owner.

The order of `take_over` is what makes a takeover safe, and must not change:

1. raise the epoch in the ledger: no former owner can persist any more;
2. open the publisher: no former owner can publish any more;
3. read the ledger again and give up if the epoch moved, since the broker's fence goes by the last to open;
4. compare the version that was last published with the ledger's: equal, or one less, when the slot is published again;
5. bring the store to the ledger's version;
6. only then read on.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from service.domain.flood import Flood
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.pipeline.cells import CellMemory
from service.pipeline.decode import Decoder
from service.pipeline.expiry import Timers
from service.pipeline.guarded_clock import GuardedClock
from service.pipeline.restore import Restoring, restore_store
from service.ports import (
    AccuracyCellKey,
    Checkpoint,
    ClockRow,
    Fenced,
    Ledger,
    LedgerMismatch,
    Owner,
    PredictionCellKey,
    Publisher,
    RecordSink,
    RecordSource,
    StateStore,
    StateStores,
    StatusLog,
    Unavailable,
)
from service.wire.slot import unpack_slot

_log = structlog.get_logger(__name__)
_OLD_OFFSETS_FOR_S = 10.0
_ASK_AGAIN_S = 2.0


async def _fits() -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The ports of one worker process."""

    clock: GuardedClock
    source: RecordSource
    sink: RecordSink
    status_log: StatusLog
    stores: StateStores
    ledger: Ledger
    owner: Owner
    check_fit: Callable[[], Awaitable[None]] = _fits
    """Asks whether topics and database still belong together. Raises `LedgerMismatch`, `Unavailable`."""


@dataclass(slots=True, kw_only=True)
class OwnedTask:
    """One owned task: its ledger row as of the last commit, its clocks, hot cells, store and publisher."""

    task: int
    epoch: int
    version: int
    seq: int
    offsets: dict[str, int]
    origins: dict[str, int]
    incarnation: str
    status_offset: int
    clocks: dict[str, ClockRow]
    held_at: dict[str, int]
    """The least clock of the other tasks, of deployments that have strays."""
    timers: Timers
    flood: Flood
    decoder: Decoder
    traffic: CellMemory[PredictionCellKey, Traffic]
    accuracy: CellMemory[AccuracyCellKey, Accuracy]
    store: StateStore
    publisher: Publisher
    checked: dict[str, int] = field(default_factory=dict)
    """Until which hour there was nothing to roll up, by deployment."""


async def take_over(world: World, task: int, prefix: str, cell_capacity: int, restoring: Restoring) -> OwnedTask:
    """Become the owner. Raises `Fenced` when another did meanwhile, `LedgerMismatch` if going on would lose records,
    and `RestoreEnded`."""
    checkpoint = await world.ledger.take_over(task, world.owner)
    asked_at = world.clock.monotonic()
    if not world.clock.compare(await world.ledger.now(), asked_at):
        raise Unavailable("the database took too long to tell the time")
    publisher = await world.sink.open(task)
    try:
        await _check_epoch(world, checkpoint)
        status_offset = await _publish_slot(world, publisher, checkpoint)
        store = world.stores.open(task)
        try:
            restored = await restore_store(world.status_log, world.clock, store, checkpoint, status_offset, restoring)
            offsets = await world.source.seek(task, checkpoint.offsets)
            return OwnedTask(
                task=task,
                epoch=checkpoint.epoch,
                version=checkpoint.version,
                seq=checkpoint.seq,
                offsets=offsets,
                origins=dict(checkpoint.origins),
                incarnation=checkpoint.incarnation,
                status_offset=max(status_offset, restored),
                clocks=await world.ledger.clocks(task),
                held_at=await world.ledger.held_at(task),
                timers=Timers(store),
                flood=checkpoint.flood,
                decoder=Decoder(task, world.source.partitions, prefix),
                traffic=CellMemory(lambda keys: world.ledger.prediction_cells(task, keys), cell_capacity),
                accuracy=CellMemory(lambda keys: world.ledger.accuracy_cells(task, keys), cell_capacity),
                store=store,
                publisher=publisher,
            )
        except BaseException:
            store.close()
            raise
    except LedgerMismatch:
        await publisher.close()
        await _check_epoch(world, checkpoint)  # what looks like a damage may be the work of who took over meanwhile
        raise
    except BaseException:
        await publisher.close()
        raise


async def _check_epoch(world: World, checkpoint: Checkpoint) -> None:
    if (await world.ledger.read(checkpoint.task)).epoch != checkpoint.epoch:
        raise Fenced(f"task {checkpoint.task} was taken over by another meanwhile")


async def _publish_slot(world: World, publisher: Publisher, checkpoint: Checkpoint) -> int:
    """Step 4. Returns the offset after the last status that was published again, 0 for none."""
    published = await _published_version(world, checkpoint)
    if checkpoint.version in (published, 0):
        return 0
    if published is None or published == checkpoint.version - 1:
        return await publisher.publish(unpack_slot(checkpoint.slot), checkpoint.offsets, checkpoint.version)
    raise LedgerMismatch(
        f"task {checkpoint.task}: version {published} was published, but the ledger stands at {checkpoint.version}: "
        "one of them was restored from an older copy, and going on would lose or repeat records. "
        "What to do: README, 'A database from an older backup'"
    )


async def _published_version(world: World, checkpoint: Checkpoint) -> int | None:
    """As the broker tells it. One that has just come up may tell old offsets for a while: it is asked again."""
    until = world.clock.monotonic() + _OLD_OFFSETS_FOR_S
    while True:
        published = await world.sink.published_version(checkpoint.task)
        is_old = published is not None and published < checkpoint.version - 1
        if not is_old or world.clock.monotonic() >= until:
            return published
        _log.warning(
            "the broker tells an old version", task=checkpoint.task, told=published, version=checkpoint.version
        )
        await asyncio.sleep(_ASK_AGAIN_S)
