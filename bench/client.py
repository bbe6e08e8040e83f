"""`make bench-client`: what the client costs an application: when all is well, and while the broker is away.

The caller is a thread of this process; the broker is another process. `--silent` stops the broker's process without
closing its connections, as a network that drops everything would; otherwise connections are refused.
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from service.adapters.kafka.topics import create_topics
from service.client import Client, Limits
from service.devstack.java import find_kafka
from service.devstack.kafka import Kafka, open_kafka

PARTITIONS: Final = 4
PATIENCE_S: Final = 600.0
FEATURES: Final = {f"feature_{number}": number * 0.37 for number in range(20)}


class Lines(logging.Handler):
    """Counts log lines by logger."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counts[record.name.split(".")[0]] += 1


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def log_one(client: Client, number: int) -> bool:
    probabilities = {"late": 0.25, "on_time": 0.75}
    return client.log_prediction("flights", probabilities, association_id=f"row-{number}", features=FEATURES)


def paced(client: Client, rate: int, seconds: float) -> dict[str, Any]:
    """Calls at a rate, each timed; microseconds."""
    took: list[int] = []
    peak = memory_mb()
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        if (early := began + number / rate - time.perf_counter()) > 0:
            time.sleep(early)
        at = time.perf_counter_ns()
        log_one(client, number)
        took.append(time.perf_counter_ns() - at)
        if number % rate == 0:
            peak = max(peak, memory_mb())
    took.sort()
    places = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    figures = {f"call_us_{name}": round(took[int(len(took) * share)] / 1e3, 1) for name, share in places.items()}
    return figures | {"call_us_max": round(took[-1] / 1e3, 1), "calls": len(took), "peak_mb": peak}


def full_speed(client: Client, rows: int) -> dict[str, Any]:
    """As fast as one thread can, waiting where there is no room, until all is acknowledged."""
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(rows):
        log_one(client, number)
    logged = time.perf_counter() - began
    assert client.flush(PATIENCE_S)
    seconds = time.perf_counter() - began
    return {
        "rows": rows,
        "logged_per_s": round(rows / logged),
        "sent_per_s": round(rows / seconds),
        "cpu_us_a_row": round((time.process_time() - cpu) / rows * 1e6, 1),
    }


def made(kafka: Kafka, **limits: Any) -> Client:
    return Client.over_kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix="bench", limits=Limits(**limits))


async def well(kafka: Kafka, rate: int, rows: int) -> None:
    client = made(kafka, wait_when_full=PATIENCE_S)
    tell("well, full speed", **await asyncio.to_thread(full_speed, client, rows))
    tell("well, paced", rate=rate, **await asyncio.to_thread(paced, client, rate, 10))
    await asyncio.to_thread(client.close)


async def away(kafka: Kafka, rate: int, seconds: float, *, silent: bool) -> None:
    client = made(kafka)
    assert log_one(client, -1) and await asyncio.to_thread(client.flush, PATIENCE_S)
    before, lines, pid = memory_mb(), Lines(), kafka.pid
    logging.getLogger().addHandler(lines)
    assert pid is not None
    if silent:
        os.kill(pid, signal.SIGSTOP)
    else:
        await kafka.stop()
    try:
        figures = await asyncio.to_thread(paced, client, rate, seconds)
        tell("away", rate=rate, seconds=seconds, silent=silent, before_mb=before, **figures, **asdict(client.counts))
    finally:
        if silent:
            os.kill(pid, signal.SIGCONT)
        else:
            await kafka.start()
    began = time.perf_counter()
    assert await asyncio.to_thread(client.flush, PATIENCE_S)
    tell("back", drained_s=round(time.perf_counter() - began, 2), log_lines=lines.counts, **asdict(client.counts))
    await asyncio.to_thread(client.close)
    tell("closed", memory_mb=memory_mb(), threads=threading.active_count())


async def measure(arguments: argparse.Namespace) -> None:
    software = await find_kafka(lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="hindsight-bench-") as directory:
        async with open_kafka(Path(directory), software=software) as kafka:
            options = {"bootstrap_servers": kafka.bootstrap_servers}
            await create_topics(options, "bench", partitions=PARTITIONS, replication_factor=None, min_insync=None)
            await well(kafka, arguments.rate, arguments.rows)
            await away(kafka, arguments.rate, arguments.away, silent=arguments.silent)


def tell(what: str, **figures: Any) -> None:
    print(json.dumps({"what": what} | figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-client", description=__doc__)
    parser.add_argument("--away", type=float, default=60, help="seconds without the broker")
    parser.add_argument("--rate", type=int, default=2_000, help="calls a second")
    parser.add_argument("--rows", type=int, default=200_000, help="rows at full speed")
    parser.add_argument("--silent", action="store_true", help="the broker is silent, not gone")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
