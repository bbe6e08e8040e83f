"""Several workers: they share the tasks, hand them over without losing or doubling anything, and know each other."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.group import JoinGroupRequest

from tests.integration.rows import assert_exact, traffic
from tests.integration.worker import Site, Worker, tell, until

SMALL_BATCHES = {"PIPELINE__MAX_RECORDS": "250"}
SESSION_S = 10.0
"""The session time-out of a worker by default: what must not have to pass when a worker says goodbye."""


async def share(site: Site, *workers: Worker) -> None:
    """Until each of them has as many tasks as the others, all restored."""
    for worker in workers:
        await worker.ready(tasks=site.partitions // len(workers))


async def owns_all(site: Site, name: str) -> None:
    async def all_there() -> bool:
        return set((await site.owners()).values()) == {name}

    await until(all_there, what=f"every task owned by {name}")


async def test_two_share_the_work_and_one_leaves(site: Site) -> None:
    expected = traffic(6_000, seed=5)
    third = len(expected.events) // 3
    async with site.worker("one", **SMALL_BATCHES) as one, site.worker("two", **SMALL_BATCHES) as two:
        await share(site, one, two)
        places = await site.produce(expected.events[:third])
        await site.processed()
        owners = await site.owners()
        assert sorted(owners.values()) == ["one", "one", "two", "two"]
        assert (await one.metrics())["tasks_owned"] == (await two.metrics())["tasks_owned"] == 2

        places += await site.produce(expected.events[third : 2 * third])
        assert await two.terminate() == 0
        left_at = time.monotonic()
        await owns_all(site, "one")
        await one.ready(tasks=4)
        took = time.monotonic() - left_at
        tell(f"the other has the tasks {took:.1f} s after the end of the process")
        assert took < SESSION_S / 2

        places += await site.produce(expected.events[2 * third :])
        await site.processed(one)
    await assert_exact(site, expected, places)


async def test_a_third_and_fourth_come_and_one_is_killed(site: Site) -> None:
    """Tasks move while a backlog is eaten; what the killed one held is taken over after its session."""
    expected = traffic(8_000, seed=6)
    settings = SMALL_BATCHES | {"KAFKA__SESSION_TIMEOUT_MS": "6000"}
    async with site.worker("one", **settings) as one:
        await one.ready(tasks=4)
        places = await site.produce(expected.events)
        async with site.worker("two", **settings) as two:
            await share(site, one, two)
            figures = await one.metrics()
            lost = set(range(4)) - _tasks(figures)
            assert len(lost) == 2
            assert not [name for name in figures if any(_of_task(name, task) for task in lost)]
            await two.kill()
            await owns_all(site, "one")
            await one.ready(tasks=4)
            await site.processed(one)
    await assert_exact(site, expected, places)


def _tasks(figures: dict[str, float]) -> set[int]:
    return {task for task in range(4) if f'restore_seconds{{task="{task}"}}' in figures}


def _of_task(series: str, task: int) -> bool:
    return f'task="{task}"' in series or f'partition="{task}"' in series


async def test_who_stays_keeps_its_tasks(site: Site) -> None:
    async with site.worker("one") as one:
        async with site.worker("two", "--stay") as two:
            await share(site, one, two)
            before = await site.owners()
            assert await two.terminate() == 0
        places = await site.produce((expected := traffic(400, seed=7)).events)
        async with site.worker("two", "--stay") as two:
            await share(site, one, two)
            await site.processed(two)
            assert await site.owners() == before
            rebalances = (await one.metrics())["rebalances_total"]
            assert rebalances <= 2, "the other one was not disturbed"
            assert await two.terminate() == 0
    await assert_exact(site, expected, places)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_second_process_of_the_same_name_replaces_the_first(site: Site, busy: bool) -> None:
    expected = traffic(3_000, seed=8)
    async with site.worker("one", **SMALL_BATCHES) as first:
        await first.ready(tasks=4)
        places = await site.produce(expected.events) if busy else []
        other_disk = {"WORKER__STATE_DIR": str(site.directory / "elsewhere")}
        async with site.worker("one", **SMALL_BATCHES, **other_disk) as second:
            assert await first.ended(within=30) == 1
            said = [line for line in first.text().splitlines() if not line.startswith("{")]
            assert len(said) == 1, first.text()
            assert said[0].startswith("error: ")
            assert "'one'" in said[0]
            await second.ready(tasks=4)
            places += [] if busy else await site.produce(expected.events)
            await site.processed(second)
            assert await second.terminate() == 0
    await assert_exact(site, expected, places)


@asynccontextmanager
async def pushing_out(site: Site, instance: str) -> AsyncIterator[None]:
    """Somebody joins the group as this instance, all the time: whoever is just joining as the same is pushed out."""
    client = AIOKafkaClient(bootstrap_servers=site.bootstrap_servers)
    await client.bootstrap()

    async def push() -> None:
        protocols = [("hindsight-tasks", b"")]
        while True:
            request = JoinGroupRequest(site.prefix, 10_000, 10_000, "", instance, "consumer", protocols)
            await client.send(client.get_random_node(), request)

    pushing = asyncio.create_task(push())
    try:
        yield
        assert not pushing.done() or pushing.result()
    finally:
        pushing.cancel()
        await asyncio.wait([pushing])
        await client.close()


async def test_pushed_out_while_it_joins(site: Site) -> None:
    """By a process of its name that is on its way out: it joins again."""

    async def is_pushed_out() -> bool:
        return any(line["event"].startswith("Unexpected error from SyncGroup") for line in worker.lines())

    async with site.worker("one") as worker:
        async with pushing_out(site, "one"):
            await worker.until(is_pushed_out, what="a refused join")
        await worker.ready(tasks=4)
        assert await worker.terminate() == 0


async def test_pushed_out_again_and_again(site: Site) -> None:
    async with pushing_out(site, "one"):
        said = [line for line in (await site.refused("one")).splitlines() if not line.startswith("{")]
    assert len(said) == 1
    assert said[0].startswith("error: Kafka: the consumer group refuses this worker again and again")
    assert said[0].endswith("does another process run as instance 'one'?")
