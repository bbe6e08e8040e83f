"""The load generator of `bench.latency`, a process of its own: sends events at the instants of a timetable.

It never waits for an answer before it sends on. What is due goes out in producer batches every few milliseconds, with
its due instant as Kafka timestamp. Where the sender itself is late, the instants stay what they were: whoever counts
from them omits nothing. It prints how late it was.
"""

import asyncio
import gc
import json
import sys
import time
from collections import defaultdict, deque
from collections.abc import Coroutine
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer

from bench.made_rows import Shape, instants, row_name
from bench.timetable import Timetable
from service.adapters.clock import SystemClock
from service.devstack.demo.replay import ACTUAL, PREDICTION
from service.domain.ids import murmur2_many
from service.domain.records import INPUT_TOPICS, topic_name

_BATCH_BYTES = 1 << 20
_TICK_S = 0.005
_HOMES_AT_ONCE = 100_000


class Sender:
    """Sends one run; `started_s` is on the monotonic clock, which all processes of a machine share."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str, run: bytes, partitions: int, table: Timetable) -> None:
        self._producer = producer
        self._names = [topic_name(prefix, role) for role in INPUT_TOPICS[:2]]
        self._run = run
        self._table = table
        self._shape = Shape()
        self._homes = _homes(run, table.events // 2 + 1, partitions)
        self._waiting: defaultdict[tuple[int, int], deque[tuple[float, Any]]] = defaultdict(deque)
        """Batches by topic and partition, with the instant at which each was let go."""
        self._sending: set[asyncio.Task[None]] = set()
        self._dispatched: list[tuple[int, float]] = []
        """How many events, and when, in seconds after the start."""
        self._acknowledged_s: list[float] = []
        """Of each producer batch, from when it was let go."""

    async def send(self, started_s: float) -> dict[str, Any]:
        clock = SystemClock()
        wall = clock.now().timestamp() - time.monotonic() + started_s
        start_ms = wall * 1000
        seconds = instants(clock.now(), int(self._table.seconds) + 2)
        sent, cpu = 0, time.process_time()
        while sent < self._table.events:
            passed = time.monotonic() - started_s
            due = self._table.due_before(passed) if passed >= 0 else 0
            if due > sent:
                self._dispatch(sent, due, start_ms, seconds)
                self._dispatched.append((due - sent, time.monotonic() - started_s))
                sent = due
            await asyncio.sleep(_TICK_S)
        while self._sending:
            await asyncio.gather(*self._sending)
        return {
            "sent": sent - self._table.lag,
            "took_s": round(time.monotonic() - started_s, 2),
            **self._lateness(),
            "cpu_s": round(time.process_time() - cpu, 2),
        }

    def _dispatch(self, begin: int, end: int, start_ms: float, seconds: list[bytes]) -> None:
        """Put these events into one batch for each topic and partition, and let them go."""
        table, shape, run, homes = self._table, self._shape, self._run, self._homes
        batches: dict[tuple[int, int], Any] = {}
        for event in range(begin, end):
            row = table.row_of(event)
            if row < 0:
                continue
            name, instant = row_name(run, row), seconds[int(event / table.rate)]
            kind = ACTUAL if event % 2 else PREDICTION
            value = shape.actual(name, row, instant) if kind == ACTUAL else shape.prediction(name, row, instant)
            place, at = (kind, homes[row]), int(start_ms + event / table.rate * 1000)
            batch = batches.get(place)
            if batch is None or batch.append(key=name, value=value, timestamp=at) is None:
                if batch is not None:
                    self._let_go(place, batch)
                batch = batches[place] = self._producer.create_batch()
                batch.append(key=name, value=value, timestamp=at)
        for place, batch in batches.items():
            self._let_go(place, batch)

    def _let_go(self, place: tuple[int, int], batch: Any) -> None:
        """Behind what waits for this place; a batch must not overtake another."""
        waiting = self._waiting[place]
        waiting.append((time.monotonic(), batch))
        if len(waiting) == 1:
            self._start(self._feed(place, waiting))

    async def _feed(self, place: tuple[int, int], waiting: deque[tuple[float, Any]]) -> None:
        """The client takes the next batch of a place when it has sent the one before."""
        while waiting:
            since, batch = waiting[0]
            answer = await self._producer.send_batch(batch, self._names[place[0]], partition=place[1])
            self._start(self._acknowledge(since, answer))
            waiting.popleft()

    async def _acknowledge(self, since: float, answer: asyncio.Future[Any]) -> None:
        await answer
        self._acknowledged_s.append(time.monotonic() - since)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """One that failed stays, and is raised at the end."""
        if not task.cancelled() and task.exception() is None:
            self._sending.discard(task)

    def _lateness(self) -> dict[str, float]:
        """Milliseconds from when an event was due to when the client had it, and from there to the broker's yes."""
        counts, at = zip(*self._dispatched, strict=True)
        late = np.repeat(at, counts) - np.arange(sum(counts)) / self._table.rate
        return {
            "late_p50_ms": round(1e3 * float(np.quantile(late, 0.5)), 2),
            "late_p99_ms": round(1e3 * float(np.quantile(late, 0.99)), 2),
            "late_most_ms": round(1e3 * float(late.max()), 2),
            "acknowledged_p50_ms": round(1e3 * float(np.quantile(self._acknowledged_s, 0.5)), 2),
            "acknowledged_p99_ms": round(1e3 * float(np.quantile(self._acknowledged_s, 0.99)), 2),
        }


def _homes(run: bytes, rows: int, partitions: int) -> list[int]:
    homes: list[int] = []
    for first in range(0, rows, _HOMES_AT_ONCE):
        names = [row_name(run, row) for row in range(first, min(rows, first + _HOMES_AT_ONCE))]
        homes += (murmur2_many(names) % partitions).tolist()
    return homes


async def _main(servers: str, prefix: str, run: str, partitions: int, table: Timetable) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", linger_ms=0, max_batch_size=_BATCH_BYTES,
        max_request_size=2 * _BATCH_BYTES,
    ) as producer:  # fmt: skip
        sender = Sender(producer, prefix, run.encode(), partitions, table)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        started_s = float(await asyncio.to_thread(sys.stdin.readline))
        gc.collect()
        gc.disable()
        sys.stdout.write(json.dumps(await sender.send(started_s)) + "\n")


if __name__ == "__main__":
    _servers, _prefix, _run, _partitions, _rate, _seconds = sys.argv[1:]
    _table = Timetable(rate=float(_rate), seconds=float(_seconds))
    asyncio.run(_main(_servers, _prefix, _run, int(_partitions), _table))
