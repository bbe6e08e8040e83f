"""Child processes: started apart from the terminal, stopped with a deadline, never left behind.

- Every child leads a session of its own: Ctrl-C in the terminal reaches this process only, which then stops its
  children in an order of its choosing.
- Every child is tied to the life of its parent by `reaper`: when the parent is killed with SIGKILL, the kernel
  signals the child. The kernel counts the *thread* that started the child as the parent, so the event loop must run
  in a thread that lives as long as its children should (the main thread, as a rule).
- Signals go to ids of processes that were started here and are not yet reaped, never to a name.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO

from service.devstack.errors import CommandFailed, DevStackError

_REAPER = Path(__file__).with_name("reaper.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user that a child runs as, where it is not our own."""

    user: int
    group: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    argv: tuple[str, ...]
    directory: Path | None = None
    account: Account | None = None
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    on_parent_death: signal.Signals = signal.SIGKILL
    held: tuple[int, ...] = ()
    """Descriptors that the child keeps open: the lock of a data directory lasts as long as any process over it."""


class Child:
    """A running process that was started here."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        return await self._process.wait()

    async def stop(self, *, ask: signal.Signals = signal.SIGTERM, patience: float = 20.0) -> None:
        """Ask, wait, insist. Also insists when the wait is cancelled; stopping what has ended does nothing."""
        if not self.running:
            return
        try:
            with suppress(ProcessLookupError):
                self._process.send_signal(ask)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._process.wait()
        finally:
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the child and to what it left in its process group."""
        if self.running:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


async def start_child(command: Command, *, output: Path | None) -> Child:
    """Start `command` with its output appended to a file, or on our own standard output where that is None."""
    if output is None:
        return Child(await _spawn(command, output=None))
    with output.open("ab") as opened:
        return Child(await _spawn(command, output=opened))


async def run_to_end(command: Command, *, what: str, patience: float) -> str:
    """Run a short command and return its output; it is killed when cancelled or late."""
    process = await _spawn(command, output=PIPE)
    child = Child(process)
    try:
        async with asyncio.timeout(patience):
            said, _ = await process.communicate()
    except TimeoutError:
        raise DevStackError(f"{what} took longer than {patience:g} seconds") from None
    finally:
        await child.kill()
    text = said.decode(errors="replace")
    if process.returncode != 0:
        raise CommandFailed(what, code=process.returncode or 0, output=text)
    return text


async def _spawn(command: Command, *, output: int | IO[bytes] | None) -> Process:
    account = f"{command.account.user}:{command.account.group}" if command.account else "-"
    last_step = (sys.executable, "-I", "-S", str(_REAPER), str(os.getpid()), str(int(command.on_parent_death)), account)
    return await asyncio.create_subprocess_exec(
        *last_step,
        *command.argv,
        cwd=command.directory,
        env={**os.environ, **command.environment},
        stdin=DEVNULL,
        stdout=output,
        stderr=None if output is None else STDOUT,
        pass_fds=command.held,
        start_new_session=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    first: float = 0.5
    longest: float = 30.0
    steady_for: float = 60.0
    """A child that lived this long has recovered: the next wait is the first one again."""

    def wait_after(self, short_lives: int) -> float:
        return min(self.first * 2.0 ** min(short_lives, 32), self.longest)


USUAL_BACKOFF = Backoff()


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A kept child has ended by itself."""

    code: int
    restarts: int
    restarts_in: float


class KeptAlive:
    """A child that is started again when it ends by itself."""

    def __init__(
        self,
        command: Command,
        *,
        output: Path | None,
        backoff: Backoff,
        on_death: Callable[[Death], None],
        patience: float,
    ) -> None:
        self._command = command
        self._output = output
        self._backoff = backoff
        self._on_death = on_death
        self._patience = patience
        self._child: Child | None = None
        self._restarts = 0

    @property
    def pid(self) -> int | None:
        """The id of the running child; None while waiting to start it again."""
        return self._child.pid if self._child and self._child.running else None

    @property
    def restarts(self) -> int:
        return self._restarts

    async def keep(self) -> None:
        """Runs until cancelled, and stops the child then."""
        clock = asyncio.get_running_loop().time
        short_lives = 0
        while True:
            started_at = clock()
            code = await self._one_life()
            short_lives = 0 if clock() - started_at >= self._backoff.steady_for else short_lives
            pause = self._backoff.wait_after(short_lives)
            self._restarts += 1
            short_lives += 1
            self._on_death(Death(code=code, restarts=self._restarts, restarts_in=pause))
            await asyncio.sleep(pause)

    async def _one_life(self) -> int:
        self._child = child = await start_child(self._command, output=self._output)
        try:
            return await child.wait()
        finally:
            await child.stop(patience=self._patience)


@asynccontextmanager
async def kept_alive(
    command: Command,
    *,
    on_death: Callable[[Death], None],
    output: Path | None = None,
    backoff: Backoff = USUAL_BACKOFF,
    patience: float = 20.0,
) -> AsyncIterator[KeptAlive]:
    """Keep `command` running until the block is left; then ask it to stop, and insist after `patience` seconds."""
    kept = KeptAlive(command, output=output, backoff=backoff, on_death=on_death, patience=patience)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(kept.keep())
        try:
            yield kept
        finally:
            keeping.cancel()
