"""The same worlds over real servers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from service.adapters.clock import SystemClock
from service.adapters.kafka.sink import KafkaSink, open_sink
from service.adapters.kafka.source import KafkaSource, open_source
from service.adapters.kafka.status_log import KafkaStatusLog
from service.adapters.kafka.topics import create_topics
from service.adapters.postgres.catalog import PostgresCatalog
from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.monitoring_batches import PostgresMonitoringBatches
from service.adapters.postgres.pool import open_pool
from service.domain.deployment import Deployment
from service.domain.ids import murmur2
from service.domain.monitoring_batch import MonitoringBatch
from service.domain.records import topic_name
from service.ports import Ledger, RecordSink, RecordSource, StatusLog
from service.usecases.monitoring_batches import BatchChange
from tests.builders import RECENT_MS
from tests.contract.worlds import LedgerWorld, LogWorld

_PUT = """
INSERT INTO deployments (id, label, origin, target_type, class_names, positive_class, threshold, current_model_id)
VALUES ($1, $1, 'registered', $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET threshold = excluded.threshold, version = deployments.version + 1
"""
_EMIT = "INSERT INTO outbox (home_hash, key, value) VALUES ($1, $2, $3)"


class PostgresLedgerWorld:
    """A migrated database of its own."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._catalog = PostgresCatalog(pool)
        self._batches = PostgresMonitoringBatches(pool)
        self.ledger: Ledger = PostgresLedger(pool)

    async def put(self, deployment: Deployment) -> Deployment:
        classes = sorted(deployment.class_index, key=lambda label: deployment.class_index[label])
        settings = (deployment.positive_class, deployment.threshold, deployment.current_model)
        await self._pool.execute(_PUT, deployment.id, deployment.target_type, classes, *settings)
        return (await self._catalog.deployments([deployment.id]))[deployment.id]

    async def open_batch(self, deployment_id: str, name: str) -> MonitoringBatch:
        return (await self._catalog.batches_named([(deployment_id, name)], "api"))[deployment_id, name]

    async def lock(self, deployment_id: str, batch_id: str) -> None:
        assert (
            await self._batches.change(deployment_id, batch_id, BatchChange(is_locked=True), even_where_off=True)
        ).is_locked

    async def delete_batch(self, deployment_id: str, batch_id: str) -> None:
        assert await self._batches.delete(deployment_id, batch_id)

    async def emit(self, key: bytes, value: bytes) -> None:
        await self._pool.execute(_EMIT, murmur2(key), key, value)

    async def empty_outbox(self) -> None:
        await self._pool.execute("DELETE FROM outbox")


@asynccontextmanager
async def postgres_ledger(dsn: str) -> AsyncIterator[LedgerWorld]:
    """Over an empty database."""
    await migrate(dsn)
    async with open_pool(dsn, size=2, application_name="contract") as pool:
        await PostgresLedger(pool).claim("hindsight", 4, {})
        yield PostgresLedgerWorld(pool)


class KafkaLogWorld:
    """Topics of its own on a broker that others use, too; members join a group of its own."""

    def __init__(
        self, options: dict[str, Any], prefix: str, stack: AsyncExitStack, producer: AIOKafkaProducer, sink: KafkaSink
    ) -> None:
        self._options = options
        self._prefix = prefix
        self._stack = stack
        self._producer = producer
        self._sink = sink

    async def source(self) -> RecordSource:
        source = await self._member("one")
        while len(source.assignment) < 4:
            await source.assignment_changed()
        return source

    async def take_away(self, source: RecordSource) -> int:
        before = source.assignment
        await self._member("other")
        while source.assignment == before:
            await source.assignment_changed()
        return max(before - source.assignment)

    def sink(self) -> RecordSink:
        return self._sink

    def status_log(self) -> StatusLog:
        return KafkaStatusLog(self._options, self._prefix)

    async def produce(
        self, topic: str, partition: int, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()
    ) -> int:
        sent = await self._producer.send_and_wait(
            topic_name(self._prefix, topic),
            value,
            key,
            partition,
            timestamp_ms=RECENT_MS,
            headers=list(headers),
        )
        return int(sent.offset)

    async def _member(self, instance: str) -> KafkaSource:
        opening = open_source(
            self._options,
            prefix=self._prefix,
            clock=SystemClock(),
            group_id=self._prefix,
            instance=instance,
            session_timeout_ms=10_000,
            on_disk=frozenset,
            stay=False,
        )
        return await self._stack.enter_async_context(opening)


@asynccontextmanager
async def kafka_logs(bootstrap_servers: str, prefix: str) -> AsyncIterator[LogWorld]:
    """Over topics that it creates."""
    options = {"bootstrap_servers": bootstrap_servers}
    await create_topics(options, prefix, partitions=4, replication_factor=1, min_insync=1)
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(AIOKafkaProducer(**options))
        opening = open_sink(options, prefix=prefix, group_id=prefix, transactions=True)
        yield KafkaLogWorld(options, prefix, stack, producer, await stack.enter_async_context(opening))
