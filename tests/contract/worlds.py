"""What a contract suite needs of an adapter's surroundings, beside the port itself: the other side's hand.

An adapter joins a suite by a world of its own and one more line in the lists of `conftest.py`.
"""

from collections.abc import Sequence
from typing import Protocol

from service.adapters.memory import (
    MemoryBroker,
    MemoryCatalog,
    MemoryLedger,
    MemorySink,
    MemorySource,
    MemoryStatusLog,
)
from service.domain.deployment import Deployment
from service.domain.monitoring_batch import MonitoringBatch
from service.ports import Ledger, RecordSink, RecordSource, StatusLog
from tests.builders import RECENT_MS


class LogWorld(Protocol):
    """A broker with four empty partitions of every topic."""

    async def source(self) -> RecordSource:
        """The only member of its group: every task is its own."""

    async def take_away(self, source: RecordSource) -> int:
        """Give one of the source's tasks to another member; returns that task."""

    def sink(self) -> RecordSink: ...

    def status_log(self) -> StatusLog: ...

    async def produce(
        self, topic: str, partition: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
    ) -> int:
        """Append a record with timestamp 1,700,000,000,000; returns its offset."""


class LedgerWorld(Protocol):
    """An empty database."""

    ledger: Ledger

    async def put(self, deployment: Deployment) -> Deployment:
        """Register a deployment or change it; returns it at its version."""

    async def open_batch(self, deployment_id: str, name: str) -> MonitoringBatch: ...

    async def lock(self, deployment_id: str, batch_id: str) -> None: ...

    async def delete_batch(self, deployment_id: str, batch_id: str) -> None: ...

    async def emit(self, key: bytes, value: bytes) -> None:
        """Leave an event in the outbox."""

    async def empty_outbox(self) -> None:
        """Forget what opening batches and the like have left there."""


class MemoryLogWorld:
    """A `MemoryBroker`."""

    def __init__(self) -> None:
        self._broker = MemoryBroker(partitions=4)

    async def source(self) -> RecordSource:
        source = MemorySource(self._broker, "one")
        self._broker.assign("one", range(4))
        await source.assignment_changed()
        return source

    async def take_away(self, source: RecordSource) -> int:
        task = max(source.assignment)
        self._broker.assign("one", source.assignment - {task})
        self._broker.assign("other", {task})
        return task

    def sink(self) -> RecordSink:
        return MemorySink(self._broker)

    def status_log(self) -> StatusLog:
        return MemoryStatusLog(self._broker)

    async def produce(
        self, topic: str, partition: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
    ) -> int:
        return self._broker.produce(topic, key, value, partition=partition, headers=headers, timestamp=RECENT_MS)


class MemoryLedgerWorld:
    """A `MemoryCatalog` and the ledger that checks against it."""

    def __init__(self) -> None:
        self._catalog = MemoryCatalog()
        self.ledger: Ledger = MemoryLedger(self._catalog)

    async def put(self, deployment: Deployment) -> Deployment:
        return self._catalog.put(deployment)

    async def open_batch(self, deployment_id: str, name: str) -> MonitoringBatch:
        return self._catalog.open_batch(deployment_id, name)

    async def lock(self, deployment_id: str, batch_id: str) -> None:
        self._catalog.lock(deployment_id, batch_id)

    async def delete_batch(self, deployment_id: str, batch_id: str) -> None:
        self._catalog.delete_batch(deployment_id, batch_id)

    async def emit(self, key: bytes, value: bytes) -> None:
        self._catalog.emit(key, value)

    async def empty_outbox(self) -> None:
        self._catalog.outbox.clear()
