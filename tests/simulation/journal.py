"""What is seen of a run from outside the processes, in its true order: commits, publishes, and what people changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.adapters.memory import MemoryBroker, MemoryCatalog, MemoryLedger
from service.adapters.memory.ledger import _Task
from service.domain.monitoring_batch import MonitoringBatch
from service.ports import MicroBatch, OutRecord
from tests.simulation.facts import Place
from tests.simulation.oracle import Oracle
from tests.simulation.workload import Rules, Sent


@dataclass(frozen=True, slots=True)
class Commit:
    batch: MicroBatch
    wall_us: int


@dataclass(frozen=True, slots=True)
class Publish:
    task: int
    version: int
    records: Sequence[OutRecord]


@dataclass(frozen=True, slots=True)
class Act:
    """What a person, or a prediction that names a new batch, changed; to be told to the oracle."""

    tell: Callable[[Oracle], None]


@dataclass(slots=True)
class Journal:
    sent: dict[Place, Sent] = field(default_factory=dict)
    entries: list[Commit | Publish | Act] = field(default_factory=list)
    events: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Events of monitoring batches, as they were left in the outbox."""


class SeenBroker(MemoryBroker):
    def __init__(self, partitions: int, journal: Journal) -> None:
        super().__init__(partitions)
        self._journal = journal

    def commit(self, task, records, positions, version):  # type: ignore[no-untyped-def]
        super().commit(task, records, positions, version)
        self._journal.entries.append(Publish(task, version, tuple(records)))


class SeenLedger(MemoryLedger):
    def __init__(self, catalog: MemoryCatalog, journal: Journal) -> None:
        super().__init__(catalog)
        self._journal = journal

    def _write(self, batch: MicroBatch, known: _Task) -> None:
        super()._write(batch, known)
        wall = round(self._catalog.clock.now().timestamp() * 1_000_000)
        self._journal.entries.append(Commit(batch, wall))


class SeenCatalog(MemoryCatalog):
    """Tells the oracle of every change."""

    journal: Journal

    def open_batch(self, deployment_id: str, name: str) -> MonitoringBatch:
        batch = super().open_batch(deployment_id, name)
        self.journal.entries.append(Act(lambda oracle: oracle.opened(deployment_id, batch.id, name)))
        return batch

    def lock(self, deployment_id: str, batch_id: str) -> MonitoringBatch:
        self.journal.entries.append(Act(lambda oracle: oracle.locked(deployment_id, batch_id, True)))
        return super().lock(deployment_id, batch_id)

    def unlock(self, deployment_id: str, batch_id: str) -> MonitoringBatch:
        self.journal.entries.append(Act(lambda oracle: oracle.locked(deployment_id, batch_id, False)))
        return super().unlock(deployment_id, batch_id)

    def delete_batch(self, deployment_id: str, batch_id: str) -> MonitoringBatch:
        self.journal.entries.append(Act(lambda oracle: oracle.deleted(deployment_id, batch_id)))
        return super().delete_batch(deployment_id, batch_id)

    def rule(self, rules: Rules) -> None:
        """The oracle hears of these rules; the deployment itself is put by the caller."""

        def tell(oracle: Oracle) -> None:
            oracle.rules[rules.id] = rules

        self.journal.entries.append(Act(tell))

    def emit(self, key: bytes, value: bytes) -> int:
        self.journal.events.append((key, value))
        return super().emit(key, value)
