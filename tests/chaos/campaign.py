"""One campaign: servers and workers start, records flow, faults come one after the other and over each other; then
everything works again, comes to rest, and is looked at.
"""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.devstack.java import KafkaSoftware
from service.ports import Topic
from tests.chaos.evidence import Evidence, gather
from tests.chaos.faults import deal
from tests.chaos.load import FastTime, Load, fast_time, wall
from tests.chaos.scene import NAMES, Scene, open_scene
from tests.chaos.verdict import Verdict
from tests.chaos.watch import POSTGRES_IS_AWAY
from tests.integration.worker import Worker, until

_AT_ONCE = 3
_PATIENCE_S = 300.0
"""For the service to catch up when everything works again, on whatever machine."""
_SKEW_US = 300_000_000 - 600_000_000
"""How far a record may be in the future (`max_future_skew`), less `allowed_lateness`."""
_FRESH = "fresh"
_MUST_NOT_SAY = re.compile(
    r"^Traceback|conservation is broken|restored from an older copy|\"event\":\"flood\"", re.MULTILINE
)
"""Tracebacks inside of log lines are what libraries tell of connections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    seed: int
    seconds: float
    """For so long new faults begin."""
    rate: float
    """Records a second."""
    pause: tuple[float, float]
    """Least and most seconds from the begin of a fault to that of the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of it. `wrong` is empty where everything was as it must be."""

    wrong: Sequence[str]
    faults: Counter[str]
    waits: Mapping[str, Sequence[float]]
    """By kind of kill: seconds until the next commit of each partition that the killed worker had."""
    ended: Sequence[str]
    """What those workers said that ended by themselves."""
    seconds: float
    """From the first record until the last one was counted and published."""
    catch_up_s: float
    """The last part of it, in which nothing failed and nothing was sent."""
    most_rss_mb: float
    evidence: Evidence
    latest: Callable[[int], int]
    """What the verdict was found by."""


async def run(plan: Plan, directory: Path, software: KafkaSoftware, say: Callable[[str], None]) -> Report:
    """The whole campaign over servers in this directory, made where it is not there, and left as it is."""
    directory.mkdir(mode=0o711, exist_ok=True)  # noqa: ASYNC240
    began = time.monotonic()

    def tell(line: str) -> None:
        say(f"{time.monotonic() - began:7.1f} s  {line}")

    async with open_scene(directory, software, random.Random(f"{plan.seed} fleet"), tell) as scene:
        for worker in _workers(scene):
            await worker.up()
        fast = fast_time(plan.seconds)
        load = Load(scene.site, random.Random(f"{plan.seed} load"), fast, rate=plan.rate)
        started = time.monotonic()
        tell(f"{len(NAMES)} workers are up, {plan.rate:g} records a second from here on")
        async with _running(scene, load):
            await _faults(scene, load, plan)
            load.stop()
            await scene.calm()
            await load.finished.wait()
            quiet = time.monotonic()
            tell("no more faults, no more records")
            await _come_to_rest(scene)
        rest = time.monotonic()
        tell(f"at rest after {rest - quiet:.1f} s; {load.sent:,} records acknowledged, {load.unsure} in doubt")
        await _stop(scene)
        await _restore_afresh(scene)
        evidence = await gather(scene.site, [*NAMES, _FRESH], fast.first, fast.at(wall(), load.ended))
        tell("everything is read")
        latest = _latest(fast, load)
        wrong = await asyncio.to_thread(Verdict(evidence, latest).run)
        if load.sent > len(evidence.sent):
            wrong.append(f"the broker had acknowledged {load.sent} records, it has {len(evidence.sent)}")
        return Report(
            wrong=[*wrong, *_said(directory)],
            faults=scene.done,
            waits=scene.watch.waits(),
            ended=scene.fleet.ended_by_themselves,
            seconds=rest - started,
            catch_up_s=rest - quiet,
            most_rss_mb=scene.fleet.most_rss_mb,
            evidence=evidence,
            latest=latest,
        )


def _workers(scene: Scene) -> list[Worker]:
    return [instance.worker for instance in scene.fleet.instances if instance.worker is not None]


@asynccontextmanager
async def _running(scene: Scene, load: Load) -> AsyncIterator[None]:
    """The load, whoever keeps the workers running, and the eye on the ledger; each one's end is ours, too."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(load.run())
        others = [group.create_task(scene.fleet.keep()), group.create_task(scene.watch.run())]
        try:
            yield
        finally:
            load.stop()
            for other in others:
                other.cancel()
        await sending


async def _faults(scene: Scene, load: Load, plan: Plan) -> None:
    """Deal until the time is over; then let those end that are under way."""
    chance, number = random.Random(f"{plan.seed} faults"), 0
    end = time.monotonic() + plan.seconds
    room = asyncio.Semaphore(_AT_ONCE)
    deck = deal(chance)
    async with asyncio.TaskGroup() as group:
        while time.monotonic() < end:
            await asyncio.sleep(chance.uniform(*plan.pause))
            await room.acquire()
            number += 1
            deck = deck or deal(chance)
            fault = group.create_task(deck.pop()(scene, random.Random(f"{plan.seed} fault {number}")))
            fault.add_done_callback(lambda _: room.release())
            await _learn(load)


async def _learn(load: Load) -> None:
    try:
        async with asyncio.timeout(2):
            await load.learn_batches()
    except POSTGRES_IS_AWAY:
        return


# ------------------------------------------------------------------------------------------------ the end


async def _come_to_rest(scene: Scene) -> None:
    """Until every record, strays included, is in the ledger and out, and no event of a batch waits."""
    site = scene.site

    async def all_ready() -> bool:
        up = [worker for worker in _workers(scene) if worker.running and worker.lines("worker is up")]
        return len(up) == len(NAMES) and all([(await worker.probe("readyz"))[0] == 200 for worker in up])

    await until(all_ready, within=_PATIENCE_S, what="every worker ready")
    await site.processed(within=_PATIENCE_S)

    async def strays_too() -> bool:
        last: dict[int, int] = {}
        for read in await site.read(Topic.REKEY):
            last[read.partition] = max(read.offset, last.get(read.partition, -1))
        positions = await site.positions()
        return all(positions[task].get(Topic.REKEY, 0) > offset for task, offset in last.items())

    async def no_event_waits() -> bool:
        return not await site.pool.fetchval("SELECT count(*) FROM outbox")

    await until(strays_too, within=_PATIENCE_S, what="every stray counted")
    await until(no_event_waits, within=_PATIENCE_S, what="every event of a batch published")
    await site.processed(within=_PATIENCE_S)
    await _audited(scene, _workers(scene))


async def _audited(scene: Scene, workers: Sequence[Worker]) -> None:
    """Until the workers have counted the rows of every task, as of now or later, and found none missing."""
    versions = dict(await scene.site.pool.fetch("SELECT task, version FROM ledger"))

    async def all_counted() -> bool:
        figures: dict[str, float] = {}
        try:
            for worker in workers:
                figures |= await worker.metrics()
        except httpx.HTTPError:
            return False
        return all(
            figures.get(f'audited_version{{task="{task}"}}', -1) >= version
            and figures.get(f'conservation_error{{task="{task}"}}') == 0
            for task, version in versions.items()
        )

    await until(all_counted, within=_PATIENCE_S, what="conservation of every task")


async def _stop(scene: Scene) -> None:
    """All at once, so that nobody takes over what another leaves."""
    codes = await asyncio.gather(*(worker.terminate() for worker in _workers(scene)))
    assert set(codes) == {0}, f"the workers ended with {codes} although everything worked"


async def _restore_afresh(scene: Scene) -> None:
    """A worker that has nothing brings every task to the ledger's version by the status topic alone."""
    async with scene.site.worker(_FRESH) as worker:
        await worker.up()

        async def has_all() -> bool:
            status, detail = await worker.probe("readyz")
            return status == 200 and detail["tasks"] == scene.site.partitions

        await worker.until(has_all, within=_PATIENCE_S, what="a fresh restore")
        await _audited(scene, [worker])
        await scene.site.processed(worker, within=_PATIENCE_S)
        assert await worker.terminate() == 0


def _latest(fast: FastTime, load: Load) -> Callable[[int], int]:
    def latest(wall_ms: int) -> int:
        return round(fast.at(wall_ms / 1000 + 0.001, load.ended).timestamp() * 1e6) + _SKEW_US

    return latest


def _said(directory: Path) -> list[str]:
    """What no worker may say, whatever fails around it."""
    found = []
    for log in sorted(directory.glob("*.log")):
        text = log.read_text(errors="replace")
        if match := _MUST_NOT_SAY.search(text):
            found.append(f"{log.name}: {text[max(0, match.start() - 200) : match.start() + 1500]}")
    return found
