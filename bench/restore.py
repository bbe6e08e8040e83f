"""`make bench-restore`: how long a worker with many open rows needs until it is ready again, and how much memory.

With its disk; without it; and with what a restore has left that was ended in the middle by SIGTERM.
"""

import argparse
import asyncio
import json
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.rounds import load
from bench.sites import bench_site
from service.adapters.clock import SystemClock
from service.devstack.demo.replay import PREDICTION, Replay
from tests.integration.worker import Site, Worker, until

_VALUE = (
    b'{"deploymentId":"flights","associationId":"%b","timestamp":"%b",'
    b'"prediction":{"late":0.25,"on_time":0.75},"features":{"distance":%d}}'
)
_CHUNK = 200_000
_PATIENCE_S = 3_000.0
_LOOK_EVERY_S = 1.0


def predictions(first: int, count: int, at: datetime) -> Replay:
    """So many rows, all of the hour after `at`: open until their window closes."""
    instants = [(at + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ").encode() for second in range(3600)]
    keys = [b"row-%d" % number for number in range(first, first + count)]
    values = [_VALUE % (key, instants[number % 3600], number % 4000) for number, key in enumerate(keys, first)]
    return Replay(
        topics=np.full(count, PREDICTION, dtype=np.int8),
        event_at_us=np.zeros(count, dtype=np.int64),
        flights=np.zeros(count, dtype=np.uint32),
        keys=keys,
        values=values,
    )


def memory_mb(worker: Worker, field: str) -> int:
    """`VmRSS` or `VmHWM` (the most so far) of its process."""
    lines = Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(field)]
    return int(line.split()[1]) // 1024


async def fill(site: Site, rows: int) -> dict[str, Any]:
    at = SystemClock().now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    started = time.monotonic()
    async with site.worker() as worker:
        for first in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - first)
            await load(site.bootstrap_servers, site.prefix, predictions(first, count, at))
            print(f"{first + count:,} of {rows:,} rows sent, {time.monotonic() - started:.0f} s", flush=True)
        await site.processed(worker, within=_PATIENCE_S)
        figures = {"filled_s": round(time.monotonic() - started, 1), "fill_peak_mb": memory_mb(worker, "VmHWM")}
        assert await worker.terminate() == 0
    return figures


async def restored(site: Site, worker: Worker, started: float) -> dict[str, Any]:
    await worker.up()
    curve: list[int] = []

    async def ready() -> bool:
        if time.monotonic() - started >= len(curve) * 10:
            curve.append(memory_mb(worker, "VmRSS"))
        await asyncio.sleep(_LOOK_EVERY_S / 10)
        return (await worker.probe("readyz"))[0] == 200

    await until(ready, within=_PATIENCE_S, what="ready")
    figures = await worker.metrics()
    assert figures["rebalances_total"] == 1, "it was a member of the group all the time"
    return {
        "ready_s": round(time.monotonic() - started, 2),
        "takeover_s": [line["seconds"] for line in worker.lines("task taken over")],
        "rss_mb_every_10_s": curve,
        "peak_mb": memory_mb(worker, "VmHWM"),
        "progress": [
            f"task {line['task']}: {line['read']:,} of {line['of']:,}, {line['per_second']:,}/s"
            for line in worker.lines("store is being restored")
        ][-4:],
    }


async def ended_in_the_middle(site: Site, rows: int) -> dict[str, Any]:
    async with site.worker() as worker:
        await worker.up()

        async def half() -> bool:
            figures = await worker.metrics()
            left = [value for name, value in figures.items() if name.startswith("restore_remaining_records{")]
            return len(left) == site.partitions and all(left) and sum(left) < rows / 2

        await until(half, within=_PATIENCE_S, what="half of the rows restored")
        detail = (await worker.probe("readyz"))[1]
        started = time.monotonic()
        assert await worker.terminate() == 0
        return {"ended_within_s": round(time.monotonic() - started, 2), "readyz": detail}


async def measure(rows: int, memory: int) -> None:
    async with bench_site(WORKER__MEMORY_MB=str(memory)) as site:
        tell("fill", rows=rows, **await fill(site, rows))
        for way in ("disk", "no disk", "no disk, ended in the middle", "goes on"):
            if way.startswith("no disk"):
                await asyncio.to_thread(shutil.rmtree, site.state_dir())
            if way.endswith("middle"):
                tell(way, **await ended_in_the_middle(site, rows))
                continue
            started = time.monotonic()
            async with site.worker() as worker:
                tell(way, **await restored(site, worker, started))
                assert await worker.terminate() == 0


def tell(way: str, **figures: Any) -> None:
    print(json.dumps({"way": way} | figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-restore", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="open rows, over four tasks")
    parser.add_argument("--memory", type=int, default=256, help="HINDSIGHT_WORKER__MEMORY_MB")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rows, arguments.memory))


if __name__ == "__main__":
    main()
