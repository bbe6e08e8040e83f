"""The adapters that each suite runs over. One more is one more entry in a list, and a fixture where it needs one.

A suite asks for `stores`, `logs` or `world`; each gives the adapters of its list in turn.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from service.adapters.memory import MemoryStores
from service.adapters.rocksdb import RocksDbStores
from service.devstack.kafka import Kafka
from service.ports import StateStores
from tests.contract.real_worlds import kafka_logs, postgres_ledger
from tests.contract.worlds import LedgerWorld, LogWorld, MemoryLedgerWorld, MemoryLogWorld

STORES: Mapping[str, Callable[[Path], StateStores]] = {
    "memory": lambda _: MemoryStores(),
    "rocksdb": lambda directory: RocksDbStores(directory, cache_bytes=8 << 20),
}
LOGS = [
    pytest.param("memory_logs", id="memory"),
    pytest.param("kafka_world", id="kafka", marks=pytest.mark.integration),
]
LEDGERS = [
    pytest.param("memory_world", id="memory"),
    pytest.param("postgres_world", id="postgres", marks=pytest.mark.integration),
]


@pytest.fixture(params=STORES)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> StateStores:
    return STORES[request.param](tmp_path)


@pytest.fixture(params=LOGS)
def logs(request: pytest.FixtureRequest) -> LogWorld:
    world: LogWorld = request.getfixturevalue(request.param)
    return world


@pytest.fixture(params=LEDGERS)
def world(request: pytest.FixtureRequest) -> LedgerWorld:
    world: LedgerWorld = request.getfixturevalue(request.param)
    return world


@pytest.fixture
def memory_logs() -> LogWorld:
    return MemoryLogWorld()


@pytest.fixture
def memory_world() -> LedgerWorld:
    return MemoryLedgerWorld()


@pytest.fixture
async def postgres_world(database: str) -> AsyncIterator[LedgerWorld]:
    async with postgres_ledger(database) as world:
        yield world


@pytest.fixture
async def kafka_world(kafka: Kafka, topic_prefix: str) -> AsyncIterator[LogWorld]:
    async with kafka_logs(kafka.bootstrap_servers, topic_prefix.strip(".")) as world:
        yield world
