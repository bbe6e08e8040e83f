"""A server on this machine that can be stopped, killed and started again on the same port and directory."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.devstack.errors import ServerFailed
from service.devstack.ports import LOOPBACK
from service.devstack.processes import Child, Command, start_child

_PAUSE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    name: str
    command: Command
    log: Path
    """Where the server's output goes; the file of the start before is kept beside it with the suffix `.before`."""
    ready: Callable[[], Awaitable[None]]
    """Returns once the server truly answers; tries for as long as it takes."""
    start_within: float = 60.0
    ask_to_stop: signal.Signals = signal.SIGTERM
    stop_within: float = 30.0
    crash: signal.Signals = signal.SIGKILL
    """The signal for an end without any tidying."""


class Server:
    """The life of one server. `start`, `stop`, `kill` and `restart` are for one caller at a time."""

    def __init__(self, spec: ServerSpec) -> None:
        self._spec = spec
        self._child: Child | None = None

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def log(self) -> Path:
        return self._spec.log

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    async def start(self) -> None:
        """Returns when the server answers. Raises ServerFailed with the end of its log, leaving nothing running."""
        if self.running:
            return
        _put_aside(self._spec.log)
        child = await start_child(self._spec.command, output=self._spec.log)
        try:
            await self._until_ready(child)
        except BaseException:
            await child.stop(ask=self._spec.crash, patience=self._spec.stop_within)
            raise
        self._child = child

    async def stop(self) -> None:
        """The orderly end; a server that takes too long is killed."""
        if self._child is not None:
            await self._child.stop(ask=self._spec.ask_to_stop, patience=self._spec.stop_within)

    async def kill(self) -> None:
        """The crash: no tidying, no flushing."""
        if self._child is not None:
            await self._child.stop(ask=self._spec.crash, patience=self._spec.stop_within)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def _until_ready(self, child: Child) -> None:
        ready = asyncio.ensure_future(self._spec.ready())
        ended = asyncio.ensure_future(child.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=self._spec.start_within, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise self._failed(f"it ended with exit code {ended.result()}")
            if not ready.done():
                raise self._failed(f"it did not answer within {self._spec.start_within:g} seconds")
            await ready
        finally:
            await _let_go(ready, ended)

    def _failed(self, why: str) -> ServerFailed:
        return ServerFailed(self._spec.name, why=why, log=self._spec.log)


async def until(answers: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again; `start_within` of the spec is the deadline."""
    while True:
        if await answers():
            return
        await asyncio.sleep(_PAUSE)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _let_go(*tasks: asyncio.Future[None] | asyncio.Future[int]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _put_aside(log: Path) -> None:
    with suppress(FileNotFoundError):
        log.replace(log.with_name(f"{log.name}.before"))
