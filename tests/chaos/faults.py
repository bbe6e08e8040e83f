"""The faults. Each begins, lasts, and leaves things so that the service can mend them by itself; several may overlap.

What happens is drawn from the fault's own chance, so a seed brings back the same faults, though not the same instants.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine, Mapping

from tests.chaos.fleet import Instance
from tests.chaos.scene import SESSION_S, Scene, started
from tests.chaos.watch import POSTGRES_IS_AWAY
from tests.integration.proxy import Proxy
from tests.integration.worker import until

Fault = Callable[[Scene, random.Random], Coroutine[None, None, None]]
TAKEN_OVER, RESTARTED = "kill -9, away until taken over", "kill -9, started again at once"
_TAKEN_WITHIN_S = 45.0


def _pick(scene: Scene, chance: random.Random) -> Instance:
    return chance.choice(scene.fleet.instances)


# ------------------------------------------------------------------------------------------------ workers


async def restarted(scene: Scene, chance: random.Random) -> None:
    """SIGKILL, and a new process under the same name."""
    instance = _pick(scene, chance)
    async with instance.lock:
        await _killed(scene, instance, RESTARTED)
        if chance.random() < 0.4:
            await asyncio.to_thread(instance.disk.copy)
        await scene.fleet.start(instance)


async def taken_over(scene: Scene, chance: random.Random) -> None:
    """SIGKILL, and nobody under that name until the others have its tasks."""
    instance = _pick(scene, chance)
    async with instance.lock:
        await _killed(scene, instance, TAKEN_OVER)

        async def is_taken() -> bool:
            return not scene.watch.owned_by(instance.name)

        try:
            await until(is_taken, within=_TAKEN_WITHIN_S)
        except TimeoutError:
            scene.say(f"nobody has taken over from {instance.name} yet, which other faults may explain")
        await scene.fleet.start(instance)


async def _killed(scene: Scene, instance: Instance, kind: str) -> None:
    scene.note(kind, instance.name)
    at = time.monotonic()
    await scene.fleet.kill(instance)
    scene.watch.killed(instance.name, kind, at)


async def rolled(scene: Scene, chance: random.Random) -> None:
    """Every worker in turn: SIGTERM, and a new process when it has ended."""
    for instance in chance.sample(scene.fleet.instances, len(scene.fleet.instances)):
        async with instance.lock:
            kind = "SIGTERM --stay" if instance.stays else "SIGTERM"
            scene.note(kind, instance.name)
            code = await scene.fleet.terminate(instance)
            if code not in (0, None):
                scene.say(f"{instance.name} ended with {code} after SIGTERM")
            await scene.fleet.start(instance)


async def stopped(scene: Scene, chance: random.Random) -> None:
    """SIGSTOP for longer than the session, then SIGCONT: a former owner wakes up."""
    instance = _pick(scene, chance)
    async with instance.lock:
        if (worker := instance.running) is None:
            return
        seconds = SESSION_S + chance.uniform(1.5, 6)
        scene.note("SIGSTOP past the session, SIGCONT", f"{instance.name} for {seconds:.1f} s")
        worker.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            if worker.running:
                worker.send(signal.SIGCONT)


async def wiped(scene: Scene, chance: random.Random) -> None:
    """SIGKILL, and a new process on an empty disk."""
    instance = _pick(scene, chance)
    async with instance.lock:
        scene.note("state directory wiped", instance.name)
        await scene.fleet.kill(instance)
        await asyncio.to_thread(instance.disk.wipe)
        await scene.fleet.start(instance)


async def put_back(scene: Scene, chance: random.Random) -> None:
    """SIGKILL, and a new process on the disk as it was some time ago; what it is now, where there is no older copy."""
    instance = _pick(scene, chance)
    async with instance.lock:
        scene.note("old state directory", instance.name if instance.disk.has_copy else f"{instance.name}, copied now")
        await scene.fleet.kill(instance)
        if not instance.disk.has_copy:
            await asyncio.to_thread(instance.disk.copy)
            await scene.fleet.start(instance)
            await asyncio.sleep(chance.uniform(4, 8))
            await scene.fleet.kill(instance)
        await asyncio.to_thread(instance.disk.put_back)
        await scene.fleet.start(instance)


async def filled(scene: Scene, chance: random.Random) -> None:
    """No room for the store, for a while; nobody is told when there is some again."""
    instance = scene.fleet.instances[-1]
    if not instance.disk.can_be_full:
        return
    seconds = chance.uniform(4, 9)
    scene.note("full disk", f"{instance.name} for {seconds:.1f} s")
    await asyncio.to_thread(instance.disk.fill)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(instance.disk.make_room)


# ------------------------------------------------------------------------------------------------ servers


async def broker_stopped(scene: Scene, chance: random.Random) -> None:
    async with scene.kafka_lock:
        scene.note("broker SIGTERM, started again")
        await scene.kafka.stop()
        await started(scene.kafka)


async def broker_killed(scene: Scene, chance: random.Random) -> None:
    async with scene.kafka_lock:
        scene.note("broker SIGKILL, started again")
        await scene.kafka.kill()
        await started(scene.kafka)


async def postgres_stopped(scene: Scene, chance: random.Random) -> None:
    async with scene.postgres_lock:
        scene.note("Postgres stopped fast, started again")
        await scene.postgres.stop()
        await asyncio.sleep(chance.uniform(0, 2))
        await started(scene.postgres)


async def postgres_killed(scene: Scene, chance: random.Random) -> None:
    async with scene.postgres_lock:
        scene.note("Postgres stopped immediately, started again")
        await scene.postgres.kill()
        await started(scene.postgres)


async def sessions_ended(scene: Scene, chance: random.Random) -> None:
    """Every session of the workers, three times."""
    scene.note("pg_terminate_backend of all workers' sessions")
    for _ in range(3):
        try:
            await scene.site.pool.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hindsight-worker'"
            )
        except POSTGRES_IS_AWAY:
            pass
        await asyncio.sleep(chance.uniform(0.2, 1))


# ------------------------------------------------------------------------------------------------ the ways between


def _way(scene: Scene, chance: random.Random) -> tuple[str, Proxy]:
    """One worker's way to one of the servers."""
    instance = _pick(scene, chance)
    if chance.random() < 0.5:
        return f"{instance.name} to Kafka", instance.to_kafka
    return f"{instance.name} to Postgres", instance.to_postgres


async def slow(scene: Scene, chance: random.Random) -> None:
    name, proxy = _way(scene, chance)
    delay, seconds = chance.choice([0.02, 0.1, 0.3]), chance.uniform(3, 8)
    scene.note("connection delayed", f"{name} by {delay * 1000:.0f} ms for {seconds:.1f} s")
    proxy.slow_down(delay)
    try:
        await asyncio.sleep(seconds)
    finally:
        proxy.slow_down(0)


async def cut(scene: Scene, chance: random.Random) -> None:
    """All connections of one way, several times."""
    name, proxy = _way(scene, chance)
    scene.note("connections cut", name)
    for _ in range(chance.randint(1, 4)):
        proxy.cut()
        await asyncio.sleep(chance.uniform(0.1, 1.5))


async def commits_cut(scene: Scene, chance: random.Random) -> None:
    """Of all workers, some sessions with Postgres end at their COMMIT: before, during or after it."""
    scene.note("sessions cut at COMMIT")
    for instance in scene.fleet.instances:
        instance.to_postgres.cut_commits(0.25, seed=chance.randrange(1 << 30))
    try:
        await asyncio.sleep(chance.uniform(3, 6))
    finally:
        for instance in scene.fleet.instances:
            instance.to_postgres.cut_nothing()


async def silent(scene: Scene, chance: random.Random) -> None:
    """Nothing gets through in either direction, for longer than the session lasts; connections stay open."""
    name, proxy = _way(scene, chance)
    seconds = SESSION_S + chance.uniform(1, 6)
    scene.note("connection silent", f"{name} for {seconds:.1f} s")
    proxy.fall_silent()
    try:
        await asyncio.sleep(seconds)
    finally:
        proxy.speak()


FAULTS: Mapping[str, Fault] = {
    fault.__name__: fault
    for fault in (
        restarted,
        taken_over,
        rolled,
        stopped,
        wiped,
        put_back,
        filled,
        broker_stopped,
        broker_killed,
        postgres_stopped,
        postgres_killed,
        sessions_ended,
        slow,
        cut,
        commits_cut,
        silent,
    )
}


def deal(chance: random.Random) -> list[Fault]:
    """Every fault once, in some order, and those that hit workers hardest twice."""
    deck = [*FAULTS.values(), restarted, taken_over, silent, cut]
    chance.shuffle(deck)
    return deck
