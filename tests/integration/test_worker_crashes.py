"""A worker killed with SIGKILL in the middle of a backlog: whatever its disk holds then, every record counts once."""

import asyncio
import shutil

import pytest

from tests.integration.rows import assert_exact, traffic
from tests.integration.worker import Site, Worker, tell

SMALL_BATCHES = {"PIPELINE__MAX_RECORDS": "250"}
ROWS = 4_000


async def killed_at(site: Site, share: float, total: int) -> None:
    """Run a worker until that share of the events is in the ledger, and kill it there, whatever it is doing."""
    async with site.worker(**SMALL_BATCHES) as worker:
        await site.progressed(worker, share * total)
        await worker.kill()


def ways(worker: Worker) -> set[str]:
    """How the stores of its tasks came to the ledger's version."""
    found = {"disk" for _ in worker.lines("store is as the ledger has it")}
    for line in worker.lines("store restored"):
        found.add("stale disk" if line["kept"] else "no disk")
    return found


async def test_every_record_counts_once_whatever_is_left_of_the_disk(site: Site) -> None:
    expected = traffic(ROWS, seed=1)
    places = await site.produce(expected.events)
    total = len(places)
    state, old = site.state_dir(), site.directory / "old"

    await killed_at(site, 0.1, total)
    await asyncio.to_thread(shutil.copytree, state, old)
    await killed_at(site, 0.3, total)
    await asyncio.to_thread(shutil.rmtree, state)
    await killed_at(site, 0.5, total)
    await asyncio.to_thread(shutil.rmtree, state)
    await asyncio.to_thread(shutil.copytree, old, state)
    await killed_at(site, 0.7, total)
    async with site.worker() as worker:
        await site.processed(worker)
        figures = await worker.metrics()
        assert all(value == 0 for name, value in figures.items() if name.startswith("conservation_error{"))
        assert await worker.terminate() == 0

    await assert_exact(site, expected, places)


@pytest.mark.long
async def test_kill_after_kill(site: Site) -> None:
    """Six times in quick succession, among them before a task was ever taken over."""
    expected = traffic(ROWS, seed=2)
    places = await site.produce(expected.events)
    async with site.worker(**SMALL_BATCHES) as worker:
        await worker.up()
    for share in (0.05, 0.2, 0.35, 0.5, 0.8):
        await killed_at(site, share, len(places))
    async with site.worker() as worker:
        await site.processed(worker)
    await assert_exact(site, expected, places)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("rows", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
async def test_the_three_restores(site: Site, rows: int) -> None:
    """Prints what each costs. The disk's copy is of a worker that had half of the rows."""
    half, rest = traffic(rows // 2, seed=3, prefix="a"), traffic(rows // 2, seed=4, prefix="b")
    state, old = site.state_dir(), site.directory / "old"
    places = await site.produce(half.events)
    async with site.worker() as worker:
        await site.processed(worker, within=120)
        assert await worker.terminate() == 0
    await asyncio.to_thread(shutil.copytree, state, old)
    places += await site.produce(rest.events)
    async with site.worker() as worker:
        await site.processed(worker, within=120)
        assert await worker.terminate() == 0

    took = {"disk": await restore(site, "disk")}
    await asyncio.to_thread(shutil.rmtree, state)
    await asyncio.to_thread(shutil.copytree, old, state)
    took["stale disk"] = await restore(site, "stale disk")
    await asyncio.to_thread(shutil.rmtree, state)
    took["no disk"] = await restore(site, "no disk")

    tell(f"restore of {rows} rows, {len(places)} statuses, 4 tasks at once, seconds of the slowest: {took}")


async def restore(site: Site, way: str) -> float:
    """Seconds of the slowest task of a worker that starts, whose stores must be restored in that way."""
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        assert ways(worker) == {way}
        seconds = max(line["seconds"] for line in worker.lines("task taken over"))

        async def audited() -> bool:
            figures = await worker.metrics()
            found = [value for name, value in figures.items() if name.startswith("conservation_error{")]
            return len(found) == site.partitions and not any(found)

        await worker.until(audited, what="conservation of what was restored")
        assert await worker.terminate() == 0
        return float(seconds)
