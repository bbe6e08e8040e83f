"""Workers as an operator runs them, for measurements that start and stop them: those of the tests, on servers of the
benchmark."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.made_rows import Shape
from bench.rounds import PARTITIONS
from service.adapters.kafka.connection import open_admin
from service.adapters.kafka.topics import topic_names
from service.adapters.postgres.pool import open_pool
from service.devstack import DevStack, open_devstack
from tests.integration.worker import Site, open_site


@asynccontextmanager
async def bench_site(**environment: str) -> AsyncIterator[Site]:
    """Four partitions and the deployment `flights`; `environment` as for `Site.settings`, for every worker."""
    with TemporaryDirectory(prefix="hindsight-bench-") as directory:
        async with open_devstack(None, broker="kafka", say=lambda line: print(line, file=sys.stderr)) as stack:
            opening = open_site(
                bootstrap_servers=stack.bootstrap_servers,
                dsn=stack.postgres_dsn,
                prefix="bench",
                directory=Path(directory),
            )
            async with opening as site:
                yield replace(site, environment=environment)


@asynccontextmanager
async def bench_stack() -> AsyncIterator[DevStack]:
    """Real servers in a temporary directory; what they do at their start goes to standard error."""
    async with open_devstack(None, broker="kafka", say=lambda line: print(line, file=sys.stderr)) as stack:
        yield stack


def server_pids(stack: DevStack) -> dict[str, int]:
    """The first processes of the servers, which have the others as children."""
    assert stack.kafka.pid is not None
    assert stack.postgres.pid is not None
    return {"kafka": stack.kafka.pid, "postgres": stack.postgres.pid}


@asynccontextmanager
async def fresh_site(
    stack: DevStack, name: str, shape: Shape | None = None, *, partitions: int = PARTITIONS, **environment: str
) -> AsyncIterator[Site]:
    """A database, with the deployments of this shape if there is one, and topics; of this name, removed afterwards.

    Workers have the memory of the default settings, and may be halted for two minutes; `environment` comes on top.
    """
    settings = {"WORKER__MEMORY_MB": "256", "KAFKA__SESSION_TIMEOUT_MS": "120000"} | environment
    dsn = stack.postgres_dsn.rsplit("/", 1)[0] + f"/{name}"
    async with open_pool(stack.postgres_dsn, size=1, application_name="bench") as pool:
        await pool.execute(f'CREATE DATABASE "{name}"')
        with TemporaryDirectory(prefix="hindsight-bench-") as made:
            opening = open_site(
                bootstrap_servers=stack.bootstrap_servers, dsn=dsn, prefix=name, directory=Path(made),
                partitions=partitions, deployment=None,
            )  # fmt: skip
            async with opening as site:
                if shape is not None:
                    await shape.register(site.pool, Path(made))
                yield replace(site, environment=settings)
        async with open_admin({"bootstrap_servers": stack.bootstrap_servers}) as admin:
            await admin.delete_topics(list(topic_names(name).values()))
        await pool.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
