"""Postgres or Kafka away for a while, stopped or silent: the worker says so and waits, then catches up by itself.

OUTAGE_S in the environment stretches each outage (10 by default).
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.devstack.java import KafkaSoftware
from service.devstack.kafka import Kafka, open_kafka
from service.devstack.postgres import open_postgres
from tests.integration.proxy import open_proxy
from tests.integration.rows import Traffic, assert_exact, traffic
from tests.integration.worker import Place, Site, Worker, open_site, tell

OUTAGE_S = float(os.environ.get("OUTAGE_S", "10"))
CATCH_UP_S = 45.0
"""After an outage, all tries and back-offs included."""


async def through(
    site: Site,
    worker: Worker,
    expected: Traffic,
    go: Callable[[], Awaitable[None]],
    back: Callable[[], Awaitable[None]],
    *,
    kafka_is_there: bool = True,
    paused: bool = False,
) -> None:
    """Half of the events, the outage (with a quarter more in it where Kafka is there), its end, and what is left.

    `paused`: the worker must have noticed by a task, too, before the outage ends; a silent server takes longer.
    """
    events, half = expected.events, len(expected.events) // 2
    places = await site.produce(events[:half])
    await site.processed(worker)
    before = worker.rss_mb()
    await go()
    if kafka_is_there:
        places += await site.produce(events[half : half + half // 2])
    await _outage(worker)
    after = worker.rss_mb()
    if paused:
        assert 1 in {value for name, value in (await worker.metrics()).items() if name.startswith("task_paused{")}
    await back()
    places += await site.produce(events[len(places) :])
    await site.processed(worker, within=CATCH_UP_S)
    await worker.ready(tasks=site.partitions)
    assert after - before < 30, f"{before:.0f} MB before, {after:.0f} MB at the end of the outage"
    assert await worker.terminate() == 0
    assert not [line for line in worker.text().splitlines() if line.startswith("Traceback")]
    await assert_exact(site, expected, places)


async def _outage(worker: Worker) -> None:
    async def says_so() -> bool:
        status, detail = await worker.probe("readyz")
        return status == 503 and bool({"database", "kafka"} & detail.keys())

    await worker.until(says_so, within=OUTAGE_S + 20, what="readyz that names the reason")
    assert (await worker.probe("livez"))[0] == 200
    time = asyncio.get_running_loop().time
    began, shown = time(), Counter[int]()

    async def over() -> bool:
        tenth = int(10 * (time() - began) / OUTAGE_S)
        if not shown[tenth]:
            shown[tenth] += 1
            tell(f"{time() - began:.0f} s away: {worker.rss_mb():.1f} MB")
        return time() - began >= OUTAGE_S

    await worker.until(over, within=OUTAGE_S + 10)


async def test_postgres_stopped(kafka: Kafka, server_directory: Path, topic_prefix: str, tmp_path: Path) -> None:
    async with open_postgres(server_directory / f"{topic_prefix}pg", say=lambda _: None) as postgres:
        opening = open_site(
            bootstrap_servers=kafka.bootstrap_servers,
            dsn=postgres.dsn,
            prefix=topic_prefix.rstrip("."),
            directory=tmp_path,
        )
        async with opening as site, site.worker() as worker:
            await worker.ready(tasks=4)
            await through(site, worker, traffic(4_000, seed=41), postgres.stop, postgres.start, paused=True)


@pytest.mark.long
async def test_postgres_crashes_under_load(
    kafka: Kafka, server_directory: Path, topic_prefix: str, tmp_path: Path
) -> None:
    """Twice in the middle of a backlog, without any tidying."""
    async with open_postgres(server_directory / f"{topic_prefix}pg", say=lambda _: None) as postgres:
        opening = open_site(
            bootstrap_servers=kafka.bootstrap_servers,
            dsn=postgres.dsn,
            prefix=topic_prefix.rstrip("."),
            directory=tmp_path,
        )
        async with opening as site, site.worker(PIPELINE__MAX_RECORDS="200") as worker:
            await worker.ready(tasks=4)
            expected = traffic(6_000, seed=42)
            places = await site.produce(expected.events)
            for share in (0.2, 0.6):
                await site.progressed(worker, share * len(places))
                await postgres.kill()
                await postgres.start()
            await site.processed(worker, within=CATCH_UP_S)
            assert await worker.terminate() == 0
            await assert_exact(site, expected, places)


async def test_postgres_silent(site: Site) -> None:
    """Sessions stay open, and nothing comes back."""
    async with open_proxy(site.dsn) as (proxy, dsn), site.worker(POSTGRES__DSN=dsn) as worker:
        await worker.ready(tasks=4)

        async def go() -> None:
            proxy.fall_silent()

        async def back() -> None:
            proxy.speak()

        await through(site, worker, traffic(4_000, seed=43), go, back)


@asynccontextmanager
async def site_with_kafka(
    software: KafkaSoftware, database: str, topic_prefix: str, directory: Path
) -> AsyncIterator[tuple[Kafka, Site]]:
    async with open_kafka(directory / "kafka", software=software) as kafka:
        opening = open_site(
            bootstrap_servers=kafka.bootstrap_servers,
            dsn=database,
            prefix=topic_prefix.rstrip("."),
            directory=directory,
        )
        async with opening as site:
            yield kafka, site


@pytest.mark.parametrize("silent", [False, True], ids=["stopped", "silent"])
async def test_kafka_away(
    kafka_software: KafkaSoftware, database: str, topic_prefix: str, tmp_path: Path, silent: bool
) -> None:
    async with site_with_kafka(kafka_software, database, topic_prefix, tmp_path) as (kafka, site):
        pid = kafka.pid
        assert pid is not None

        async def stop() -> None:
            os.kill(pid, signal.SIGSTOP)

        async def go_on() -> None:
            os.kill(pid, signal.SIGCONT)

        try:
            async with site.worker() as worker:
                await worker.ready(tasks=4)
                away, back = (stop, go_on) if silent else (kafka.stop, kafka.start)
                await through(site, worker, traffic(4_000, seed=44), away, back, kafka_is_there=False)
        finally:
            if kafka.running:
                await go_on_if(kafka)


async def go_on_if(kafka: Kafka) -> None:
    """A stopped process would not hear that it shall end."""
    if kafka.pid is not None:
        os.kill(kafka.pid, signal.SIGCONT)


async def test_kafka_crashes_under_load(
    kafka_software: KafkaSoftware, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    """In the middle of a backlog, with transactions open."""
    async with (
        site_with_kafka(kafka_software, database, topic_prefix, tmp_path) as (kafka, site),
        site.worker(PIPELINE__MAX_RECORDS="200") as worker,
    ):
        await worker.ready(tasks=4)
        expected = traffic(6_000, seed=45)
        places: list[Place] = await site.produce(expected.events)
        await site.progressed(worker, 0.3 * len(places))
        await kafka.kill()
        await kafka.start()
        await site.processed(worker, within=90)
        assert await worker.terminate() == 0
        await assert_exact(site, expected, places)


STOPS_WITHIN_S = 30.0
"""What Kubernetes grants by default."""


@pytest.mark.long
async def test_sigterm_while_postgres_is_silent(site: Site) -> None:
    """With records that wait to be committed: they are the next owner's."""
    expected = traffic(1_000, seed=46)
    async with open_proxy(site.dsn) as (proxy, dsn), site.worker(POSTGRES__DSN=dsn) as worker:
        await worker.ready(tasks=4)
        proxy.fall_silent()
        places = await site.produce(expected.events)
        await noticed(worker)
        assert await worker.terminate(STOPS_WITHIN_S) in (0, 1)
    async with site.worker() as worker:
        await site.processed(worker)
    await assert_exact(site, expected, places)


@pytest.mark.long
async def test_sigterm_while_kafka_is_silent(
    kafka_software: KafkaSoftware, database: str, topic_prefix: str, tmp_path: Path
) -> None:
    """In the middle of a backlog: what is in doubt is published by the next owner."""
    expected = traffic(6_000, seed=47)
    async with site_with_kafka(kafka_software, database, topic_prefix, tmp_path) as (kafka, site):
        assert (pid := kafka.pid) is not None
        async with site.worker(PIPELINE__MAX_RECORDS="200") as worker:
            await worker.ready(tasks=4)
            places = await site.produce(expected.events)
            await site.progressed(worker, 0.3 * len(places))
            os.kill(pid, signal.SIGSTOP)
            try:
                await noticed(worker)
                assert await worker.terminate(STOPS_WITHIN_S) in (0, 1)
            finally:
                os.kill(pid, signal.SIGCONT)
        async with site.worker() as worker:
            await site.processed(worker)
        await assert_exact(site, expected, places)


async def noticed(worker: Worker) -> None:
    async def unready() -> bool:
        return (await worker.probe("readyz"))[0] == 503

    await worker.until(unready, what="an unready worker")
