"""The runs of `make bench`: round by round, every system on the same loaded topics, one at a time.

In a round each workload is loaded once. Hindsight eats all of them, the peers `joined`; who begins changes with the
round. What a run has left is verified before the next one begins, and nothing of it is kept.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from bench.expected import Expected, expect
from bench.peers.catalog import PEERS, Peer
from bench.peers.timed import run_peer
from bench.published import judge_statuses
from bench.rounds import fresh_round, load_events, run
from bench.totals import check_totals, layouts_of
from bench.workloads import SPAN_US, TAIL_US, Workload, open_workload
from service.adapters.clock import SystemClock
from service.devstack import DevStack

HINDSIGHT: Final = "hindsight"
LIMITS: Final = "limits"
COMPARED_ON: Final = "joined"
"""The workload that the peers join."""
SYSTEMS: Final = (HINDSIGHT, *(peer.name for peer in PEERS))
LIMIT_EVENTS: Final = 400_000
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    rounds: int
    size: int
    """Predictions of each workload; of flights at most so many."""
    systems: Sequence[str]
    workloads: Sequence[str]
    seed: int = 1

    def runs(self) -> int:
        """How many results a round gives."""
        peers = len([name for name in self.systems if name != HINDSIGHT])
        ours = HINDSIGHT in self.systems
        on_compared = COMPARED_ON in self.workloads
        return ours * (len(self.workloads) + on_compared) + on_compared * peers


@dataclass(slots=True, kw_only=True)
class Suite:
    stack: DevStack
    plan: Plan
    tell: Callable[[Row], None]
    """Hears the result of each run as soon as it is there."""
    say: Callable[[str], None]
    _start_us: int = 0
    _expected: dict[str, Expected] = field(default_factory=dict)
    """By workload: it is the same in every round."""

    async def run(self) -> None:
        """Raises what a wrong or broken run raises."""
        now_us = round(SystemClock().now().timestamp()) * 1_000_000
        self._start_us = now_us - SPAN_US - TAIL_US
        for number in range(1, self.plan.rounds + 1):
            for name in self.plan.workloads:
                await self._round(number, name)

    async def _round(self, number: int, name: str) -> None:
        workload = open_workload(name, self.plan.size, start_us=self._start_us, seed=self.plan.seed)
        systems = _rotated([HINDSIGHT, *PEERS], number)
        async with self._loaded(f"bench-{number}-{name}", workload) as (prefix, environment):
            for system in systems:
                if system == HINDSIGHT and HINDSIGHT in self.plan.systems:
                    await self._hindsight(number, workload, prefix, environment)
                elif isinstance(system, Peer) and system.name in self.plan.systems and name == COMPARED_ON:
                    await self._peer(number, system, workload, prefix)

    async def _hindsight(self, number: int, workload: Workload, prefix: str, environment: Mapping[str, str]) -> None:
        events = workload.predictions + workload.actuals
        self.say(f"round {number}, {workload.name}: hindsight eats {events:,} events")
        await _settle()
        printed = await run(["-m", "bench.backlog", str(events)], dict(environment))
        figures = json.loads(printed.splitlines()[-1])
        self.say(f"round {number}, {workload.name}: every status is looked at")
        verified = await self._verify(workload, prefix, environment["HINDSIGHT_POSTGRES__DSN"])
        figures["joins_per_s"] = round(verified.pop("matched_rows") / figures["seconds"])
        self._tell(number, HINDSIGHT, workload, figures | {"verified": verified})
        if workload.name == COMPARED_ON:
            self.say(f"round {number}, {workload.name}: the limits of this machine")
            printed = await run(["-m", "bench.limits", str(min(events, LIMIT_EVENTS))], dict(environment))
            self._tell(number, LIMITS, workload, json.loads(printed.splitlines()[-1]))

    async def _verify(self, workload: Workload, prefix: str, dsn: str) -> Row:
        if workload.name not in self._expected:
            layouts = await layouts_of(dsn)
            self._expected[workload.name] = expect(workload.chunks(), workload.predictions, layouts)
        expected = self._expected[workload.name]
        judge = await judge_statuses(self.stack.bootstrap_servers, prefix, expected)
        figures = await check_totals(dsn, expected, judge)
        words: dict[str, int] = {}
        for (_, word), count in judge.outcomes.items():
            words[word] = words.get(word, 0) + count
        return {
            "matched_rows": sum(one.matched for one in expected.figures.values()),
            "statuses": words,
            "tombstones": judge.tombstones,
            "figures": figures,
        }

    async def _peer(self, number: int, peer: Peer, workload: Workload, prefix: str) -> None:
        rows = min(workload.predictions, peer.at_most or workload.predictions)
        if rows == workload.predictions:
            await self._peer_on(number, peer, workload, prefix)
            return
        part = open_workload(workload.name, rows, start_us=self._start_us, seed=self.plan.seed)
        async with self._loaded(f"{prefix}-{rows}", part) as (of_part, _):
            await self._peer_on(number, peer, part, of_part)

    async def _peer_on(self, number: int, peer: Peer, workload: Workload, prefix: str) -> None:
        self.say(f"round {number}, {workload.name}: {peer.name} joins {workload.predictions:,} rows")
        servers = self.stack.bootstrap_servers
        await _settle()
        figures = await run_peer(peer, servers, prefix, workload.predictions, str(number), self.say)
        self._tell(number, peer.name, workload, figures)

    def _tell(self, number: int, system: str, workload: Workload, figures: Row) -> None:
        place = {"round": number, "system": system, "workload": workload.name}
        sizes = {"predictions": workload.predictions, "actuals": workload.actuals}
        self.tell(place | sizes | figures)

    @asynccontextmanager
    async def _loaded(self, prefix: str, workload: Workload) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """A database with the deployments, and topics with the events; both are removed at the end."""
        with TemporaryDirectory(prefix="hindsight-bench-") as directory:
            deployments = await asyncio.to_thread(workload.write_deployments, Path(directory))
            async with fresh_round(self.stack, prefix, *deployments) as environment:
                self.say(f"loading {workload.name}: {workload.predictions + workload.actuals:,} events")
                began = time.monotonic()
                await load_events(self.stack.bootstrap_servers, prefix, workload.chunks())
                self.say(f"loaded in {time.monotonic() - began:.1f} s")
                yield prefix, environment
        await self._remove(prefix)

    async def _remove(self, prefix: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.stack.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(f"{prefix}.")])
        finally:
            await admin.close()
        connection = await asyncpg.connect(self.stack.postgres_dsn)
        try:
            await connection.execute(f'DROP DATABASE "{prefix}" WITH (FORCE)')
        finally:
            await connection.close()


async def _settle() -> None:
    """So that no run pays for writing what was loaded or left behind before it."""
    await asyncio.to_thread(os.sync)


def _rotated(systems: list[str | Peer], number: int) -> list[str | Peer]:
    """Another one begins in each round."""
    turn = (number - 1) % len(systems)
    return systems[turn:] + systems[:turn]
