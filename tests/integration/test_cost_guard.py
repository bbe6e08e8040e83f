"""What a million events cost a worker must stay within a bound, in CPU time of a fixed piece of Python beside it.

No time is asserted: it is a ratio of two CPU times of the same run. `python -m bench.guard` prints it.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.guard import judged, measured
from service.devstack.kafka import Kafka
from tests.integration.worker import Site, open_site, tell

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture
async def bare_site(kafka: Kafka, database: str, topic_prefix: str, tmp_path: Path) -> AsyncIterator[Site]:
    """Without a deployment, for workers that stay in the group while they are halted."""
    opening = open_site(
        bootstrap_servers=kafka.bootstrap_servers, dsn=database, prefix=topic_prefix.rstrip("."), directory=tmp_path,
        deployment=None,
    )  # fmt: skip
    async with opening as opened:
        yield replace(opened, environment={"WORKER__MEMORY_MB": "256", "KAFKA__SESSION_TIMEOUT_MS": "120000"})


async def test_a_million_events_cost_no_more_yardsticks_than_the_bound(bare_site: Site) -> None:
    rounds = await measured(bare_site)
    verdict = judged(rounds)
    tell(f"{verdict}; {rounds}")
    assert verdict.holds, f"{verdict}; {rounds}"
