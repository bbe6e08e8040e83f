"""A flood on a real worker: it pauses one task, keeps its place, survives a restart, and goes on at a word."""

import asyncio

from service.domain.records import Topic
from tests.builders import prediction
from tests.integration.worker import Event, Site, Worker

LIMIT = 300
MICRO_BATCH = 100


def garbage(count: int, partition: int) -> list[Event]:
    return [Event(Topic.PREDICTIONS, b"k", b"?%d" % number, (), None, partition) for number in range(count)]


async def paused(worker: Worker, task: int) -> None:
    async def is_paused() -> bool:
        status, detail = await worker.probe("readyz")
        return status == 503 and "paused" in str(detail.get(f"task {task}"))

    await worker.until(is_paused, what="paused")


async def test_a_flood_pauses_one_task_until_it_is_resumed(site: Site) -> None:
    limits = {"PIPELINE__FLOOD_LIMIT": str(LIMIT), "PIPELINE__MAX_RECORDS": str(MICRO_BATCH)}
    flooded = 1
    good = [f"good-{number}" for number in range(40)]
    places = await site.produce(garbage(3 * LIMIT, flooded))
    await site.produce(Event(Topic.PREDICTIONS, name.encode(), prediction(name)) for name in good)
    at_home = sum(site.home(name.encode()) == flooded for name in good)
    assert 0 < at_home < len(good)

    async with site.worker(**limits) as worker:
        await worker.up()
        await paused(worker, flooded)

        async def others_are_done() -> bool:
            return len(await site.statuses()) == len(good) - at_home

        await worker.until(others_are_done, what="statuses of the other tasks")
        _, detail = await worker.probe("readyz")
        assert "hindsight resume --partition 1" in detail["task 1"]
        figures = await worker.metrics()
        assert [figures[f'task_flooded{{task="{task}"}}'] for task in range(4)] == [0, 1, 0, 0]
        written = len(await site.read("dlq"))
        assert LIMIT < written <= LIMIT + MICRO_BATCH

        await asyncio.sleep(12)  # longer than the session time-out: it is still a member
        assert len(await site.read("dlq")) == written
        assert await site.owners() == dict.fromkeys(range(4), "one")
        assert not worker.lines("fenced")
        assert await worker.terminate() == 0

    async with site.worker(**limits) as worker:
        await worker.up()
        await paused(worker, flooded)
        assert len(await site.read("dlq")) == written
        said = await site.run("resume", "--partition", "1")
        assert said.startswith("partition 1 goes on after ")

        async def goes_on() -> bool:
            return len(await site.read("dlq")) > written

        await worker.until(goes_on, within=10, what="more dead letters")
        await paused(worker, flooded)
        assert len(await site.read("dlq")) <= 2 * (LIMIT + MICRO_BATCH)
        await site.run("resume")

        async def all_there() -> bool:
            return len(await site.statuses()) == len(good)

        await worker.until(all_there, what="every status")
        await worker.ready(tasks=4)
        assert "no partition is paused" in await site.run("resume")
        assert await worker.terminate() == 0
    assert len(await site.read("dlq")) == len(places)
