"""A worker with a planted slip, for `bench.guard`: each record that it polls costs so many microseconds of CPU more."""

import sys
import time
from typing import Any

from service.adapters.kafka.source import KafkaSource
from service.cli import main as hindsight
from service.ports import Polled


def plant(slip_us: float) -> None:
    poll = KafkaSource.poll

    async def slow(self: KafkaSource, *arguments: Any) -> Polled:
        polled = await poll(self, *arguments)
        until = time.thread_time() + polled.size * slip_us / 1e6
        while time.thread_time() < until:
            pass
        return polled

    setattr(KafkaSource, "poll", slow)  # noqa: B010


if __name__ == "__main__":
    plant(float(sys.argv[1]))
    sys.argv = ["hindsight", "worker"]
    hindsight()
