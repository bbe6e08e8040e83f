"""What a round of any benchmark needs: a fresh database, fresh topics, and workers in processes of their own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray
from pydantic import SecretStr

from bench.workloads import PARTITIONS as PARTITIONS
from bench.workloads import Events
from service.adapters.kafka.topics import create_topics
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import open_pool
from service.commands import apply_deployment
from service.config import PostgresSettings
from service.devstack import DevStack
from service.devstack.demo.replay import Replay
from service.domain.ids import murmur2_many
from service.domain.records import INPUT_TOPICS, topic_name

_BATCH_BYTES = 1 << 20


@asynccontextmanager
async def fresh_round(stack: DevStack, name: str, *deployments: Path, **settings: str) -> AsyncIterator[dict[str, str]]:
    """The environment of a worker over a database with these deployments, and empty topics; all of that name."""
    async with open_pool(stack.postgres_dsn, size=2, application_name="bench") as pool:
        await pool.execute(f'CREATE DATABASE "{name}"')
    dsn = stack.postgres_dsn.rsplit("/", 1)[0] + f"/{name}"
    await migrate(dsn)
    options = {"bootstrap_servers": stack.bootstrap_servers}
    await create_topics(options, name, partitions=PARTITIONS, replication_factor=1, min_insync=1)
    with TemporaryDirectory(prefix="hindsight-bench-") as state:
        settings |= {
            "KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "KAFKA__TOPIC_PREFIX": name,
            "KAFKA__GROUP_ID": name,
            "POSTGRES__DSN": dsn,
            "WORKER__STATE_DIR": state,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HINDSIGHT_")}
        environment |= {f"HINDSIGHT_{key}": value for key, value in settings.items()}
        for deployment in deployments:
            await apply_deployment(PostgresSettings(dsn=SecretStr(dsn)), deployment)
        yield environment


async def load(servers: str, prefix: str, replay: Replay) -> None:
    """Put the whole backlog into the input topics, each record where its key belongs, with the time of now."""
    homes = murmur2_many(replay.keys) % PARTITIONS
    async with _loading(servers, prefix) as loading:
        await loading.add(replay.topics, homes, None, replay.keys, replay.values)


async def load_events(servers: str, prefix: str, chunks: Iterable[Events]) -> int:
    """Put a workload into the input topics, with its own Kafka timestamps; returns how many events there were."""
    loaded = 0
    async with _loading(servers, prefix) as loading:
        for events in chunks:
            await loading.add(events.topics, events.partitions, events.timestamps_ms, events.keys, events.values)
            loaded += len(events)
    return loaded


class _Loading:
    """Fills producer batches itself, which costs far less than `send` for each record."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str) -> None:
        self._producer, self._prefix = producer, prefix
        self._batches: dict[tuple[int, int], Any] = {}

    async def add(
        self,
        topics: NDArray[np.int8],
        partitions: NDArray[np.int64],
        timestamps_ms: NDArray[np.int64] | None,
        keys: list[bytes],
        values: list[bytes],
    ) -> None:
        """Events (n,) in order."""
        times = repeat(None, len(keys)) if timestamps_ms is None else timestamps_ms.tolist()
        for kind, partition, at, key, value in zip(
            topics.tolist(), partitions.tolist(), times, keys, values, strict=True
        ):
            place = (kind, partition)
            batch = self._batches.get(place)
            if batch is None or batch.append(key=key, value=value, timestamp=at) is None:
                if batch is not None:
                    await self._send(place)
                batch = self._batches[place] = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=at)

    async def _send(self, place: tuple[int, int]) -> None:
        name = topic_name(self._prefix, INPUT_TOPICS[place[0]])
        await (await self._producer.send_batch(self._batches.pop(place), name, partition=place[1]))

    async def finish(self) -> None:
        for place in list(self._batches):
            await self._send(place)


@asynccontextmanager
async def _loading(servers: str, prefix: str) -> AsyncIterator[_Loading]:
    """Every record is acknowledged by all replicas, and there once, when it ends."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        enable_idempotence=True,
        max_batch_size=_BATCH_BYTES,
        max_request_size=2 * _BATCH_BYTES,
    )
    await producer.start()
    try:
        loading = _Loading(producer, prefix)
        yield loading
        await loading.finish()
    finally:
        await producer.stop()


async def run(arguments: list[str], environment: dict[str, str]) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await child.communicate()
    if child.returncode:
        raise SystemExit(f"python {' '.join(arguments)} ended with {child.returncode}")
    return printed.decode()
