"""What the two Kafka edges of a worker cost per record, each the library's way and ours, in one process.

    python -m bench.kafka_edges [read|write]

Microseconds of one thread, the least of several rounds, over real bytes: predictions of 20 features. No broker: what
the network costs is not in it.
"""

import gc
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import cramjam
import msgspec
import orjson
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from msgspec import Raw

from service.adapters.kafka.checksums import sound_batches
from service.adapters.kafka.fetched import _records_of
from service.adapters.kafka.held_records import HeldRecords
from service.adapters.kafka.ready_batch import ReadyBatch
from service.domain.records import Batch, Codec, OutRecord, RecordColumns, Topic
from service.domain.row import RowPhase, RowState, encode_row
from service.wire.instants import rfc3339
from service.wire.record_batch import encode
from service.wire.slot import pack_slot
from service.wire.status import HEADER_SOURCE, HEADER_STATE, HEADER_VERSION, RowStatus, Source, encode_status

_COUNT = 8_000
_ROUNDS = 15
_POLL = 10_000
_BORN_MS = 1_760_000_000_000
_BORN_US = _BORN_MS * 1000
_MONTH_US = 30 * 86_400_000_000
_encode = msgspec.msgpack.Encoder().encode
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
    _records_of(_fetched(log, check_crcs=check_crcs), _PLACE, _POLL, {})


def _checked(log: bytes) -> None:
    _records_of(_fetched(log), _PLACE, _POLL, sound_batches(log))


def reading() -> Iterator[tuple[str, float]]:
    for batch_bytes in (16_384, 900_000):
        log = _log(batch_bytes)
        records = _records_of(_fetched(log), _PLACE, _POLL, {})
        steps: dict[str, Callable[[], object]] = {
            "getmany": partial(_getall, log),
            "whole batches": partial(_whole, log, True),
            "whole batches, checked as they come": partial(_checked, log),
            "whole batches, no checksums": partial(_whole, log, False),
            "hold and take": partial(_hold, records),
        }
        for name, step in steps.items():
            yield f"{name}, batches of {batch_bytes:,} bytes", microseconds(step)


# ------------------------------------------------------------------------------------------- writing


def statuses() -> list[OutRecord]:
    """`_COUNT` statuses with all that they carry, about 650 bytes each; every other one is of a matched row."""
    chance, records = random.Random(7), []  # noqa: S311 - not a secret
    for number in range(_COUNT):
        row_id, at, matched = f"row-{chance.randrange(10**8):08d}", _BORN_US + chance.randrange(10**11), number % 2
        prediction = orjson.dumps(_prediction(chance, number)["prediction"])
        actual, actual_at = (b'"yes"', at + chance.randrange(10**11)) if matched else (b"", 0)
        row = RowState(
            RowPhase.MATCHED if matched else RowPhase.OPEN, 1 + matched, at, actual_at, at + _MONTH_US,
            at + 2 * _MONTH_US, chance.getrandbits(64), 20_000, prediction, actual, "model-1", "2026-05-01",
        )  # fmt: skip
        origin = Source("monitoring.predictions.v1", 0, number)
        status = RowStatus(
            "bench", row_id, "MATCHED" if matched else "ACCEPTED", number, row_id, 1 + matched, "model-1", "2026-05-01",
            rfc3339(at), rfc3339(actual_at) if matched else None, Raw(prediction), Raw(actual) if matched else None,
            source=origin,
        )  # fmt: skip
        headers = [
            (HEADER_STATE, encode_row(row)),
            (HEADER_VERSION, b"1234"),
            (HEADER_SOURCE, b"monitoring.predictions.v1/0/%d" % number),
        ]
        records.append(OutRecord(Topic.STATUS, 0, f"bench/{row_id}".encode(), encode_status(status), headers, _BORN_MS))
    return records


def _columns(records: Sequence[OutRecord]) -> RecordColumns:
    names = [name for name, _ in records[0].headers]
    columns = [[record.headers[i][1] for record in records] for i in range(len(names))]
    keys, values = [record.key for record in records], [record.value for record in records]
    return RecordColumns(Topic.STATUS, 0, keys, values, list(zip(names, columns, strict=True)), _BORN_MS)


def _appended(records: Sequence[OutRecord], codec: Codec) -> list[bytes]:
    """As the library's producer batches are filled."""
    builders = [_builder(codec)]
    for _, _, key, value, headers, timestamp in records:
        what = {"timestamp": timestamp, "key": key, "value": value, "headers": headers}
        if builders[-1].append(**what) is None:
            builders.append(_builder(codec))
            builders[-1].append(**what)
    return [builder._build() for builder in builders]


def _builder(codec: Codec) -> BatchBuilder:
    return BatchBuilder(900_000, codec, is_transactional=1)


def _slot_of_records(records: Sequence[OutRecord]) -> bytes:
    """As a slot of single records is made."""
    return bytes(cramjam.zstd.compress(_encode(records), level=1))


def _headed(batches: Sequence[Batch]) -> list[bytes]:
    return [ReadyBatch(batch, transactional=True)._build() for batch in batches]


def writing() -> Iterator[tuple[str, float]]:
    records = statuses()
    columns = _columns(records)
    yield "slot of single records", microseconds(lambda: _slot_of_records(records))
    for codec in Codec:
        batches = encode([columns], codec)
        steps: dict[str, Callable[[], object]] = {
            "append to producer batches": partial(_appended, records, codec),
            "encode columns": partial(encode, [columns], codec),
            "encode records": partial(encode, [records], codec),
            "slot of batches": partial(pack_slot, batches),
            "headers with checksums": partial(_headed, batches),
        }
        for name, step in steps.items():
            yield f"{codec.name.lower()}: {name}", microseconds(step)
        yield f"{codec.name.lower()}: bytes of a status on the wire", sum(len(one.payload) for one in batches) / _COUNT


def main() -> None:
    gc.disable()
    parts = {"read": reading, "write": writing}
    for name in sys.argv[1:] or parts:
        for what, cost in parts[name]():
            sys.stdout.write(f"{what:58}{cost:9.3f}\n")


if __name__ == "__main__":
    main()
