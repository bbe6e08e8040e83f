"""Fixtures that every test may ask for: real servers, each started once in a run and only when a test asks for it.

Without Java 17 or Maven the tests on Apache Kafka are skipped, visibly; with CI=true in the environment that is a
failure.
"""

import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest

from service.devstack.errors import MissingSoftware
from service.devstack.java import KafkaSoftware, find_kafka
from service.devstack.kafka import Kafka, open_kafka
from service.devstack.postgres import Postgres, open_postgres

hypothesis.settings.register_profile("hindsight", deadline=None)  # no test judges how fast a machine is
hypothesis.settings.load_profile("hindsight")

_SERVERS = pytest.StashKey[list[str]]()
_REAL_SERVERS = {"kafka", "postgres", "database", "migrated_database"}


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SERVERS] = []
    config.addinivalue_line("markers", "integration: runs on real servers (marked by itself, from the fixtures)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _REAL_SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ran = sum(len(terminalreporter.getreports(outcome)) for outcome in ("passed", "failed", "xfailed", "xpassed"))
    started = config.stash[_SERVERS]
    terminalreporter.write_line(f"{ran} tests; {', '.join(started) or 'no server was needed'}")


@contextmanager
def _open_directory() -> Iterator[Path]:
    """Open for passing through, unlike `tmp_path`, so that Postgres may run as another user than root."""
    with tempfile.TemporaryDirectory(prefix="hindsight-tests-") as made:
        directory = Path(made)
        directory.chmod(0o711)
        yield directory


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """For a stack of the test's own; not made yet."""
    with _open_directory() as directory:
        yield directory / "data"


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """For the data of the shared servers."""
    with _open_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
async def kafka_software() -> KafkaSoftware:
    try:
        return await find_kafka(_say)
    except MissingSoftware as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
async def kafka(
    server_directory: Path, kafka_software: KafkaSoftware, pytestconfig: pytest.Config
) -> AsyncIterator[Kafka]:
    """A running Apache Kafka, shared by the whole run: keep to topics with your `topic_prefix`."""
    async with open_kafka(server_directory / "kafka", software=kafka_software) as running:
        pytestconfig.stash[_SERVERS].insert(0, f"broker: {running.name} (KRaft)")
        yield running


@pytest.fixture(scope="session")
async def postgres(server_directory: Path, pytestconfig: pytest.Config) -> AsyncIterator[Postgres]:
    """A running Postgres, shared by the whole run: take a `database` of your own."""
    async with open_postgres(server_directory / "postgres", say=_say) as running:
        pytestconfig.stash[_SERVERS].append(running.name)
        yield running


@asynccontextmanager
async def open_database(postgres: Postgres, template: str = "template1") -> AsyncIterator[str]:
    """The DSN of a fresh copy of a database, dropped afterwards; without a template an empty one."""
    name = f"test_{secrets.token_hex(6)}"
    await _execute(postgres.dsn, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield urlunsplit(urlsplit(postgres.dsn)._replace(path=f"/{name}"))
    await _execute(postgres.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of a fresh, empty database, dropped after the test."""
    async with open_database(postgres) as dsn:
        yield dsn


@pytest.fixture(scope="module")
async def module_database(postgres: Postgres) -> AsyncIterator[str]:
    """The DSN of a fresh, empty database, dropped after the module."""
    async with open_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def topic_prefix() -> str:
    """In front of every topic and group of a test, so that tests do not meet on the shared broker."""
    return f"t{secrets.token_hex(5)}."


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _say(line: str) -> None:
    os.write(2, f"{line}\n".encode())
