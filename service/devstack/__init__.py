"""The embedded servers of a developer's machine: a broker and a Postgres that start and stop with the program.

    async with open_devstack(Path(".hindsight")) as stack:
        ...  # stack.bootstrap_servers, stack.postgres_dsn

A data directory belongs to one stack at a time. A second start over it goes on where the first ended, with Apache
Kafka. Tansu holds its topics in memory: a Postgres that remembered what its broker has forgotten would be worse than
an empty one, so there Postgres starts empty each time, in a directory of its own, and the Postgres that belongs to a
Kafka over the same data directory is left alone. Whatever way the block is left, every process has ended afterwards.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.devstack.errors import CommandFailed, DevStackError, MissingSoftware, ServerFailed
from service.devstack.java import KafkaSoftware, find_kafka
from service.devstack.kafka import Kafka, open_kafka
from service.devstack.lock import locked
from service.devstack.postgres import Postgres, open_postgres
from service.devstack.tansu import NAME as TANSU
from service.devstack.tansu import Tansu, find_tansu, open_tansu

__all__ = [
    "Broker",
    "DevStack",
    "DevStackError",
    "Kafka",
    "MissingSoftware",
    "Postgres",
    "ServerFailed",
    "Tansu",
    "open_devstack",
]

Broker = Literal["auto", "kafka", "tansu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DevStack:
    bootstrap_servers: str
    postgres_dsn: str = field(repr=False)
    broker: str
    """`Apache Kafka <version>` or `Tansu (in memory)`."""
    transactions: bool
    """Whether the broker has transactions: Tansu has none."""
    kafka: Kafka | Tansu
    postgres: Postgres


def say_nothing(line: str) -> None:
    """For those who do not want to hear of progress."""


@asynccontextmanager
async def open_devstack(
    data_dir: Path | None, *, broker: Broker = "auto", say: Callable[[str], None] = say_nothing
) -> AsyncIterator[DevStack]:
    """A running stack over `data_dir`, or over a temporary directory that is removed at the end.

    Raises DirectoryInUse, MissingSoftware, CommandFailed or ServerFailed, all of them DevStackErrors, with nothing
    left running.
    """
    async with AsyncExitStack() as stack:
        home = await stack.enter_async_context(_home(data_dir))
        held = (await stack.enter_async_context(locked(home)),)
        software = await _choose(broker, say)
        try:
            async with asyncio.TaskGroup() as starting:
                serving = starting.create_task(stack.enter_async_context(_open_broker(home, software, held)))
                storing = starting.create_task(stack.enter_async_context(_open_postgres(home, software, held, say)))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None  # the second server was cancelled, or failed of the same cause
        yield _described(serving.result(), storing.result())


async def _choose(broker: Broker, say: Callable[[str], None]) -> KafkaSoftware | None:
    """Kafka's software, or None for Tansu."""
    if broker == "tansu":
        return None
    try:
        return await find_kafka(say)
    except (MissingSoftware, CommandFailed) as without_kafka:
        if broker == "kafka":
            raise
        _require_tansu(without_kafka)
        say(f"{without_kafka}\ngoing on with {TANSU}: without transactions, and empty at every start")
        return None


def _require_tansu(without_kafka: DevStackError) -> None:
    try:
        find_tansu()
    except MissingSoftware as without_tansu:
        raise MissingSoftware(f"{without_kafka}\nor, for a broker in memory: {without_tansu}") from None


def _open_broker(
    home: Path, software: KafkaSoftware | None, held: tuple[int, ...]
) -> AbstractAsyncContextManager[Kafka | Tansu]:
    if software is None:
        return open_tansu(home / "tansu", held=held)
    return open_kafka(home / "kafka", software=software, held=held)


@asynccontextmanager
async def _open_postgres(
    home: Path, software: KafkaSoftware | None, held: tuple[int, ...], say: Callable[[str], None]
) -> AsyncIterator[Postgres]:
    directory = home / "postgres"
    if software is None:
        directory = home / "postgres-of-tansu"
        await asyncio.to_thread(_remove, directory)
    async with open_postgres(directory, say=say, held=held) as postgres:
        yield postgres


def _described(broker: Kafka | Tansu, postgres: Postgres) -> DevStack:
    return DevStack(
        bootstrap_servers=broker.bootstrap_servers,
        postgres_dsn=postgres.dsn,
        broker=broker.name,
        transactions=isinstance(broker, Kafka),
        kafka=broker,
        postgres=postgres,
    )


@asynccontextmanager
async def _home(data_dir: Path | None) -> AsyncIterator[Path]:
    if data_dir is not None:
        yield _made(data_dir)
        return
    directory = _made_for_now()
    try:
        yield directory
    finally:
        await asyncio.to_thread(_remove, directory)


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def _made_for_now() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="hindsight-"))
    if os.geteuid() == 0:
        directory.chmod(0o711)  # Postgres runs as another user then
    return directory


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
