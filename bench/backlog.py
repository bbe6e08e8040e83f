"""One worker eats a preloaded backlog: events per second, CPU, memory, and what each stage costs.

Run in a process of its own by `bench.__main__`, with the worker's settings in the environment.
"""

import asyncio
import json
import resource
import sys
import time
from contextlib import AsyncExitStack

import asyncpg
from prometheus_client import CollectorRegistry

from bench.stages import watch_pipeline
from service import bootstrap
from service.config import Settings, settings_from_environment
from service.logs import configure_logging
from service.telemetry import Telemetry


async def eat(settings: Settings, events: int) -> dict[str, object]:
    """Run the worker until it has committed this many events; the clock starts when its tasks are taken over."""
    watch = watch_pipeline()
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(CollectorRegistry())
        supervisor, _ = await bootstrap.open_worker(settings, stack, telemetry, stay=False)
        database = await asyncpg.connect(settings.postgres.dsn.get_secret_value())
        await stack.enter_async_context(bootstrap.collecting_seldom())
        running = asyncio.create_task(supervisor.run())
        while not supervisor.restored:
            await asyncio.wait([running], timeout=0.02)
        started, cpu, loop_cpu = time.monotonic(), time.process_time(), time.thread_time()
        while await database.fetchval("SELECT coalesce(sum(seq), 0) FROM ledger") < events:
            await asyncio.wait([running], timeout=0.1)
            if running.done():
                running.result()
        took, used = time.monotonic() - started, time.process_time() - cpu
        loop_used = time.thread_time() - loop_cpu
        supervisor.stop()
        await running
        versions = await database.fetchval("SELECT sum(version) FROM ledger")
        await database.close()
    return {
        "events": events,
        "events_per_s": round(events / took),
        "cpu_s_per_million": round(used / events * 1e6, 2),
        "of_it_event_loop": round(loop_used / events * 1e6, 2),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "micro_batches": int(versions),
        "stages_us": {stage: round(s / events * 1e6, 2) for stage, s in sorted(watch.seconds.items())},
    }


def main() -> None:
    configure_logging("WARNING", "text")
    sys.stdout.write(json.dumps(asyncio.run(eat(settings_from_environment(), int(sys.argv[1])))) + "\n")


if __name__ == "__main__":
    main()
