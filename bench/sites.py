"""Workers as an operator runs them, for measurements that start and stop them: those of the tests, on servers of the
benchmark."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from service.devstack import open_devstack
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
