"""The worker processes: each is kept running as an operator's supervisor would, and dies when a fault says so."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.chaos.disks import Disk
from tests.integration.proxy import Proxy
from tests.integration.worker import Site, Worker

_LOOK_EVERY_S = 0.2


@dataclass(slots=True, kw_only=True)
class Instance:
    """One instance ID: its disk, its ways to the servers, and the process that runs as it, if any."""

    name: str
    disk: Disk
    to_kafka: Proxy
    to_postgres: Proxy
    settings: Mapping[str, str]
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever does something to the process."""
    stays: bool = False
    worker: Worker | None = None
    life: AsyncExitStack | None = None

    @property
    def running(self) -> Worker | None:
        return self.worker if self.worker is not None and self.worker.running else None


class Fleet:
    """Use `open_fleet`."""

    def __init__(self, site: Site, instances: list[Instance], chance: random.Random) -> None:
        self.instances = instances
        self.ended_by_themselves: list[str] = []
        """What those workers said that ended although nobody had asked them to."""
        self.most_rss_mb = 0.0
        self._site = site
        self._chance = chance

    async def start(self, instance: Instance) -> None:
        """A new process on the instance's disk, at random one that will keep its place when it stops."""
        await self._bury(instance)
        instance.stays = self._chance.random() < 0.5
        life = AsyncExitStack()
        running = self._site.worker(instance.name, *(["--stay"] * instance.stays), **instance.settings)
        instance.worker, instance.life = await life.enter_async_context(running), life

    async def kill(self, instance: Instance) -> None:
        if instance.worker is not None:
            await instance.worker.kill()

    async def terminate(self, instance: Instance) -> int | None:
        """SIGTERM, then the exit code; None where it had ended before. One that can not end in time ends itself."""
        return await worker.terminate() if (worker := instance.running) is not None else None

    async def close(self) -> None:
        for instance in self.instances:
            await self._bury(instance)

    async def _bury(self, instance: Instance) -> None:
        if instance.life is not None:
            await instance.life.aclose()
        instance.worker = instance.life = None

    async def keep(self) -> None:
        """Start again whoever ended by itself; note how much memory the others take."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for instance in self.instances:
                if instance.running is not None:
                    self._weigh(instance.running)
                elif not instance.lock.locked() and instance.worker is not None:
                    async with instance.lock:
                        self.ended_by_themselves.append(_last_words(instance.worker.text()))
                        await self.start(instance)

    def _weigh(self, worker: Worker) -> None:
        try:
            self.most_rss_mb = max(self.most_rss_mb, worker.rss_mb())
        except (OSError, IndexError):  # it has ended meanwhile
            return


def _last_words(text: str) -> str:
    """What a worker said for people, as it ended."""
    plain = [line for line in text.splitlines() if line and not line.startswith("{")]
    return plain[-1] if plain else "nothing"


@asynccontextmanager
async def open_fleet(site: Site, instances: list[Instance], chance: random.Random) -> AsyncIterator[Fleet]:
    """All of them started; `keep` is for the caller to run."""
    fleet = Fleet(site, instances, chance)
    try:
        for instance in instances:
            await fleet.start(instance)
        yield fleet
    finally:
        await fleet.close()
