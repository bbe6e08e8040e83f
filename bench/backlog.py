"""One worker eats a preloaded backlog: events per second, CPU, memory, and what each stage costs.

The clock starts when its tasks are taken over, and stops when all of the input is in the ledger and the last Kafka
transaction of it is committed: statuses are out, and the group's offsets stand at the ends of the inputs.

Run in a process of its own by `bench.suite`, with the worker's settings in the environment.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import AsyncExitStack

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client import CollectorRegistry

from bench.counters import machine_cpu_s, peak_mb
from bench.stages import watch_pipeline
from service import bootstrap
from service.config import Settings, settings_from_environment
from service.domain.records import Topic, topic_name
from service.logs import configure_logging
from service.telemetry import Telemetry

_LEDGER = """
SELECT coalesce(least(sum((offsets ->> 'predictions')::bigint + (offsets ->> 'actuals')::bigint), sum(seq)), 0)::bigint
FROM ledger
"""
"""Records of the input that were committed. Each has had its status, a forwarded one at its home."""


async def eat(settings: Settings, events: int) -> dict[str, object]:
    """Run the worker until it has committed and published this many events."""
    watch = watch_pipeline()
    async with AsyncExitStack() as stack:
        telemetry = Telemetry(CollectorRegistry())
        supervisor, _ = await bootstrap.open_worker(settings, stack, telemetry, stay=False)
        database = await asyncpg.connect(settings.postgres.dsn.get_secret_value())
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        await stack.enter_async_context(bootstrap.collecting_seldom())
        running = asyncio.create_task(supervisor.run())
        while not supervisor.restored:
            await asyncio.wait([running], timeout=0.02)
        started, cpu, loop_cpu, machine = time.monotonic(), time.process_time(), time.thread_time(), machine_cpu_s()
        while await database.fetchval(_LEDGER) < events or await _published(admin, settings) < events:
            await asyncio.wait([running], timeout=0.1)
            if running.done():
                running.result()
        took, used = time.monotonic() - started, time.process_time() - cpu
        loop_used, busy = time.thread_time() - loop_cpu, machine_cpu_s() - machine
        supervisor.stop()
        await running
        versions = await database.fetchval("SELECT sum(version) FROM ledger")
        await database.close()
        await admin.close()
    return {
        "events": events,
        "seconds": round(took, 3),
        "events_per_s": round(events / took),
        "cpu_s": round(used, 2),
        "cpu_s_per_million": round(used / events * 1e6, 2),
        "machine_cpu_s_per_million": round(busy / events * 1e6, 2),
        "of_it_event_loop": round(loop_used / events * 1e6, 2),
        "rss_mb": peak_mb(os.getpid()),
        "micro_batches": int(versions),
        "stages_us": {stage: round(s / events * 1e6, 2) for stage, s in sorted(watch.seconds.items())},
    }


async def _published(admin: AIOKafkaAdminClient, settings: Settings) -> int:
    """Records of the input up to which the group has committed, with the statuses of them."""
    inputs = {topic_name(settings.kafka.topic_prefix, role) for role in (Topic.PREDICTIONS, Topic.ACTUALS)}
    committed = await admin.list_consumer_group_offsets(settings.kafka.group_id)
    return sum(one.offset for partition, one in committed.items() if partition.topic in inputs)


def main() -> None:
    configure_logging("WARNING", "text")
    sys.stdout.write(json.dumps(asyncio.run(eat(settings_from_environment(), int(sys.argv[1])))) + "\n")


if __name__ == "__main__":
    main()
