"""Following work that goes on: what a client sees while it polls."""

from datetime import timedelta

import httpx
import pytest

from service.usecases.access import Principal, Scope, hash_of
from service.usecases.status_tasks import TaskKind, TaskStatus, begin, finished_task
from tests.api.datarobot.batches import execute
from tests.api.datarobot.conftest import BASE, Api


async def principal_of(api: Api, token: str) -> Principal:
    found = await api.deps.access.principal(hash_of(token))
    assert found is not None
    return found


@pytest.fixture
async def alice(api: Api) -> Principal:
    return await principal_of(api, await api.token())


async def a_submission(api: Api, alice: Principal, *, kind: TaskKind = TaskKind.ACTUALS) -> str:
    await execute(
        api, "INSERT INTO deployments (id, label, origin) VALUES ('d', 'D', 'registered') ON CONFLICT DO NOTHING"
    )
    return await begin(api.deps.tasks, alice, kind, "d", "Upload of 10 rows", with_records=True)


async def count(api: Api, task_id: str, status: str, records: int, *, task: int = 0) -> None:
    """As the pipeline does."""
    statement = (
        "INSERT INTO submission_counts (task, submission_id, status, records) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (submission_id, task, status) DO UPDATE SET records = excluded.records"
    )
    await execute(api, statement, task, task_id, status, records)


async def test_check_05_a_submission_runs_until_all_of_it_is_counted(
    api: Api, client: httpx.AsyncClient, alice: Principal
) -> None:
    task_id = await a_submission(api, alice)
    first = await client.get(f"/status/{task_id}/")
    assert first.status_code == 200
    assert first.headers["location"] == f"{BASE}/api/v2/status/{task_id}/"
    shown = first.json()
    assert shown["created"].endswith("Z")
    assert len(shown["created"]) == len("2026-05-06T17:00:00.000000Z")
    assert shown | {"created": None} == {
        "statusId": task_id, "status": "RUNNING", "code": 0, "message": "sent 0, counted 0", "type": None,
        "description": "Upload of 10 rows", "created": None, "statusType": "ActualsUpload",
    }  # fmt: skip
    await count(api, task_id, "MATCHED", 4)
    await api.deps.tasks.produced(task_id, records=10, invalid=0)
    await count(api, task_id, "MATCHED", 5)
    await count(api, task_id, "EARLY", 2, task=1)
    running = (await client.get(f"/status/{task_id}")).json()
    assert (running["status"], running["message"]) == ("RUNNING", "counted 7 of 10")
    await count(api, task_id, "DUPLICATE", 3, task=1)
    done = await client.get(f"/status/{task_id}/")
    assert done.status_code == 303
    assert done.headers["location"] == f"{BASE}/api/v2/deployments/d/"
    assert done.json()["status"] == "COMPLETED"
    assert done.json()["message"] == "counted 10: DUPLICATE 3, PROCESSED 7"


async def test_check_06_a_task_whose_process_has_died_is_an_error(
    api: Api, client: httpx.AsyncClient, alice: Principal
) -> None:
    task_id = await a_submission(api, alice)
    assert await api.deps.tasks.hold(task_id, timedelta(milliseconds=-1), acknowledged=6, invalid=0)
    answer = await client.get(f"/status/{task_id}/")
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["status"], shown["code"]) == ("ERROR", 503)
    assert (
        shown["message"] == "the process that worked on it has died; 6 records were acknowledged until then, and count"
    )


async def test_a_process_that_is_alive_keeps_its_task(api: Api, client: httpx.AsyncClient, alice: Principal) -> None:
    task_id = await a_submission(api, alice)
    assert await api.deps.tasks.hold(task_id, timedelta(seconds=30), acknowledged=0, invalid=0)
    assert (await client.get(f"/status/{task_id}/")).json()["status"] == "RUNNING"


async def test_nothing_ends_for_its_age_while_the_pipeline_stands_still(
    api: Api, client: httpx.AsyncClient, alice: Principal
) -> None:
    task_id = await a_submission(api, alice)
    await api.deps.tasks.produced(task_id, records=10, invalid=0)
    await execute(api, "UPDATE status_tasks SET created_at = created_at - interval '3 days'")
    await api.deps.tasks.settle()
    shown = (await client.get(f"/status/{task_id}/")).json()
    assert (shown["status"], shown["message"]) == ("RUNNING", "counted 0 of 10")


async def test_work_that_is_done_at_once_sends_on_at_the_first_poll(
    api: Api, client: httpx.AsyncClient, alice: Principal
) -> None:
    task_id = await finished_task(api.deps.tasks, alice, TaskKind.SETTINGS, "d", "Settings")
    answer = await client.get(f"/status/{task_id}/")
    assert (answer.status_code, answer.json()["statusType"]) == (303, "DeploymentSettings")


async def test_a_failure_names_its_cause(api: Api, client: httpx.AsyncClient, alice: Principal) -> None:
    task_id = await begin(api.deps.tasks, alice, TaskKind.BASELINE, "d", "Baseline", with_records=False)
    await api.deps.tasks.end(task_id, TaskStatus.ERROR, code=422, message="the file can not be read")
    await api.deps.tasks.end(task_id, TaskStatus.COMPLETED, code=0, message=None)
    answer = await client.get(f"/status/{task_id}/")
    assert answer.status_code == 200
    shown = answer.json()
    assert (shown["status"], shown["code"], shown["message"]) == ("ERROR", 422, "the file can not be read")


async def test_check_07_only_the_callers_tasks_that_go_on_are_listed(
    api: Api, client: httpx.AsyncClient, alice: Principal
) -> None:
    bob = await principal_of(api, await api.token(username="bob", scope=Scope.READ))
    await begin(api.deps.tasks, bob, TaskKind.BASELINE, "d", "bob's", with_records=False)
    await finished_task(api.deps.tasks, alice, TaskKind.SETTINGS, "d", "done")
    mine = [
        await begin(api.deps.tasks, alice, TaskKind.BASELINE, "d", f"number {n}", with_records=False) for n in range(3)
    ]
    everything = (await client.get("/status/?offset=0&limit=0")).json()
    assert [task["statusId"] for task in everything["data"]] == mine[::-1]
    assert {key: everything[key] for key in everything.keys() - {"data"}} == {
        "count": 3, "next": None, "previous": None
    }  # fmt: skip
    first = (await client.get("/status?limit=2&other=kept")).json()
    assert [task["statusId"] for task in first["data"]] == mine[:0:-1]
    assert first["next"] == f"{BASE}/api/v2/status/?other=kept&offset=2&limit=2"
    rest = (await client.get(first["next"])).json()
    assert [task["statusId"] for task in rest["data"]] == mine[:1]
    assert rest["previous"] == f"{BASE}/api/v2/status/?other=kept&offset=0&limit=2"


@pytest.mark.parametrize("query", ["offset=-1", "limit=-1", "offset=x", "limit=1.5", "limit=99999999999999999999"])
async def test_a_wrong_place_in_the_list(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/status/?{query}")
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [query.partition("=")[0]]


async def test_check_08_a_status_that_was_destroyed_is_gone(
    api: Api, client: httpx.AsyncClient, alice: Principal
) -> None:
    task_id = await a_submission(api, alice)
    gone = await client.delete(f"/status/{task_id}/")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get(f"/status/{task_id}/")).status_code == 404
    assert (await client.delete(f"/status/{task_id}/")).status_code == 404
    assert (await client.get("/status/?offset=0&limit=0")).json()["data"] == []
    assert not await api.deps.tasks.hold(task_id, timedelta(seconds=60), acknowledged=0, invalid=0)


async def test_nobody_sees_the_task_of_somebody_else(api: Api, alice: Principal) -> None:
    task_id = await a_submission(api, alice)
    async with api.client(await api.token(username="bob")) as bob:
        for answer in (await bob.get(f"/status/{task_id}/"), await bob.delete(f"/status/{task_id}/")):
            assert answer.status_code == 404
            assert answer.json()["message"]


async def test_a_task_is_forgotten_a_day_after_its_end(api: Api, client: httpx.AsyncClient, alice: Principal) -> None:
    task_id = await a_submission(api, alice)
    await api.deps.tasks.produced(task_id, records=1, invalid=0)
    await count(api, task_id, "MATCHED", 1)
    await api.deps.tasks.settle()
    await execute(api, "UPDATE status_tasks SET ended_at = ended_at - interval '24 hours 1 second'")
    assert (await client.get(f"/status/{task_id}/")).status_code == 404
    await api.deps.tasks.settle()
    for table in ("status_tasks", "submissions", "submission_counts"):
        assert await execute(api, f"SELECT count(*) FROM {table}") == 0, table
