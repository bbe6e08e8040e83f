"""What a round of any benchmark needs: a fresh database, fresh topics, and workers in processes of their own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiokafka import AIOKafkaProducer

from service.adapters.kafka.topics import create_topics
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import open_pool
from service.devstack import DevStack
from service.devstack.demo.replay import Replay
from service.domain.ids import murmur2_many
from service.domain.records import INPUT_TOPICS, topic_name

PARTITIONS = 4
_BATCH_BYTES = 1 << 20


@asynccontextmanager
async def fresh_round(stack: DevStack, name: str, deployment: Path, **settings: str) -> AsyncIterator[dict[str, str]]:
    """The environment of a worker over a database with this deployment, and empty topics; all of that name."""
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
        await run(["-m", "service", "deployments", "apply", str(deployment)], environment)
        yield environment


async def load(servers: str, prefix: str, replay: Replay) -> None:
    """Put the whole backlog into the input topics, each record where its key belongs."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, max_batch_size=_BATCH_BYTES, max_request_size=2 * _BATCH_BYTES
    )
    await producer.start()
    homes = (murmur2_many(replay.keys) % PARTITIONS).tolist()
    batches: dict[tuple[int, int], Any] = {}

    async def send(place: tuple[int, int]) -> None:
        name = topic_name(prefix, INPUT_TOPICS[place[0]])
        await (await producer.send_batch(batches.pop(place), name, partition=place[1]))

    for kind, home, key, value in zip(replay.topics.tolist(), homes, replay.keys, replay.values, strict=True):
        place = (kind, home)
        batch = batches.setdefault(place, None) or producer.create_batch()
        batches[place] = batch
        if batch.append(key=key, value=value, timestamp=None) is None:
            await send(place)
            batches[place] = producer.create_batch()
            batches[place].append(key=key, value=value, timestamp=None)
    for place in list(batches):
        await send(place)
    await producer.stop()


async def run(arguments: list[str], environment: dict[str, str]) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await child.communicate()
    if child.returncode:
        raise SystemExit(f"python {' '.join(arguments)} ended with {child.returncode}")
    return printed.decode()
