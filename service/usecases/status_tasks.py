"""Work that goes on after a request was answered, as its caller can follow it.

A task of a submission is completed by the pipeline: as soon as every record that the broker has acknowledged is in the
statistics, wherever it was counted. Any other task is completed by the process that works on it. That process says
again and again that it is alive; when it falls silent, the task ends as an error by itself. Tasks are rows in the
database, so they survive restarts and are the same on every process; they go a day after their end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from service.domain.errors import NotFound
from service.usecases.access import Principal
from service.usecases.object_ids import new_object_id

KEPT_FOR: Final = timedelta(hours=24)
HELD_FOR: Final = timedelta(seconds=60)
"""How long a process that has fallen silent is taken for alive."""


class TaskKind(StrEnum):
    SETTINGS = "settings"
    ACTUALS = "actuals"
    ACTUALS_FROM_DATA_SET = "actuals_from_data_set"
    PREDICTIONS = "predictions"
    PREDICTIONS_FROM_DATA_SET = "predictions_from_data_set"
    BASELINE = "baseline"


class TaskStatus(StrEnum):
    INITIALIZED = "INITIALIZED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The records of a task: how many there are (None: not all are acknowledged yet) and what became of them."""

    records: int | None
    acknowledged: int
    invalid: int
    """Rows that were left out before they became records."""
    invalid_told: str = ""
    """Of the first few of them, what is wrong."""
    counted: Mapping[str, int] = field(default_factory=dict)
    """Records by the word for their outcome, as far as they are in the statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusTask:
    id: str
    user_id: str
    deployment_id: str
    kind: TaskKind
    description: str
    status: TaskStatus
    code: int
    """0, or the HTTP status that the same failure would have had."""
    message: str | None
    created_at: datetime
    submitted: Submitted | None = None


class StatusTasks(Protocol):
    """Where tasks are kept. Every method may raise `Unavailable`."""

    async def add(
        self,
        task_id: str,
        principal: Principal,
        *,
        kind: TaskKind,
        deployment_id: str,
        description: str,
        held_for: timedelta,
        with_records: bool,
    ) -> None:
        """`with_records`: the task is a submission. `held_for`: a process works on it from now."""

    async def find(self, task_id: str, user_id: str) -> StatusTask | None:
        """As it stands now; None where it is not there, was destroyed, or is another user's."""

    async def unended(self, user_id: str, *, offset: int, limit: int | None) -> tuple[Sequence[StatusTask], int]:
        """Those of the user that are still going on, newest first, and how many there are in all."""

    async def destroy(self, task_id: str, user_id: str) -> bool:
        """Whether it was there. A process that works on it is told by `hold`."""

    async def hold(self, task_id: str, held_for: timedelta, *, acknowledged: int, invalid: int) -> bool:
        """The process is alive, and has come so far. False: nobody waits for the task any more."""

    async def produced(self, task_id: str, *, records: int, invalid: int, invalid_told: str = "") -> None:
        """The broker has acknowledged all its records: from here on the pipeline completes the task."""

    async def end(self, task_id: str, status: TaskStatus, *, code: int, message: str | None) -> None:
        """Nothing happens to one that has ended."""

    async def settle(self) -> None:
        """End what is done or was given up, and forget what ended long ago. To be called every now and then."""


async def begin(
    tasks: StatusTasks,
    principal: Principal,
    kind: TaskKind,
    deployment_id: str,
    description: str,
    *,
    with_records: bool,
    task_id: str | None = None,
) -> str:
    """ID of a task that this process works on from now."""
    made = task_id or new_object_id()
    await tasks.add(
        made,
        principal,
        kind=kind,
        deployment_id=deployment_id,
        description=description,
        held_for=HELD_FOR,
        with_records=with_records,
    )
    return made


async def finished_task(
    tasks: StatusTasks, principal: Principal, kind: TaskKind, deployment_id: str, description: str
) -> str:
    """ID of a task whose work was done before it was asked for."""
    made = await begin(tasks, principal, kind, deployment_id, description, with_records=False)
    await tasks.end(made, TaskStatus.COMPLETED, code=0, message=None)
    return made


async def show(tasks: StatusTasks, principal: Principal, task_id: str) -> StatusTask:
    """Raises `NotFound`."""
    task = await tasks.find(task_id, principal.user_id)
    if task is None:
        raise NotFound(f"there is no status {task_id[:128]!r}")
    return task


async def destroy(tasks: StatusTasks, principal: Principal, task_id: str) -> None:
    """Raises `NotFound`."""
    if not await tasks.destroy(task_id, principal.user_id):
        raise NotFound(f"there is no status {task_id[:128]!r}")
