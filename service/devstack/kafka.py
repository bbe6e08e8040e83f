"""Apache Kafka as one KRaft node (broker and controller) on the loopback interface, for development and tests.

Not a model for production: one replica of everything, small internal topics, no authentication. The log survives a
restart over the same directory.
"""

import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.devstack.java import KAFKA_VERSION, KafkaSoftware
from service.devstack.ports import LOOPBACK, kept_ports
from service.devstack.processes import Command, run_to_end
from service.devstack.server import Server, ServerSpec, listens, until

NAME = f"Apache Kafka {KAFKA_VERSION}"

_PROBE = "hindsight-devstack-probe"
_JVM = ("-Xmx1g", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile=log4j2.xml")
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
log.dirs=log

auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
offsets.retention.minutes=525600
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=6000
log.cleaner.dedupe.buffer.size=16777216
"""


class Door(NamedTuple):
    """A listener besides the usual one; who comes in by it is told to come back by another port, that of a proxy."""

    port: int
    advertised: int


class Kafka(Server):
    """A running node; see `Server` for its life."""

    def __init__(self, spec: ServerSpec, *, bootstrap_servers: str) -> None:
        super().__init__(spec)
        self.bootstrap_servers = bootstrap_servers


@asynccontextmanager
async def open_kafka(
    directory: Path, *, software: KafkaSoftware, held: tuple[int, ...] = (), doors: Sequence[Door] = ()
) -> AsyncIterator[Kafka]:
    """A node over `directory`, formatted the first time.

    Raises ServerFailed with the end of the log where it does not start.
    """
    program = (software.java, *_JVM, "-cp", f"{software.jars}/*")
    ports = _configure(directory, doors)
    await _format(program, directory)
    kafka = Kafka(_spec(program, directory, ports["broker"], held), bootstrap_servers=f"{LOOPBACK}:{ports['broker']}")
    try:
        await kafka.start()
        yield kafka
    finally:
        await kafka.stop()


def _spec(program: tuple[str, ...], directory: Path, port: int, held: tuple[int, ...]) -> ServerSpec:
    return ServerSpec(
        name=NAME,
        command=Command(argv=(*program, "kafka.Kafka", "server.properties"), directory=directory, held=held),
        log=directory / "kafka.log",
        ready=lambda: _until_ready(port),
    )


def _configure(directory: Path, doors: Sequence[Door]) -> dict[str, int]:
    """Every path in it is relative to the directory: no character of the directory's name can upset Java's formats."""
    directory.mkdir(parents=True, exist_ok=True)
    ports = kept_ports(directory / "ports.json", "broker", "controller")
    (directory / "server.properties").write_text(_properties(ports, doors))
    (directory / "log4j2.xml").write_bytes(files("service.devstack").joinpath("log4j2.xml").read_bytes())
    return ports


def _properties(ports: dict[str, int], doors: Sequence[Door]) -> str:
    named = {f"DOOR{number}": door for number, door in enumerate(doors)}
    names = ("PLAINTEXT", "CONTROLLER", *named)
    broker = f"PLAINTEXT://{LOOPBACK}:{ports['broker']}"
    listeners = [broker, f"CONTROLLER://{LOOPBACK}:{ports['controller']}"]
    return _PROPERTIES.format(
        host=LOOPBACK,
        controller=ports["controller"],
        listeners=",".join([*listeners, *(f"{name}://{LOOPBACK}:{door.port}" for name, door in named.items())]),
        advertised=",".join([broker, *(f"{name}://{LOOPBACK}:{door.advertised}" for name, door in named.items())]),
        protocols=",".join(f"{name}:PLAINTEXT" for name in names),
    )


async def _format(program: tuple[str, ...], directory: Path) -> None:
    if _formatted(directory):
        return
    format_ = ("kafka.tools.StorageTool", "format", "--ignore-formatted", "--config", "server.properties")
    command = Command(argv=(*program, *format_, "--cluster-id", _new_cluster_id()), directory=directory)
    await run_to_end(command, what="formatting Kafka's directory", patience=60)


def _formatted(directory: Path) -> bool:
    return (directory / "log" / "meta.properties").exists()


def _new_cluster_id() -> str:
    """Sixteen bytes in base 64; the fixed first one keeps it from starting like an option."""
    return base64.urlsafe_b64encode(b"H" + secrets.token_bytes(15)).decode().rstrip("=")


async def _until_ready(port: int) -> None:
    """Metadata, a group coordinator and a transaction coordinator: what the first client will ask for."""
    bootstrap = f"{LOOPBACK}:{port}"
    await until(lambda: listens(port))
    await until(lambda: _coordinates_groups(bootstrap))
    await _begin_transactions(bootstrap)


async def _coordinates_groups(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    try:
        await admin.start()
        described = await admin.describe_consumer_groups([_PROBE])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return all(error == 0 for response in described for error, *_ in response.groups)


async def _begin_transactions(bootstrap: str) -> None:
    """Starting a transactional producer waits until its coordinator has given it an id."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=_PROBE, request_timeout_ms=5_000)
    try:
        await producer.start()
    finally:
        await producer.stop()
