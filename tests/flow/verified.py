"""`hindsight verify` over a world at rest: what the database says beside what the statuses add up to."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field, replace

from service.adapters.memory import MemoryStores
from service.domain.records import Topic
from service.usecases.cell_differences import Snapshot
from service.usecases.row_life import Arrived, Place
from service.usecases.status_stream import Published
from service.usecases.verification import Asked, VerifiedTask, World, verify_task
from tests.flow.world import PREFIX, FlowWorld

CHUNK = 3


@dataclass
class MemoryCells:
    """Of one world; `changed` is what a test says instead of the ledger."""

    world: FlowWorld
    changed: dict[int, Snapshot] = field(default_factory=dict)

    async def snapshot(self, task: int) -> Snapshot | None:
        return self.changed.get(task) or await self.true(task)

    async def true(self, task: int) -> Snapshot:
        ledger, catalog = self.world.ledger, self.world.catalog
        checkpoint = await ledger.read(task)
        batches = catalog._batches.values()
        return Snapshot(
            task=task,
            version=checkpoint.version,
            seq=checkpoint.seq,
            slot=checkpoint.slot,
            clocks=await ledger.clocks(task),
            prediction_cells=ledger.every_prediction_cell(task),
            accuracy_cells=ledger.every_accuracy_cell(task),
            deployments=dict(catalog._deployments),
            deleted_batches={(batch.deployment_id, batch.id) for batch in batches if batch.is_deleted},
            layouts_since={},
        )


@dataclass
class MemoryStatuses:
    """Everything that was ever published; `dropped` are offsets that a test has lost, by task."""

    world: FlowWorld
    dropped: dict[int, set[int]] = field(default_factory=dict)
    hidden: bool = False
    """Whether nobody can tell what was published last."""

    async def published_version(self, task: int) -> int | None:
        committed = self.world.broker.committed.get(task)
        return None if self.hidden or committed is None else committed.version

    async def end(self, task: int) -> int:
        return self.world.broker.log(Topic.STATUS, task).end

    async def read(
        self, task: int, since_ms: int, end: int
    ) -> AsyncGenerator[tuple[Sequence[Published], int, int], None]:
        found = [
            Published(task, one.offset, one.timestamp, one.key or b"", one.value, tuple(one.headers))
            for one in self.world._published(task)
            if one.offset < end and one.timestamp >= since_ms and one.offset not in self.dropped.get(task, ())
        ]
        for start in range(0, len(found), CHUNK):
            chunk = found[start : start + CHUNK]
            yield chunk, chunk[-1].offset + 1, end
        yield [], end, end


@dataclass
class MemoryInputs:
    world: FlowWorld
    gone_before: int = 0
    """Retention has taken what lies before this offset."""

    async def find(self, places: Collection[Place]) -> dict[Place, Arrived]:
        found = {}
        for place in places:
            records = self.world.broker.log(Topic.PREDICTIONS, place.partition).read(place.offset, 1)
            if records and records[0].offset == place.offset >= self.gone_before:
                (one,) = records
                found[place] = Arrived(one.timestamp, one.value, tuple(one.headers))
        return found


@dataclass
class Looked:
    """What a verification sees; a test changes it."""

    cells: MemoryCells
    statuses: MemoryStatuses
    inputs: MemoryInputs
    now_ms: int

    def verify(self, asked: Asked = Asked()) -> list[VerifiedTask]:  # noqa: B008
        world = World(cells=self.cells, statuses=self.statuses, inputs=self.inputs, prefix=PREFIX, now_ms=self.now_ms)

        async def every() -> list[VerifiedTask]:
            found = []
            for task in asked.tasks(self.cells.world.broker.partitions):
                store = MemoryStores().open(task)
                found.append(await verify_task(world, task, asked, store, lambda *_: None))
            return found

        return asyncio.run(every())

    def change(self, task: int, **fields: object) -> Snapshot:
        """The database says otherwise."""
        known = self.cells.changed.get(task) or asyncio.run(self.cells.true(task))
        self.cells.changed[task] = changed = replace(known, **fields)  # type: ignore[arg-type]
        return changed


def look(world: FlowWorld) -> Looked:
    return Looked(MemoryCells(world), MemoryStatuses(world), MemoryInputs(world), world.now_ms)


def check_verified(world: FlowWorld) -> None:
    """The database is what was published."""
    for task in look(world).verify():
        assert task.differences == []
        assert task.faults == []
