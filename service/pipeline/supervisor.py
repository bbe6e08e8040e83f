"""From what the group assigns to running tasks: one runner per task, started and drained as assignments come and go."""

import asyncio

import structlog

from service.domain.errors import Conflict, NotFound
from service.domain.ids import home_of
from service.pipeline.limits import Limits
from service.pipeline.owned import World
from service.pipeline.registry import Registry
from service.pipeline.task import TaskRunner
from service.ports import LedgerMismatch, Unavailable
from service.telemetry import Telemetry
from service.wire.held_row import HeldRow

_log = structlog.get_logger(__name__)
_DRAIN_WITHIN_S = 10.0
_CUT_OFF_WITHIN_S = 5.0
_CHECK_FIT_EVERY_S = 5.0


class Supervisor:
    """Runs the tasks of one worker process."""

    def __init__(self, world: World, registry: Registry, telemetry: Telemetry, limits: Limits) -> None:
        self._world = world
        self._registry = registry
        self._telemetry = telemetry
        self._limits = limits
        self._runners: dict[int, tuple[TaskRunner, asyncio.Task[None]]] = {}
        self._stopping = asyncio.Event()
        self._assigned_once = False

    @property
    def restored(self) -> bool:
        """Every assigned task has been taken over; false before the group's first word."""
        return self._assigned_once and all(runner.restored for runner, _ in self._runners.values())

    @property
    def stopping(self) -> bool:
        """Told to drain; what the worker is connected to may be closed already."""
        return self._stopping.is_set()

    @property
    def tasks(self) -> frozenset[int]:
        return frozenset(self._runners)

    @property
    def waiting(self) -> dict[int, str]:
        """Tasks that can not be taken over now, and why."""
        return {task: runner.waits_for for task, (runner, _) in self._runners.items() if runner.waits_for}

    def held(self, deployment_id: str, row_id: str) -> HeldRow:
        """The row as the store of its task holds it.

        Raises `NotFound` for one that is never held, `Conflict` where its task runs elsewhere, and `Unavailable` while
        the task is being taken over.
        """
        home = home_of(row_id, self._world.source.partitions)
        if home is None:
            raise NotFound(f"row {row_id!r} came without any ID: it was counted, and is not held")
        if home not in self._runners:
            mine = ", ".join(map(str, sorted(self._runners))) or "none"
            raise Conflict(f"row {row_id!r} lives in task {home}; the tasks of this worker are: {mine}")
        held = self._runners[home][0].held(deployment_id, row_id)
        if held is None:
            raise Unavailable(f"task {home} is being taken over")
        return held

    @property
    def flooded(self) -> dict[int, str]:
        """Tasks that wait for a person, and why."""
        return {task: runner.flooded for task, (runner, _) in self._runners.items() if runner.flooded}

    def stop(self) -> None:
        """Drain every task, then return from `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`. The first fault that needs a person ends all tasks and is raised."""
        stopping = asyncio.create_task(self._stopping.wait())
        checking = asyncio.create_task(self._keep_checking())
        changed: asyncio.Task[None] | None = None
        try:
            while not self._stopping.is_set():
                self._start_assigned()
                changed = asyncio.create_task(self._world.source.assignment_changed())
                running = [task for _, task in self._runners.values()]
                await asyncio.wait([stopping, checking, changed, *running], return_when=asyncio.FIRST_COMPLETED)
                if checking.done():
                    checking.result()
                if changed.done():
                    changed.result()
                    self._telemetry.rebalances_total.inc()
                    self._assigned_once = True
                    for runner, _ in self._runners.values():
                        runner.doubt()
                else:
                    changed.cancel()
                await self._drain(self._runners.keys() - self._world.source.assignment)
                self._raise_failures()
            await self._drain(set(self._runners))
        finally:
            stopping.cancel()
            checking.cancel()
            if changed is not None:
                changed.cancel()
            for _, task in self._runners.values():
                task.cancel()
            if self._runners:
                await asyncio.wait([task for _, task in self._runners.values()])

    async def _keep_checking(self) -> None:
        """Topics and database must go on belonging together; what is found twice in a row is so, and ends the worker.

        Once may be a broker that has just come up and does not know all of its topics yet.
        """
        found = ""
        while True:
            await asyncio.sleep(_CHECK_FIT_EVERY_S)
            try:
                await self._world.check_fit()
            except Unavailable:
                continue
            except LedgerMismatch as error:
                if str(error) == found:
                    raise
                found = str(error)
            else:
                found = ""

    def _start_assigned(self) -> None:
        for task in sorted(self._world.source.assignment - self._runners.keys()):
            runner = TaskRunner(task, self._world, self._registry, self._telemetry, self._limits)
            self._runners[task] = (runner, asyncio.create_task(runner.run(), name=f"task-{task}"))
        self._telemetry.tasks_owned.set(len(self._runners))

    async def _drain(self, tasks: set[int]) -> None:
        """Let these runners finish their micro-batch and close; cut off what does not within the deadline."""
        leaving = {task: self._runners[task] for task in tasks}
        for runner, _ in leaving.values():
            runner.stop()
        if not leaving:
            return
        _, late = await asyncio.wait([running for _, running in leaving.values()], timeout=_DRAIN_WITHIN_S)
        for running in [running for _, running in leaving.values() if running in late]:
            _log.warning("a task did not drain in time", task=running.get_name())
            running.cancel()
        if late:
            await asyncio.wait(late, timeout=_CUT_OFF_WITHIN_S)
        for task, (_, running) in leaving.items():
            del self._runners[task]
            if running.done() and not running.cancelled():
                running.result()
        self._telemetry.tasks_owned.set(len(self._runners))

    def _raise_failures(self) -> None:
        for _, running in self._runners.values():
            if running.done():
                running.result()
                raise RuntimeError(f"{running.get_name()} ended by itself")
