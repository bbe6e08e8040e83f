"""The other end of `bench.latency`, a process of its own: notes when the status of each event can be read.

A consumer of the status topic, read committed. It writes the instants (events,) on the monotonic clock, NaN where no
status came, to a file, and prints how many came.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from numpy.typing import NDArray

from bench.made_rows import row_number
from bench.timetable import Timetable
from service.domain.records import Topic, topic_name
from service.wire.status import HEADER_SOURCE

_FETCH_BYTES = 4 << 20


class Receiver:
    """Takes the statuses of one run, told by the names of its rows."""

    def __init__(self, prefix: str, run: str, table: Timetable) -> None:
        self._actuals = topic_name(prefix, Topic.ACTUALS).encode() + b"/"
        self._run = f"/{run}-".encode()
        self._table = table
        self.arrived = np.full(table.events, np.nan)
        self.count = 0

    def take(self, records: list[Any], now_s: float) -> None:
        places = []
        for record in records:
            if record.value is None or self._run not in record.key:
                continue
            source = next(value for name, value in record.headers if name == HEADER_SOURCE)
            places.append(self._table.event_of(row_number(record.key), source.startswith(self._actuals)))
        if places:
            self.arrived[places] = now_s
            self.count += len(places)


async def receive(consumer: AIOKafkaConsumer, receiver: Receiver, expected: int, patience_s: float) -> None:
    """Until all have come, or none for so long after the first."""
    heard = None
    while receiver.count < expected and (heard is None or time.monotonic() - heard < patience_s):
        found = await consumer.getmany(timeout_ms=500)
        now = time.monotonic()
        for records in found.values():
            receiver.take(records, now)
        heard = now if found else heard


async def _main(servers: str, prefix: str, run: str, partitions: int, table: Timetable, patience_s: float) -> Any:
    receiver = Receiver(prefix, run, table)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", enable_auto_commit=False, check_crcs=False,
        max_partition_fetch_bytes=_FETCH_BYTES, fetch_max_bytes=_FETCH_BYTES * 8,
    )  # fmt: skip
    async with consumer:
        places = [TopicPartition(topic_name(prefix, Topic.STATUS), number) for number in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for place in places:
            await consumer.position(place)
        gc.collect()
        gc.disable()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        cpu = time.process_time()
        await receive(consumer, receiver, table.events - table.lag, patience_s)
        print(json.dumps({"received": receiver.count, "cpu_s": round(time.process_time() - cpu, 2)}))
    return receiver.arrived


def _written(arrived: NDArray[np.float64], path: str) -> None:
    np.save(path, arrived)


if __name__ == "__main__":
    _servers, _prefix, _run, _partitions, _rate, _seconds, _patience, _path = sys.argv[1:]
    _table = Timetable(rate=float(_rate), seconds=float(_seconds))
    _written(asyncio.run(_main(_servers, _prefix, _run, int(_partitions), _table, float(_patience))), _path)
