"""In-memory twins of all adapters, for tests and the simulation. The contract suites hold them to the real ones."""

from service.adapters.memory.broker import Committed, MemoryBroker, MemoryLog, MemoryRecord
from service.adapters.memory.catalog import MemoryCatalog
from service.adapters.memory.clock import HandClock
from service.adapters.memory.ledger import MemoryLedger, PersistFault
from service.adapters.memory.sink import MemoryPublisher, MemorySink, PublishFault
from service.adapters.memory.source import MemorySource
from service.adapters.memory.status_log import MemoryStatusLog
from service.adapters.memory.store import MemoryStore, MemoryStores

__all__ = [
    "Committed",
    "HandClock",
    "MemoryBroker",
    "MemoryCatalog",
    "MemoryLedger",
    "MemoryLog",
    "MemoryPublisher",
    "MemoryRecord",
    "MemorySink",
    "MemorySource",
    "MemoryStatusLog",
    "MemoryStore",
    "MemoryStores",
    "PersistFault",
    "PublishFault",
]
