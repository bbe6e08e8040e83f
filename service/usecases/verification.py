"""Are the numbers in the database right? Task by task they are worked out again from what was published, and compared.

Consistent while workers run: the ledger row and the cells of a task are read in one snapshot, and of its statuses those
count that were published up to the ledger version in it. Where the last version is not out yet, its statuses are taken
from the outbox slot in the same snapshot, which is what will be published.

A database that was restored from an older copy shows itself: more was published than it knows of. What was published is
asked for before the snapshot is made, so a running worker is never taken for that.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from service.domain.deployment import Deployment
from service.domain.errors import Invalid
from service.domain.instants import HOUR_US
from service.domain.records import Topic
from service.ports import StateStore
from service.usecases.cell_differences import Compared, Difference, Scope, Snapshot, compare
from service.usecases.rederivation import Missing, Rederivation, Rules
from service.usecases.row_life import Arrived, Place
from service.usecases.status_stream import Published
from service.usecases.task_faults import log_faults, restored, total_faults
from service.usecases.unchecked import unchecked
from service.wire.instants import rfc3339_clamped
from service.wire.record_batch import records_of
from service.wire.slot import unpack_slot
from service.wire.status import Instant

_BROKER_AHEAD_US: Final = HOUR_US
"""How far ahead of its own clock a broker takes timestamps, as it comes configured."""
_NEVER: Final = 1 << 62
_PUBLISH_TRIES: Final = 20
_PUBLISH_WAIT_S: Final = 0.25
Progress = Callable[[int, int, int], None]
"""Called with the task, the offsets that were read of its status partition, and all of them."""


class Cells(Protocol):
    """The database's side."""

    async def snapshot(self, task: int) -> Snapshot | None:
        """Of one instant; None where no worker has taken the task yet."""


class Statuses(Protocol):
    """The status topic, by task."""

    async def published_version(self, task: int) -> int | None:
        """As `ports.RecordSink.published_version`."""

    async def end(self, task: int) -> int:
        """The offset after the last record that was written, committed or not."""

    def read(self, task: int, since_ms: int, end: int) -> AsyncGenerator[tuple[Sequence[Published], int, int], None]:
        """Committed records published since then and before the offset `end`, in chunks, each with how many offsets
        were read and how many there are. Ends early where nothing comes for a while."""


class Inputs(Protocol):
    """The input topics."""

    async def find(self, places: Collection[Place]) -> dict[Place, Arrived]:
        """The records at these places; those that are gone are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    cells: Cells
    statuses: Statuses
    inputs: Inputs
    prefix: str
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be compared."""

    deployment_id: str | None = None
    partition: int | None = None
    since: int | None = None
    """Only hours from this instant (microseconds since 1970) on."""

    def tasks(self, count: int) -> list[int]:
        """Raises `Invalid` where the partition is none."""
        if self.partition is None:
            return list(range(count))
        if not 0 <= self.partition < count:
            raise Invalid(f"partition: the status topic has partitions 0 to {count - 1}")
        return [self.partition]


class VerifiedTask(msgspec.Struct, rename="camel", kw_only=True):
    """One task, as of one version of its ledger row."""

    task: int
    version: int = 0
    seq: int = 0
    statuses: int = 0
    """That were read and counted."""
    cells: int = 0
    """That were compared."""
    whole_from: Instant | None = None
    """Hours before this could be compared in part only."""
    differences: list[Difference] = []
    faults: list[str] = []
    """What is wrong, other than single figures."""
    unchecked: list[str] = []
    """What could not be compared, and why."""


class Verified(msgspec.Struct, rename="camel", kw_only=True):
    """All tasks."""

    equal: bool
    tasks: list[VerifiedTask]


encode_verified = msgspec.json.Encoder().encode


def verified(tasks: list[VerifiedTask]) -> Verified:
    return Verified(equal=not any(task.differences or task.faults for task in tasks), tasks=tasks)


async def verify_task(world: World, task: int, asked: Asked, store: StateStore, progress: Progress) -> VerifiedTask:
    """Compare one task; the store is empty and of no use afterwards. Raises `Unavailable`."""
    out, written = await world.statuses.published_version(task), await world.statuses.end(task)
    snapshot = await world.cells.snapshot(task)
    if snapshot is None:
        if out:
            return VerifiedTask(task=task, faults=[restored(out, 0)])
        if written:
            return VerifiedTask(
                task=task, faults=["its status partition is not empty, but the ledger has no such task"]
            )
        return VerifiedTask(task=task, unchecked=["no worker has taken this task yet"])
    _check_known(snapshot, asked)
    is_out = await _is_out(world, task, snapshot.version)
    rules = Rules(
        prefix=world.prefix,
        deployments=snapshot.deployments,
        deleted=snapshot.deleted_batches,
        until=snapshot.version,
    )
    margin = _BROKER_AHEAD_US + _most_skew(snapshot.deployments)
    since_ms = 0 if asked.since is None else max(1, (asked.since - margin) // 1000)
    derived = Rederivation(store, rules, 0 if asked.since is None else None)
    ended = await _read(world, task, asked, derived, since_ms, progress)
    waiting = [] if is_out or derived.last_version >= snapshot.version else _slot_statuses(snapshot)
    if waiting:
        await _count(world, asked, derived, waiting)
    derived.close(snapshot.seq)
    whole_from = _whole_from(derived.missing, asked.since, max(margin, derived.lead))
    scope = Scope(deployment_id=asked.deployment_id, since=asked.since, whole_from=whole_from)
    compared = compare(snapshot, derived, scope)
    faults = log_faults(snapshot, derived, out, written, ended, world.now_ms)
    if asked.deployment_id is None:
        faults += total_faults(snapshot)
    return _told(snapshot, derived, compared, scope, faults, waits=bool(waiting), ended=ended)


def _check_known(snapshot: Snapshot, asked: Asked) -> None:
    if asked.deployment_id is not None and asked.deployment_id not in snapshot.deployments:
        raise Invalid(f"deployment: there is no deployment {asked.deployment_id!r}")


async def _is_out(world: World, task: int, version: int) -> bool | None:
    """Whether this version was published, after a wait if need be; None where the broker can not tell."""
    for tries in range(_PUBLISH_TRIES):
        out = await world.statuses.published_version(task)
        if out is None or out >= version:
            return None if out is None else True
        if out < version - 1:
            break
        await asyncio.sleep(_PUBLISH_WAIT_S if tries else 0)
    return False


async def _read(
    world: World, task: int, asked: Asked, derived: Rederivation, since_ms: int, progress: Progress
) -> bool:
    """Returns whether the partition was read to where it had to be."""
    end = await world.statuses.end(task)
    done, total = 0, 0
    async with aclosing(world.statuses.read(task, since_ms, end)) as chunks:
        async for chunk, done, total in chunks:  # noqa: B007
            await _count(world, asked, derived, chunk)
            progress(task, done, total)
            if derived.ahead is not None:
                progress(task, total, total)
                return True
    return done >= total


async def _count(world: World, asked: Asked, derived: Rederivation, chunk: Sequence[Published]) -> None:
    opened = derived.take(chunk)
    if asked.deployment_id is not None:
        opened = [one for one in opened if one.key.deployment_id == asked.deployment_id]
    if asked.since is not None:
        opened = [one for one in opened if one.key.hour >= asked.since]
    if opened:
        derived.add_features(opened, await world.inputs.find([one.place for one in opened]))


def _slot_statuses(snapshot: Snapshot) -> list[Published]:
    return [
        Published(snapshot.task, -1, record.timestamp, record.key or b"", record.value, record.headers)
        for batch in unpack_slot(snapshot.slot)
        if batch.topic == Topic.STATUS
        for record in records_of(batch)
    ]


def _most_skew(deployments: Mapping[str, Deployment]) -> int:
    return max((one.join.spans.max_future_skew for one in deployments.values()), default=0)


def _whole_from(missing: Sequence[Missing], since: int | None, margin: int) -> int | None:
    """A prediction whose status was published by then can not be of a later hour."""
    ends = [_NEVER if gap.after_ms is None else gap.after_ms * 1000 + margin for gap in missing]
    if since is not None:
        ends.append(since)
    return max(ends, default=None)


def _told(
    snapshot: Snapshot,
    derived: Rederivation,
    compared: Compared,
    scope: Scope,
    faults: list[str],
    *,
    waits: bool,
    ended: bool,
) -> VerifiedTask:
    notes = unchecked(snapshot, derived, compared, scope, waits=waits, ended=ended)
    incomplete = derived.missing and scope.whole_from is not None and scope.whole_from < _NEVER
    return VerifiedTask(
        task=snapshot.task,
        version=snapshot.version,
        seq=snapshot.seq,
        statuses=derived.statuses,
        cells=compared.cells,
        whole_from=rfc3339_clamped(scope.whole_from) if incomplete and scope.whole_from is not None else None,
        differences=compared.differences,
        faults=faults,
        unchecked=notes,
    )
