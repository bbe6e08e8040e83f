"""The peers: how each is made ready, started, and known to be done. How each is tuned, and why: `bench/README.md`."""

import hashlib
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.devstack.java import find_java
from service.devstack.processes import Command, run_to_end

Say = Callable[[str], None]
CACHE: Final = Path(__file__).parents[2] / ".cache" / "peers"
"""Of what is built or installed for peers, beside the checkout's other caches."""
WINDOW_DAYS: Final = 30
GRACE_MINUTES: Final = 10
_HERE: Final = Path(__file__).parent
QUIX_REQUIREMENTS: Final = _HERE / "quix-requirements.txt"
_JAVA_HEAP: Final = "1g"
_INSTALL_JDK: Final = "apt-get install openjdk-17-jdk-headless maven"
_STREAMS: Final = {
    "num.stream.threads": "1",
    "replication.factor": "1",
    "topology.optimization": "all",
    "buffered.records.per.partition": "10000",
    "consumer.auto.offset.reset": "earliest",
    "consumer.max.poll.records": "10000",
    "consumer.max.partition.fetch.bytes": str(4 << 20),
    "producer.acks": "all",
    "producer.linger.ms": "100",
    "producer.batch.size": str(512 << 10),
    "producer.buffer.memory": str(128 << 20),
    "producer.compression.type": "none",
    "enable.metrics.push": "false",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one run of a peer takes its records from, and where it puts them."""

    servers: str
    predictions: str
    actuals: str
    joined: str
    group: str
    directory: Path
    """Empty, for its state; it is removed afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    name: str
    title: str
    prepare: Callable[[Say], Awaitable[str]]
    """Fetches and builds what is not there yet; returns the program to run."""
    arguments: Callable[[str, Place], list[str]]
    """The whole command line."""
    exactly_once: bool = False
    """Offsets are committed with the output, in one transaction."""
    at_most: int | None = None
    """Predictions that it is given, where all of them would take too long."""
    settings: Mapping[str, str] = field(default_factory=dict)


# -------------------------------------------------------------------------------------------- Kafka Streams


async def _build_streams(say: Say) -> str:
    """The class path: classes and jars, keyed by their sources."""
    project = _HERE / "kafka-streams"
    sources = [project / "pom.xml", *sorted(project.rglob("*.java"))]
    built = CACHE / f"kafka-streams-{hashlib.sha256(b''.join(one.read_bytes() for one in sources)).hexdigest()[:12]}"
    if not built.is_dir():
        maven = shutil.which("mvn")
        if maven is None or shutil.which("javac") is None:
            raise SystemExit(f"Kafka Streams is built with a JDK and Maven: {_INSTALL_JDK}")
        say("building the join of Kafka Streams with Maven, this first time only")
        making = built.with_name(f"{built.name}-{os.getpid()}")
        shutil.copytree(project, making / "source")
        goals = ("compile", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=../jars")
        command = (maven, "--batch-mode", "--quiet", "-Dstyle.color=never", *goals)
        await run_to_end(Command(argv=command, directory=making / "source"), what="Maven", patience=900)
        making.rename(built)
    return f"{built}/source/target/classes:{built}/jars/*"


def _streams(guarantee: str, commit_ms: int) -> Peer:
    settings = _STREAMS | {"processing.guarantee": guarantee, "commit.interval.ms": str(commit_ms)}
    once = guarantee == "exactly_once_v2"

    async def prepare(say: Say) -> str:
        return f"{await find_java()}\n{await _build_streams(say)}"

    def arguments(program: str, place: Place) -> list[str]:
        java, class_path = program.split("\n")
        properties = settings | {
            "application.id": place.group,
            "bootstrap.servers": place.servers,
            "state.dir": str(place.directory / "state"),
        }
        file = place.directory / "streams.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        topics = (place.predictions, place.actuals, place.joined)
        heap = (f"-Xms{_JAVA_HEAP}", f"-Xmx{_JAVA_HEAP}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        windows = (str(WINDOW_DAYS), str(GRACE_MINUTES))
        return [java, *heap, "-cp", class_path, "bench.LeftJoin", str(file), *topics, *windows]

    return Peer(
        name=f"kafka-streams-{'eos' if once else 'alo'}",
        title=f"Kafka Streams left join, RocksDB, {'exactly once' if once else 'at least once'}",
        prepare=prepare,
        arguments=arguments,
        exactly_once=once,
        settings=settings
        | {
            "java heap": _JAVA_HEAP,
            "window": f"{WINDOW_DAYS} days",
            "isolation": "read_committed" if once else "read_uncommitted",
        },
    )


# ------------------------------------------------------------------------------------------------- Python


async def _install_quix(say: Say) -> str:
    """A Python with what the requirements file pins."""
    installed = CACHE / f"quix-{hashlib.sha256(QUIX_REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    python = installed / "bin" / "python"
    if not python.exists():
        say("installing Quix Streams into an environment of its own, this first time only")
        uv = str(Path(sys.executable).with_name("uv"))
        making = Command(argv=(uv, "venv", "--quiet", "--python", sys.executable, str(installed)))
        await run_to_end(making, what="uv venv", patience=120)
        filling = (uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(QUIX_REQUIREMENTS))
        try:
            await run_to_end(Command(argv=filling), what="uv pip install", patience=600)
        except BaseException:
            shutil.rmtree(installed)
            raise
    return str(python)


async def _own_python(say: Say) -> str:
    return sys.executable


def _script(name: str, *more: str) -> Callable[[str, Place], list[str]]:
    def arguments(program: str, place: Place) -> list[str]:
        topics = (place.predictions, place.actuals, place.joined)
        state = str(place.directory / "state")
        return [program, str(_HERE / name), place.servers, *topics, place.group, state, *more]

    return arguments


PEERS: Final = (
    _streams("at_least_once", 30_000),
    _streams("exactly_once_v2", 1_000),
    Peer(
        name="quix",
        title="Quix Streams as-of join, RocksDB, at least once",
        prepare=_install_quix,
        arguments=_script("quix_join.py", str(WINDOW_DAYS)),
        settings={
            "commit_interval": "5 s",
            "linger.ms": "100",
            "batch.size": "1000000",
            "compression.type": "none",
            "acks": "all",
            "grace": f"{WINDOW_DAYS} days",
            "isolation": "read_committed",
        },
    ),
    Peer(
        name="faust",
        title="Faust, two tables in RocksDB, at least once",
        prepare=_own_python,
        arguments=_script("faust_join.py"),
        at_most=100_000,
        settings={
            "stream_buffer_maxsize": "32768",
            "broker_commit_every": "50000",
            "producer_linger": "0.1 s",
            "producer_max_batch_size": str(1 << 19),
            "stream_wait_empty": "False",
            "acks": "all",
            "isolation": "read_uncommitted",
        },
    ),
)
