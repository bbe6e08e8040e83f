"""What the two Kafka edges of a worker cost per record, each the library's way and ours, in one process.

    python -m bench.kafka_edges [read|write]

Microseconds of one thread, the least of several rounds, over real bytes: predictions of 20 features. No broker: what
the network costs is not in it.
"""

import gc
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from service.adapters.kafka.fetched import _records_of
from service.adapters.kafka.held_records import HeldRecords
from service.domain.records import Topic

_COUNT = 8_000
_ROUNDS = 15
_POLL = 10_000
_BORN_MS = 1_760_000_000_000
_PLACE = TopicPartition("predictions", 0)
_FEATURES, _NUMBERS = 20, 15


def microseconds(step: Callable[[], object]) -> float:
    """Per record, of a step over `_COUNT` records."""
    least = float("inf")
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        step()
        least = min(least, time.perf_counter() - started)
    return least / _COUNT * 1e6


def predictions() -> list[bytes]:
    """Values of `_COUNT` predictions, about 650 bytes each."""
    chance = random.Random(7)  # noqa: S311 - not a secret
    return [orjson.dumps(_prediction(chance, number)) for number in range(_COUNT)]


def _prediction(chance: random.Random, number: int) -> dict[str, Any]:
    yes = round(chance.random(), 6)
    features: dict[str, object] = {f"feature_{i:02d}": round(chance.gauss(0, 1), 5) for i in range(_NUMBERS)}
    features |= {f"feature_{i:02d}": chance.choice(["red", "green", "blue"]) for i in range(_NUMBERS, _FEATURES)}
    return {
        "deploymentId": "bench",
        "associationId": f"row-{number:08d}",
        "timestamp": "2026-05-01T12:00:00.123456Z",
        "prediction": {"label": "yes", "probabilities": {"yes": yes, "no": 1 - yes}},
        "features": features,
    }


# ------------------------------------------------------------------------------------------- reading


def _log(batch_bytes: int) -> bytes:
    """Record batches of so many bytes at most, as a broker answers them."""
    log, batch, base = bytearray(), _batch(batch_bytes), 0
    for number, value in enumerate(predictions()):
        timestamp, key = _BORN_MS + number, b"row-%08d" % number
        if batch.append(number - base, timestamp, key, value, []) is None:
            log += base.to_bytes(8, "big") + batch.build()[8:]
            batch, base = _batch(batch_bytes), number
            batch.append(0, timestamp, key, value, [])
    return bytes(log + base.to_bytes(8, "big") + batch.build()[8:])


def _batch(size: int) -> Any:
    return DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, size)


def _fetched(log: bytes, *, check_crcs: bool = True) -> FetchResult:
    state = SimpleNamespace(paused=False, position=0)
    state.consumed_to = lambda position: setattr(state, "position", position)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    records = PartitionRecords(_PLACE, MemoryRecords(log), [], 0, None, None, check_crcs, READ_COMMITTED)
    return FetchResult(_PLACE, assignment=assignment, partition_records=records, backoff=0)


def _hold(records: list[Any]) -> None:
    held = HeldRecords()
    held.add(Topic.PREDICTIONS, records)
    while held.take(_POLL // 4, (Topic.PREDICTIONS,)):
        pass


def _getall(log: bytes) -> None:
    _fetched(log).getall(_POLL)


def _whole(log: bytes, check_crcs: bool) -> None:
    _records_of(_fetched(log, check_crcs=check_crcs), _PLACE, _POLL)


def reading() -> Iterator[tuple[str, float]]:
    for batch_bytes in (16_384, 900_000):
        log = _log(batch_bytes)
        records = _records_of(_fetched(log), _PLACE, _POLL)
        steps: dict[str, Callable[[], object]] = {
            "getmany": partial(_getall, log),
            "whole batches": partial(_whole, log, True),
            "whole batches, no checksums": partial(_whole, log, False),
            "hold and take": partial(_hold, records),
        }
        for name, step in steps.items():
            yield f"{name}, batches of {batch_bytes:,} bytes", microseconds(step)


def main() -> None:
    gc.disable()
    parts = {"read": reading}
    for name in sys.argv[1:] or parts:
        for what, cost in parts[name]():
            sys.stdout.write(f"{what:50}{cost:8.3f} us\n")


if __name__ == "__main__":
    main()
