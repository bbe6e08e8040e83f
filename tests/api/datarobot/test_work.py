"""Work that goes on after its answer: how its task ends, whatever happens to the work."""

import asyncio

import pytest

from service.domain.errors import Invalid
from service.ports import Unavailable
from service.usecases import work as work_cases
from service.usecases.access import Principal, hash_of
from service.usecases.status_tasks import StatusTask, TaskKind, TaskStatus, begin
from service.usecases.work import AT_ONCE, Progress
from tests.api.datarobot.conftest import Api


@pytest.fixture
async def alice(api: Api) -> Principal:
    found = await api.deps.access.principal(hash_of(await api.token()))
    assert found is not None
    return found


async def begun(api: Api, alice: Principal) -> str:
    return await begin(api.deps.tasks, alice, TaskKind.BASELINE, "d", "Work", with_records=False)


async def ended(api: Api, alice: Principal, task_id: str) -> StatusTask:
    await api.deps.work.idle()
    task = await api.deps.tasks.find(task_id, alice.user_id)
    assert task is not None
    return task


@pytest.mark.parametrize(
    ("fault", "code", "message"),
    [
        (Invalid("file: is bad"), 422, "file: is bad"),
        (Unavailable("Kafka: away"), 503, "Kafka: away"),
        (RuntimeError("a secret"), 500, "the service has failed (RuntimeError); its log says why"),
    ],
)
async def test_what_went_wrong_is_told(api: Api, alice: Principal, fault: Exception, code: int, message: str) -> None:
    async def fail(_: Progress) -> bool:
        raise fault

    task_id, closed = await begun(api, alice), asyncio.Event()
    api.deps.work.start(task_id, fail, closed.set)
    task = await ended(api, alice, task_id)
    assert (task.status, task.code, task.message) == (TaskStatus.ERROR, code, message)
    assert closed.is_set()


async def test_work_that_the_pipeline_completes_is_left_running(api: Api, alice: Principal) -> None:
    async def hand_over(_: Progress) -> bool:
        return False

    task_id = await begun(api, alice)
    api.deps.work.start(task_id, hand_over)
    assert (await ended(api, alice, task_id)).status is TaskStatus.RUNNING


async def test_work_that_is_stopped_tells_what_it_has_sent(api: Api, alice: Principal) -> None:
    begun_to_send = asyncio.Event()

    async def sending(progress: Progress) -> bool:
        progress.acknowledged = 1_000
        begun_to_send.set()
        await asyncio.Event().wait()
        return True

    task_id = await begun(api, alice)
    api.deps.work.start(task_id, sending)
    await begun_to_send.wait()
    await api.deps.work.stop()
    task = await ended(api, alice, task_id)
    assert (task.code, task.message) == (
        503, "the process that worked on it was stopped; 1,000 rows were acknowledged until then, and count",
    )  # fmt: skip


async def test_work_that_nobody_waits_for_is_stopped(
    api: Api, alice: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_cases, "_BEAT_S", 0.01)
    stopped = asyncio.Event()

    async def endless(_: Progress) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return True

    task_id = await begun(api, alice)
    api.deps.work.start(task_id, endless)
    assert await api.deps.tasks.destroy(task_id, alice.user_id)
    await api.deps.work.idle()
    assert stopped.is_set()


async def test_a_few_run_at_once_and_all_have_their_turn(api: Api, alice: Principal) -> None:
    running = most = 0

    async def watched(_: Progress) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return True

    tasks = [await begun(api, alice) for _ in range(5)]
    for task_id in tasks:
        api.deps.work.start(task_id, watched)
    assert [(await ended(api, alice, task_id)).status for task_id in tasks] == [TaskStatus.COMPLETED] * 5
    assert most == AT_ONCE
