"""The roles of the service as children of `up`: each kept alive, with a log of its own and a port to ask it on.

Nothing of the service is imported to run them: they are started as anybody would start them, by settings alone.
"""

import asyncio
import http.client
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.config import PREFIX, variable
from service.devstack import DevStack
from service.devstack.errors import ServerFailed
from service.devstack.ports import LOOPBACK, kept_ports
from service.devstack.processes import Backoff, Command, Death, KeptAlive, kept_alive

_BACKOFF: Final = Backoff(first=0.2, longest=5.0, steady_for=20.0)
_DRAIN_WITHIN_S: Final = 30.0
_READY_WITHIN_S: Final = 90.0
_PAUSE_S: Final = 0.05
_HOPELESS_AFTER: Final = 3
"""Deaths before it was ready once: another try would not help."""
_ANSWER_WITHIN_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """One process: `command` is the word after `hindsight`."""

    name: str
    command: str
    port: int
    log: Path
    environment: Mapping[str, str]


class Role:
    """A running role; it is started again when it ends by itself."""

    def __init__(self, spec: RoleSpec, kept: KeptAlive) -> None:
        self._spec = spec
        self._kept = kept

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def log(self) -> Path:
        return self._spec.log

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._spec.port}"

    @property
    def restarts(self) -> int:
        return self._kept.restarts

    async def until_ready(self) -> None:
        """Returns once `/readyz` says so. Raises ServerFailed with the end of its log."""
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                while await self.fetch("/readyz") is None:
                    if self.restarts >= _HOPELESS_AFTER:
                        raise ServerFailed(self.name, why="it ends by itself, again and again", log=self.log)
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError:
            why = f"it was not ready within {_READY_WITHIN_S:g} seconds"
            raise ServerFailed(self.name, why=why, log=self.log) from None

    async def fetch(self, path: str) -> str | None:
        """The text at this path; None where it does not answer, or not with success."""
        return await asyncio.to_thread(_get, self._spec.port, path)


def role_specs(home: Path, stack: DevStack, *, workers: int) -> list[RoleSpec]:
    """So many workers, then the API, over a running stack; `home` keeps their ports, logs and state."""
    names = [f"worker-{number + 1}" for number in range(workers)]
    ports = kept_ports(home / "roles.json", *names, "api")
    common = {
        variable("kafka", "bootstrap_servers"): stack.bootstrap_servers,
        variable("kafka", "transactions"): str(stack.transactions).lower(),
        variable("postgres", "dsn"): stack.postgres_dsn,
    }

    def spec(name: str, command: str, own: Mapping[str, str]) -> RoleSpec:
        log = home / "log" / f"{name}.log"
        return RoleSpec(name=name, command=command, port=ports[name], log=log, environment=common | dict(own))

    def working(name: str) -> Mapping[str, str]:
        return {
            variable("worker", "state_dir"): str(home / "state" / name),
            variable("worker", "metrics_host"): LOOPBACK,
            variable("worker", "metrics_port"): str(ports[name]),
            variable("pipeline", "auto_create_deployments"): "true",
        }

    serving = {
        variable("api", "host"): LOOPBACK,
        variable("api", "port"): str(ports["api"]),
        variable("files", "url"): str(home / "files"),
        variable("files", "spool_dir"): str(home / "spool"),
    }
    return [*(spec(name, "worker", working(name)) for name in names), spec("api", "api", serving)]


@asynccontextmanager
async def open_role(spec: RoleSpec, *, say: Callable[[str], None]) -> AsyncIterator[Role]:
    """Started and kept alive until the block is left; then asked to drain, and killed if it takes too long."""

    def on_death(death: Death) -> None:
        say(f"{spec.name} ended with code {death.code}; it starts again in {death.restarts_in:g} s (log: {spec.log})")

    spec.log.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        spec.log.replace(spec.log.with_name(f"{spec.log.name}.before"))
    command = Command(
        argv=(sys.executable, "-P", "-m", "service", spec.command),
        environment=only_own(spec.environment, os.environ),
    )
    async with kept_alive(
        command, on_death=on_death, output=spec.log, backoff=_BACKOFF, patience=_DRAIN_WITHIN_S
    ) as kept:
        yield Role(spec, kept)


def only_own(own: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """`own`, and every other setting of ours that would be inherited blanked, which counts as not set."""
    return {name: "" for name in inherited if name.upper().startswith(PREFIX)} | dict(own)


def _get(port: int, path: str) -> str | None:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return text if response.status == http.HTTPStatus.OK else None
