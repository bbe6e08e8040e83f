"""Following work that goes on after its answer: `Location` of a 202, polled until it sends on to the result."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from service.api.core.authentication import Caller
from service.api.core.deps import ApiDeps, Deps
from service.api.datarobot.fields import PREFIX, Instant, Json, Shown
from service.api.datarobot.paging import Paging
from service.api.datarobot.row_words import word_of
from service.usecases import status_tasks as cases
from service.usecases.status_tasks import StatusTask, Submitted, TaskKind, TaskStatus

router = APIRouter(tags=["status"])
_MOST: Final = 1 << 53
_TYPES: Final = {
    TaskKind.SETTINGS: "DeploymentSettings",
    TaskKind.ACTUALS: "ActualsUpload",
    TaskKind.ACTUALS_FROM_DATA_SET: "ActualsFromDataset",
    TaskKind.PREDICTIONS: "PredictionsUpload",
    TaskKind.PREDICTIONS_FROM_DATA_SET: "PredictionsFromDataset",
    TaskKind.BASELINE: "Baseline",
}
_OF_ACTUALS: Final = (TaskKind.ACTUALS, TaskKind.ACTUALS_FROM_DATA_SET)


class Status(Shown):
    """A task."""

    status_id: str
    status: TaskStatus
    code: int
    """0, or the HTTP status that the same failure would have had."""
    message: str | None
    description: str
    created: Instant
    status_type: str
    type: None = None


class StatusList(Shown):
    """Tasks that go on."""

    count: int
    next: str | None
    previous: str | None
    data: Sequence[Status]


class Accepted(Shown):
    """What the answer holds to a request that is worked on from now."""

    status_id: str


StatusId = Annotated[str, Path(alias="statusId")]


@router.get("/status/", response_model=StatusList)
async def list_statuses(
    request: Request,
    caller: Caller,
    api: Deps,
    offset: Annotated[int, Query(ge=0, le=_MOST, description="Items to pass over.")] = 0,
    limit: Annotated[int, Query(ge=0, le=_MOST, description="Items of a page; 0: all.")] = 100,
) -> Json:
    """The caller's tasks that have not ended, newest first."""
    tasks, total = await api.tasks.unended(caller.user_id, offset=offset, limit=limit or None)
    following, previous = Paging(request, api.origins.of(request), offset, limit).neighbours(len(tasks), total)
    shown = [_shown(task) for task in tasks]
    return Json(StatusList(count=len(shown), next=following, previous=previous, data=shown))


@router.get("/status/{statusId}/", response_model=Status, responses={303: {"description": "Done.", "model": Status}})
async def get_status(request: Request, caller: Caller, api: Deps, status_id: StatusId) -> Json:
    """200 while it goes on or when it has failed; once it is done, 303 to its result."""
    task = await cases.show(api.tasks, caller, status_id)
    if task.status is TaskStatus.COMPLETED:
        result = f"{api.origins.of(request)}{PREFIX}/deployments/{task.deployment_id}/"
        return Json(_shown(task), 303, {"Location": result})
    return Json(_shown(task), 200, {"Location": _location(request, api, task.id)})


@router.delete("/status/{statusId}/", status_code=204, response_class=Response)
async def delete_status(caller: Caller, api: Deps, status_id: StatusId) -> Response:
    """Forget it. A task that reads a data set stops; rows that were sent stay counted."""
    await cases.destroy(api.tasks, caller, status_id)
    return Response(status_code=204)


def accepted(request: Request, api: ApiDeps, task_id: str) -> Json:
    """The answer to a request that is worked on from now: 202, and where to follow it."""
    return Json(Accepted(status_id=task_id), 202, {"Location": _location(request, api, task_id)})


def _location(request: Request, api: ApiDeps, task_id: str) -> str:
    return f"{api.origins.of(request)}{PREFIX}/status/{task_id}/"


def _shown(task: StatusTask) -> Status:
    return Status(
        status_id=task.id,
        status=task.status,
        code=task.code,
        message=task.message or _message(task),
        description=task.description,
        created=task.created_at,
        status_type=_TYPES[task.kind],
    )


def _message(task: StatusTask) -> str | None:
    submitted = task.submitted
    if submitted is None:
        return None
    if task.status is TaskStatus.COMPLETED:
        return _outcomes(submitted, is_actuals=task.kind in _OF_ACTUALS)
    counted = sum(submitted.counted.values())
    if submitted.records is None:
        return f"sent {submitted.acknowledged:,}, counted {counted:,}"
    return f"counted {min(counted, submitted.records):,} of {submitted.records:,}"


def _outcomes(submitted: Submitted, *, is_actuals: bool) -> str:
    words = ", ".join(f"{word} {rows:,}" for word, rows in by_word(submitted.counted, is_actuals=is_actuals).items())
    left_out = f"; {submitted.invalid:,} invalid rows were left out" if submitted.invalid else ""
    if submitted.invalid_told:
        left_out += f": {submitted.invalid_told}"
    return f"counted {submitted.records or 0:,}: {words}{left_out}"


def by_word(counted: Mapping[str, int], *, is_actuals: bool) -> dict[str, int]:
    """Rows by this dialect's words, by name."""
    words: Counter[str] = Counter()
    for outcome, rows in counted.items():
        words[word_of(outcome, is_actual=is_actuals)] += rows
    return dict(sorted(words.items()))
