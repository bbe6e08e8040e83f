"""`make bench`: starts real servers, loads the flights backlog, and lets one worker eat it, several times."""

import argparse
import asyncio
import json
import os
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.adapters.kafka.topics import create_topics
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import open_pool
from service.devstack import DevStack, open_devstack
from service.devstack.demo.deployment import write_deployment
from service.devstack.demo.events import flights_replay
from service.devstack.demo.flights import read_flights
from service.devstack.demo.replay import Replay
from service.domain.ids import murmur2_many
from service.domain.records import INPUT_TOPICS, topic_name

PARTITIONS = 4
_BATCH_BYTES = 1 << 20


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


async def one_round(stack: DevStack, number: int, replay: Replay, deployment: Path) -> dict[str, Any]:
    """A fresh database, fresh topics, a fresh worker process."""
    prefix, name = f"bench-{number}", f"bench_{number}"
    async with open_pool(stack.postgres_dsn, size=2, application_name="bench") as pool:
        await pool.execute(f'CREATE DATABASE "{name}"')
    dsn = stack.postgres_dsn.rsplit("/", 1)[0] + f"/{name}"
    await migrate(dsn)
    options = {"bootstrap_servers": stack.bootstrap_servers}
    await create_topics(options, prefix, partitions=PARTITIONS, replication_factor=1, min_insync=1)
    await load(stack.bootstrap_servers, prefix, replay)
    with TemporaryDirectory(prefix="hindsight-bench-") as state:
        settings = {
            "HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "HINDSIGHT_KAFKA__TOPIC_PREFIX": prefix,
            "HINDSIGHT_KAFKA__GROUP_ID": prefix,
            "HINDSIGHT_POSTGRES__DSN": dsn,
            "HINDSIGHT_WORKER__STATE_DIR": state,
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HINDSIGHT_")} | settings
        await run(["-m", "service", "deployments", "apply", str(deployment)], environment)
        printed = await run(["-m", "bench.backlog", str(len(replay.keys))], environment)
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return figures


async def run(arguments: list[str], environment: dict[str, str]) -> str:
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await child.communicate()
    if child.returncode:
        raise SystemExit(f"python {' '.join(arguments)} ended with {child.returncode}")
    return printed.decode()


async def measure(rounds: int, rows: int) -> list[dict[str, Any]]:
    replay = flights_replay().head(rows)
    with TemporaryDirectory(prefix="hindsight-bench-") as directory:
        deployment = write_deployment(Path(directory), read_flights())
        async with open_devstack(None, broker="kafka", say=lambda line: print(line, file=sys.stderr)) as stack:
            return [
                await one_round(stack, number, replay, deployment)
                for number in track(range(rounds), description="rounds", console=Console(stderr=True))
            ]


def shown(rounds: list[dict[str, Any]]) -> Table:
    table = Table(title=f"one worker, {rounds[0]['events']:,} events of real flights, {PARTITIONS} partitions")
    for column in ("figure", "least", "median", "most"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    figures = {
        name: [one[name] for one in rounds]
        for name in ("events_per_s", "cpu_s_per_million", "of_it_event_loop", "rss_mb", "micro_batches")
    }
    for stage in rounds[0]["stages_us"]:
        figures[f"{stage}, CPU µs per event"] = [one["stages_us"][stage] for one in rounds]
    for name, values in figures.items():
        table.add_row(name, *(f"{value:,}" for value in (min(values), statistics.median(values), max(values))))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=336_776, help="flights")
    arguments = parser.parse_args()
    rounds = asyncio.run(measure(arguments.rounds, arguments.rows))
    Console().print(shown(rounds))
    for one in rounds:
        print(json.dumps(one))


if __name__ == "__main__":
    main()
