"""Work that goes on after its request was answered, in this process, followed by a status task.

A few pieces run at once, the others wait for their turn. Each says again and again that it is alive, and stops as soon
as nobody waits for it any more. When the process stops, what is not done ends as an error; so does, by itself and a
minute later, what a killed process was at.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from service.domain.errors import DomainError
from service.ports import Unavailable
from service.usecases.status_tasks import HELD_FOR, StatusTasks, TaskStatus

_log = structlog.get_logger(__name__)
AT_ONCE: Final = 2
_BEAT_S: Final = HELD_FOR.total_seconds() / 4
_LAST_WORD_WITHIN_S: Final = 5.0
_STOPPED: Final = "the process that worked on it was stopped"


class Unwanted(Exception):
    """Nobody waits for the work any more: stop."""


@dataclass(slots=True)
class Progress:
    """How far a piece of work has come; it keeps this up to date."""

    acknowledged: int = 0
    invalid: int = 0


Piece = Callable[[Progress], Awaitable[bool]]
"""What is to be done. True: it is done; False: from here on the pipeline completes the task. Raises `DomainError` for
what the caller is to mend, `Unavailable` for what may pass, `Unwanted` where it sees that it can stop."""


class Work:
    """Opened by `open_work`."""

    def __init__(self, tasks: StatusTasks) -> None:
        self._tasks = tasks
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._running: dict[asyncio.Task[None], str] = {}

    def start(self, task_id: str, piece: Piece, close: Callable[[], None] | None = None) -> None:
        """Do this for that task, which was begun. `close` is called when it is over, however it ends."""
        running = asyncio.create_task(self._done(task_id, piece, Progress()))
        self._running[running] = task_id
        running.add_done_callback(self._running.pop)
        if close is not None:
            running.add_done_callback(lambda _: close())

    async def idle(self) -> None:
        """Returns when nothing is to be done any more."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """End what is not done."""
        running = dict(self._running)
        for one in running:
            one.cancel()
        await self.idle()
        for one, task_id in running.items():
            if one.cancelled():  # before it had begun
                await self._fail(task_id, 503, _STOPPED)

    async def _done(self, task_id: str, piece: Piece, progress: Progress) -> None:
        try:
            await self._follow(task_id, piece, progress)
        except asyncio.CancelledError:
            sent = f"; {progress.acknowledged:,} rows were acknowledged until then, and count"
            await self._fail(task_id, 503, _STOPPED + (sent if progress.acknowledged else ""))
        except Unwanted:
            _log.info("work was stopped, as nobody waits for it", task=task_id)
        except DomainError as error:
            await self._fail(task_id, 422, str(error))
        except Unavailable as error:
            await self._fail(task_id, 503, str(error))
        except Exception as error:  # a bug: told in the log and to the one who waits
            _log.exception("work failed", task=task_id)
            await self._fail(task_id, 500, f"the service has failed ({type(error).__name__}); its log says why")

    async def _follow(self, task_id: str, piece: Piece, progress: Progress) -> None:
        working = asyncio.create_task(self._in_turn(piece, progress))
        try:
            while not (await asyncio.wait([working], timeout=_BEAT_S))[0]:
                with suppress(Unavailable):
                    if not await self._tasks.hold(
                        task_id, HELD_FOR, acknowledged=progress.acknowledged, invalid=progress.invalid
                    ):
                        raise Unwanted
            if working.result():
                await self._tasks.end(task_id, TaskStatus.COMPLETED, code=0, message=None)
        finally:
            working.cancel()
            await asyncio.wait([working])

    async def _in_turn(self, piece: Piece, progress: Progress) -> bool:
        async with self._turn:
            return await piece(progress)

    async def _fail(self, task_id: str, code: int, message: str) -> None:
        """If the database does not hear it in time, the task ends by itself."""
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_LAST_WORD_WITHIN_S):
                await self._tasks.end(task_id, TaskStatus.ERROR, code=code, message=message)


@asynccontextmanager
async def open_work(tasks: StatusTasks) -> AsyncIterator[Work]:
    work = Work(tasks)
    try:
        yield work
    finally:
        await work.stop()
