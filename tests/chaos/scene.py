"""Servers, proxies and workers of one campaign, on ports and in directories of its own."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.adapters.postgres.deployments import PostgresDeployments
from service.devstack.errors import ServerFailed
from service.devstack.java import KafkaSoftware
from service.devstack.kafka import Door, Kafka, open_kafka
from service.devstack.ports import LOOPBACK, free_port
from service.devstack.postgres import Postgres, open_postgres
from service.devstack.server import Server
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import parse_description
from tests.chaos.disks import Disk, open_disk
from tests.chaos.fleet import Fleet, Instance, open_fleet
from tests.chaos.load import baseline, description
from tests.chaos.watch import Watch
from tests.integration.proxy import Proxy, open_proxy, open_proxy_to
from tests.integration.worker import Site, open_site
from tests.simulation.workload import DEPLOYMENTS

NAMES = ("one", "two", "three")
PARTITIONS = 8
SESSION_S = 6
_PREFIX = "chaos"
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything that a fault may reach for."""

    site: Site
    kafka: Kafka
    postgres: Postgres
    fleet: Fleet
    watch: Watch
    say: Callable[[str], None]
    done: Counter[str] = field(default_factory=Counter)
    """Faults by kind."""
    kafka_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    postgres_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def note(self, kind: str, detail: str = "") -> None:
        """One fault more, as it begins."""
        self.done[kind] += 1
        self.say(f"{kind}{detail and ', '}{detail}")

    async def calm(self) -> None:
        """Everything works again."""
        for instance in self.fleet.instances:
            for proxy in (instance.to_kafka, instance.to_postgres):
                proxy.speak()
                proxy.slow_down(0)
                proxy.cut_nothing()
            await asyncio.to_thread(instance.disk.make_room)
        await started(self.kafka)
        await started(self.postgres)


async def started(server: Server) -> None:
    """On a machine that has too much to do a start may take longer than it is given; it is made again."""
    for attempt in range(_TRIES):
        try:
            return await server.start()
        except ServerFailed:
            if attempt == _TRIES - 1:
                raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """From one worker to Kafka: the listener, and the proxy before it."""

    door: Door
    proxy: Proxy


@asynccontextmanager
async def open_scene(
    directory: Path, software: KafkaSoftware, chance: random.Random, say: Callable[[str], None]
) -> AsyncIterator[Scene]:
    """Kafka, Postgres, topics, deployments and three workers, each with proxies of its own."""
    async with AsyncExitStack() as stack:
        ways = [await _way(stack) for _ in NAMES]
        doors = [way.door for way in ways]
        kafka = await stack.enter_async_context(open_kafka(directory / "kafka", software=software, doors=doors))
        postgres = await stack.enter_async_context(open_postgres(directory / "postgres", say=say))
        opening = open_site(
            bootstrap_servers=kafka.bootstrap_servers,
            dsn=postgres.dsn,
            prefix=_PREFIX,
            directory=directory,
            partitions=PARTITIONS,
            deployment=None,
            KAFKA__SESSION_TIMEOUT_MS=str(SESSION_S * 1000),
        )
        site = await stack.enter_async_context(opening)
        await _apply_deployments(site)
        instances = [await _instance(stack, site, name, way) for name, way in zip(NAMES, ways, strict=True)]
        if not instances[-1].disk.can_be_full:
            say("no disk gets full: this account may not mount a tmpfs")
        fleet = await stack.enter_async_context(open_fleet(site, instances, chance))
        yield Scene(site=site, kafka=kafka, postgres=postgres, fleet=fleet, watch=Watch(site), say=say)


async def _way(stack: AsyncExitStack) -> _Way:
    port = free_port()
    proxy, advertised = await stack.enter_async_context(open_proxy_to(LOOPBACK, port))
    return _Way(door=Door(port, advertised), proxy=proxy)


async def _instance(stack: AsyncExitStack, site: Site, name: str, way: _Way) -> Instance:
    to_postgres, dsn = await stack.enter_async_context(open_proxy(site.dsn))
    disk: Disk = stack.enter_context(open_disk(site.state_dir(name), may_be_full=name == NAMES[-1]))
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": f"{LOOPBACK}:{way.door.advertised}",
        "POSTGRES__DSN": dsn,
        "WORKER__MEMORY_MB": "32",
    }
    return Instance(name=name, disk=disk, to_kafka=way.proxy, to_postgres=to_postgres, settings=settings)


async def _apply_deployments(site: Site) -> None:
    await asyncio.to_thread((site.directory / "baseline.csv").write_text, baseline())
    for rules in DEPLOYMENTS:
        await apply(PostgresDeployments(site.pool), parse_description(description(rules)), site.directory)
