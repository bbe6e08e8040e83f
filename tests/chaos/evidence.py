"""What is left when all workers have ended: topics, ledger, cells and disks, read in full."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.rocksdb.store import RocksDbStores
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.ports import AccuracyCellKey, PredictionCellKey, Topic
from service.wire.dead_letter import DeadLetter, read_dead_letter
from tests.integration.worker import Read, Site
from tests.simulation.facts import Place
from tests.simulation.workload import DEPLOYMENTS, Sent

_DAY_US = 86_400_000_000
_CACHE_BYTES = 32 << 20


class Disk(NamedTuple):
    """The store of one task on one disk."""

    name: str
    task: int
    version: int
    rows: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """All cells of one task."""

    traffic: dict[PredictionCellKey, Traffic]
    accuracy: dict[AccuracyCellKey, Accuracy]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    partitions: int
    sent: dict[Place, Sent]
    """Every record of the input topics: they say what was sent, not the producer."""
    statuses: Sequence[Sequence[Read]]
    """By partition."""
    letters: Sequence[DeadLetter]
    rekeyed: Sequence[Read]
    batch_events: Sequence[Read]
    ledger: Mapping[int, asyncpg.Record]
    published: Mapping[int, int]
    clocks: Sequence[asyncpg.Record]
    submissions: Mapping[tuple[int, str, str], int]
    batches: Sequence[asyncpg.Record]
    cells: Sequence[Cells]
    cells_there: int
    """How many cells the tables hold in all."""
    disks: Sequence[Disk]

    @property
    def commits(self) -> int:
        return sum(row["version"] for row in self.ledger.values())

    @property
    def takeovers(self) -> int:
        return sum(row["epoch"] for row in self.ledger.values())


async def gather(site: Site, names: Sequence[str], first: datetime, last: datetime) -> Evidence:
    """Everything; `names` are the instances whose disks are looked at, cells lie between `first` and `last`."""
    statuses: list[list[Read]] = [[] for _ in range(site.partitions)]
    for status in await site.statuses():
        statuses[status.partition].append(status)
    ledger = await site.pool.fetch("SELECT * FROM ledger")
    submissions = await site.pool.fetch("SELECT task, submission_id, status, records FROM submission_counts")
    there = "SELECT (SELECT count(*) FROM prediction_cells) + (SELECT count(*) FROM accuracy_cells)"
    return Evidence(
        partitions=site.partitions,
        sent=await _sent(site),
        statuses=statuses,
        letters=[_letter(read) for read in await site.read(Topic.DLQ)],
        rekeyed=await site.read(Topic.REKEY),
        batch_events=await site.read(Topic.BATCHES),
        ledger={row["task"]: row for row in ledger},
        published=await site.published(),
        clocks=await site.pool.fetch("SELECT * FROM clocks"),
        submissions={(row["task"], row["submission_id"], row["status"]): row["records"] for row in submissions},
        batches=await site.pool.fetch("SELECT deployment_id, id, name FROM monitoring_batches"),
        cells=[await _cells(site, task, first, last) for task in range(site.partitions)],
        cells_there=await site.pool.fetchval(there),
        disks=await asyncio.to_thread(lambda: [disk for name in names for disk in _disks(site, name)]),
    )


async def _sent(site: Site) -> dict[Place, Sent]:
    sent: dict[Place, Sent] = {}
    for role in (Topic.PREDICTIONS, Topic.ACTUALS):
        for read in await site.read(role):
            key = None if read.key is None else read.key.decode()
            made = Sent(role, read.value or b"", key, False, tuple(read.headers), read.timestamp_ms)  # type: ignore[arg-type]
            sent[str(role), read.partition, read.offset] = made
    return sent


def _letter(read: Read) -> DeadLetter:
    letter = read_dead_letter(read.partition, read.offset, read.timestamp_ms, read.key, read.value, read.headers)
    assert letter is not None, f"no dead letter at {read.partition}/{read.offset}"
    return letter


async def _cells(site: Site, task: int, first: datetime, last: datetime) -> Cells:
    ledger = PostgresLedger(site.pool)
    traffic: dict[PredictionCellKey, Traffic] = {}
    accuracy: dict[AccuracyCellKey, Accuracy] = {}
    begin = int((first - timedelta(days=1)).timestamp()) * 1_000_000 // _DAY_US * _DAY_US
    for day in range(begin, int((last + timedelta(days=2)).timestamp()) * 1_000_000, _DAY_US):
        for rules in DEPLOYMENTS:
            found = await ledger.cells_of_day(task, rules.id, day)
            traffic |= found[0]
            accuracy |= found[1]
    return Cells(traffic=traffic, accuracy=accuracy)


def _disks(site: Site, name: str) -> Iterator[Disk]:
    stores = RocksDbStores(site.state_dir(name), _CACHE_BYTES)
    for task in sorted(stores.tasks_on_disk()):
        with closing(stores.open(task)) as store:
            if store.position is not None:
                yield Disk(name, task, store.position.version, dict(store.rows()))
