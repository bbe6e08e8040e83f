"""What was measured on what: versions of everything that has a part in it, and the settings that decide."""

import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench.peers.catalog import PEERS, QUIX_REQUIREMENTS
from bench.workloads import PARTITIONS
from service.config import settings_from_environment
from service.devstack import DevStack
from service.devstack.java import find_java
from service.devstack.processes import Command, run_to_end

_PACKAGES: Final = ("aiokafka", "asyncpg", "faust-streaming", "msgspec", "numpy", "orjson", "polars", "rocksdict")
_DURABILITY: Final = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_level")
_OURS: Final = {
    "acks": "all",
    "isolation": "read_committed",
    "guarantee": "exactly once: one Postgres and one Kafka transaction a micro-batch",
}
"""Not by settings: `service/adapters/kafka/sink.py` and `source.py`."""


async def about(stack: DevStack, environment: Mapping[str, str]) -> dict[str, Any]:
    """`environment` is that of a worker."""
    return {
        "machine": machine(),
        "software": await _software(stack),
        "postgres": await _durability(stack.postgres_dsn),
        "kafka": {
            "partitions": PARTITIONS,
            "replicas": 1,
            "min.insync.replicas": 1,
            "flush": "left to the page cache",
        },
        "settings": {"hindsight": _ours(environment)} | {peer.name: dict(peer.settings) for peer in PEERS},
    }


def machine() -> dict[str, Any]:
    """What everything runs on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "kernel": platform.release(),
    }


def interpreter() -> str:
    """Version and build: how it was compiled makes a difference of 10 to 15 %."""
    return sys.version.replace("\n", "")


async def _software(stack: DevStack) -> dict[str, str]:
    said = await run_to_end(Command(argv=(await find_java(), "-version")), what="java -version", patience=30)
    pinned = dict(line.split("==") for line in QUIX_REQUIREMENTS.read_text().splitlines() if "==" in line)
    return {
        "broker": stack.broker,
        "java": said.splitlines()[0],
        "python": interpreter(),
        **{name: version(name) for name in _PACKAGES},
        **{name: pinned[name] for name in ("quixstreams", "confluent-kafka")},
    }


async def _durability(dsn: str) -> dict[str, str]:
    connection = await asyncpg.connect(dsn)
    try:
        return {name: await connection.fetchval("SELECT current_setting($1)", name) for name in _DURABILITY}
    finally:
        await connection.close()


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    settings = settings_from_environment(environment)
    return _OURS | {
        "micro-batch": f"{settings.pipeline.max_records} records at most",
        "slot": f"{settings.pipeline.slot_limit_bytes} bytes at most",
        "memory": f"{settings.worker.memory_mb} MB",
        "transactions": str(settings.kafka.transactions),
        "workers": "1",
    }
