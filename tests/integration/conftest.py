"""What the tests of a whole worker share. Those marked `long` run with LONG=1 in the environment, or by `-m long`."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from service.adapters.kafka.connection import open_admin
from service.devstack.kafka import Kafka
from tests.integration.worker import Site, open_site


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: more of the same, or with more patience; left out by default")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("LONG") == "1" or "long" in str(config.getoption("markexpr")):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture
async def admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    async with open_admin({"bootstrap_servers": kafka.bootstrap_servers}) as client:
        yield client


@pytest.fixture
async def second_database(database: str) -> AsyncIterator[str]:
    """Another database of the same server, without a schema."""
    name = urlsplit(database).path[1:] + "_second"
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
        yield database.rsplit("/", 1)[0] + f"/{name}"
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.fixture
async def site(kafka: Kafka, database: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Site]:
    """Topics with four partitions, a group and a migrated database with the deployment `flights`, of one test."""
    opening = open_site(
        bootstrap_servers=kafka.bootstrap_servers, dsn=database, prefix=topic_prefix.rstrip("."), directory=tmp_path
    )
    async with opening as opened:
        yield opened
