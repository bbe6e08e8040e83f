"""Commits whose answer never came: done or not, every record counts once."""

import pytest

from tests.integration.proxy import Cut, open_proxy
from tests.integration.rows import assert_exact, traffic
from tests.integration.worker import Site, tell


@pytest.mark.parametrize("seed", [31, pytest.param(32, marks=pytest.mark.long)])
async def test_counts_stay_exact(site: Site, seed: int) -> None:
    expected = traffic(4_000, seed=seed)
    async with open_proxy(site.dsn) as (proxy, dsn):
        async with site.worker(POSTGRES__DSN=dsn, PIPELINE__MAX_RECORDS="200") as worker:
            await worker.ready(tasks=4)
            proxy.cut_commits(0.3, seed=seed)
            places = await site.produce(expected.events)
            await site.processed(worker)
            proxy.cut_nothing()
            figures = await worker.metrics()
            assert all(value == 0 for name, value in figures.items() if name.startswith("conservation_error{"))
            assert await worker.terminate() == 0
        kinds = {kind: proxy.cuts.count(kind) for kind in Cut}
        tell(f"commits cut: {kinds}")
        assert all(count >= 3 for count in kinds.values()), kinds
    await assert_exact(site, expected, places)
