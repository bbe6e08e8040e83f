"""What is seen of the ledger from outside while servers fail: which commits came when, and how long a kill kept a
partition from its next one.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import NamedTuple

import asyncpg

from tests.integration.worker import Site

POSTGRES_IS_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the driver says while it is, or while it goes or comes."""
_LOOK_EVERY_S = 0.05
_QUERY = "SELECT task, epoch, version, owner_instance FROM ledger"


class Seen(NamedTuple):
    """How a task stood when it was looked at."""

    at: float
    epoch: int
    version: int
    owner: str | None


class Kill(NamedTuple):
    """A worker that was killed, when, and how its tasks stood right after."""

    at: float
    kind: str
    tasks: Mapping[int, Seen]


class Watch:
    """Looks at the ledger again and again."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._seen: dict[int, list[Seen]] = {}
        self._kills: list[Kill] = []

    async def run(self) -> None:
        """Until cancelled; while Postgres is away there is nothing to see."""
        while True:
            try:
                async with asyncio.timeout(5):
                    rows = await self._site.pool.fetch(_QUERY)
            except POSTGRES_IS_AWAY:
                rows = []
            at = time.monotonic()
            for task, epoch, version, owner in rows:
                known = self._seen.setdefault(task, [])
                if not known or known[-1][1:] != (epoch, version, owner):
                    known.append(Seen(at, epoch, version, owner))
            await asyncio.sleep(_LOOK_EVERY_S)

    def owned_by(self, name: str) -> dict[int, Seen]:
        """The tasks of an instance as they were last seen."""
        return {task: seen[-1] for task, seen in self._seen.items() if seen and seen[-1].owner == name}

    def killed(self, name: str, kind: str, at: float) -> None:
        """SIGKILL has been sent to that instance."""
        self._kills.append(Kill(at, kind, self.owned_by(name)))

    def waits(self) -> dict[str, list[float]]:
        """By kind of kill, of every task that the killed one had: seconds until the first commit of its next owner."""
        found: dict[str, list[float]] = {}
        for kill in self._kills:
            for task, before in kill.tasks.items():
                if (after := self._first_commit(task, before, kill.at)) is not None:
                    found.setdefault(kill.kind, []).append(after - kill.at)
        return found

    def _first_commit(self, task: int, before: Seen, since: float) -> float | None:
        """The last commit of the killed one may be seen after the kill: what counts is one of a later epoch."""
        taken: int | None = None
        for seen in self._seen[task]:
            if seen.epoch == before.epoch or seen.at <= since:
                continue
            if taken is None:
                taken = seen.version
            if seen.version > max(taken, before.version):
                return seen.at
        return None
