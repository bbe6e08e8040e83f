"""What a request to send a data set is told at once, and how its task ends when the broker does not take the rows."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.api.app import create_app
from service.domain.records import OutRecord
from service.ports import Unavailable
from service.usecases.access import Scope
from service.usecases.intake import IntakeKind, Unacknowledged
from tests.api.datarobot.conftest import Api
from tests.api.datarobot.test_baselines import a_deployment, execute
from tests.api.datarobot.test_datasets import upload

CSV = b"id,y,p_yes,p_no,age,at\na1,yes,0.8,0.2,61,2026-05-06T17:00:00Z\na2,maybe,0.5,0.5,,\n"
CLASSES = [{"className": "yes", "columnName": "p_yes"}, {"className": "no", "columnName": "p_no"}]
ACTUALS, PREDICTIONS = "actuals", "predictionInputs"


class Taken:
    """An input log that takes so many records of each chunk, and is then away if it could not take all."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.records: list[OutRecord] = []

    def partitions(self, kind: IntakeKind) -> int:
        return 4

    async def append(self, records: Sequence[OutRecord]) -> None:
        self.records += records[: self.most]
        if len(records) > self.most:
            raise Unacknowledged("away", self.most)


@pytest.fixture
async def d(api: Api) -> str:
    await a_deployment(api, "d", "Binary", ["no", "yes"], "yes")
    await execute(api, "UPDATE deployments SET association_columns = '{id}'")
    return "d"


def with_log(api: Api, log: Taken, rows_per_hour: int = 1_000) -> Api:
    deps = replace(api.deps, intake=replace(api.deps.intake, log=log, rows_per_hour=rows_per_hour))
    return Api(create_app(deps, version="0"), deps, api.dsn)


@pytest.fixture
def log() -> Taken:
    return Taken(10_000)


@pytest.fixture
async def speaking(api: Api, log: Taken) -> AsyncIterator[httpx.AsyncClient]:
    async with with_log(api, log).client(await api.token()) as opened:
        yield opened


async def send(client: httpx.AsyncClient, d: str, kind: str, body: dict[str, Any]) -> httpx.Response:
    return await client.post(f"/deployments/{d}/{kind}/fromDataset/", json=body)


def actuals(data_set: str, **more: Any) -> dict[str, Any]:
    return {"datasetId": data_set, "actualValueColumn": "y", "associationIdColumn": "id"} | more


def predictions(data_set: str, **more: Any) -> dict[str, Any]:
    return {"datasetId": data_set, "predictionsColumns": CLASSES, "associationIdColumn": "id"} | more


async def status_of(api: Api, client: httpx.AsyncClient, answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    await api.deps.work.idle()
    status: dict[str, Any] = (await client.get(f"/status/{answer.json()['statusId']}/")).json()
    return status


async def test_valid_rows_of_actuals_are_sent(api: Api, speaking: httpx.AsyncClient, d: str, log: Taken) -> None:
    shown = await upload(speaking, CSV)
    answer = await send(speaking, d, ACTUALS, actuals(shown["id"], timestampColumn="at", user="u", password="p"))
    status = await status_of(api, speaking, answer)
    assert status["statusType"] == "ActualsFromDataset"
    (record,) = log.records
    assert (record.topic, record.key) == ("actuals", b"a1")
    assert json.loads(record.value or b"") == {
        "deploymentId": "d", "associationId": "a1", "actual": "yes", "timestamp": "2026-05-06T17:00:00Z",
    }  # fmt: skip
    assert dict(record.headers)["hindsight-submission-id"].decode() == answer.json()["statusId"]
    await execute(api, "INSERT INTO submission_counts VALUES (0, $1, 'EARLY', 1)", answer.json()["statusId"])
    done = await speaking.get(f"/status/{answer.json()['statusId']}/")
    assert done.status_code == 303
    assert done.json()["message"] == (
        "counted 1: PROCESSED 1; 1 invalid rows were left out: row 1: actual: must be a class of the deployment"
    )


async def test_predictions_have_features_and_row_ids(api: Api, speaking: httpx.AsyncClient, d: str, log: Taken) -> None:
    await execute(api, """UPDATE deployments SET features = '[{"name": "age", "type": "numeric"}]'""")
    shown = await upload(speaking, CSV)
    answer = await send(
        speaking, d, PREDICTIONS, predictions(shown["id"], associationIdColumn=None, skipDriftTracking=True)
    )
    await status_of(api, speaking, answer)
    by_key = {(record.key or b"").decode(): record for record in log.records}
    task = answer.json()["statusId"]
    assert by_key.keys() == {f"submission:{task}:0", f"submission:{task}:1"}
    first = by_key[f"submission:{task}:0"]
    assert json.loads(first.value or b"") == {
        "deploymentId": "d", "prediction": {"yes": 0.8, "no": 0.2},
        "features": {"id": "a1", "y": "yes", "age": 61.0, "at": "2026-05-06T17:00:00Z"},
    }  # fmt: skip
    assert dict(first.headers)["hindsight-skip-drift-tracking"] == b"true"


async def test_an_older_version_is_sent_when_it_is_named(
    api: Api, speaking: httpx.AsyncClient, d: str, log: Taken
) -> None:
    first = await upload(speaking, CSV)
    await upload(speaking, b"id,y\nb1,no\n", datasetId=first["id"])
    await status_of(api, speaking, await send(speaking, d, ACTUALS, actuals(first["id"])))
    older = actuals(first["id"], datasetVersionId=first["versionId"])
    await status_of(api, speaking, await send(speaking, d, ACTUALS, older))
    assert [record.key for record in log.records] == [b"b1", b"a1"]


async def test_a_data_set_of_bad_rows_only(api: Api, speaking: httpx.AsyncClient, d: str, log: Taken) -> None:
    shown = await upload(speaking, b"id,y\njob:1,yes\n\n,yes\n")
    status = await status_of(api, speaking, await send(speaking, d, ACTUALS, actuals(shown["id"])))
    assert (status["status"], status["code"]) == ("ERROR", 422)
    assert status["message"].startswith("all 3 rows are invalid: row 0: associationId: must not begin with job:")
    assert status["message"].endswith("row 1: has 1 cells, not 2; row 2: associationId: is required")
    assert log.records == []


async def test_an_empty_data_set_is_done_at_once(api: Api, speaking: httpx.AsyncClient, d: str) -> None:
    shown = await upload(speaking, b"id,y\n")
    answer = await send(speaking, d, ACTUALS, actuals(shown["id"]))
    assert (await status_of(api, speaking, answer))["status"] == "COMPLETED"


async def test_check_06_rows_that_the_broker_does_not_take_end_the_task_as_an_error(api: Api, d: str) -> None:
    log = Taken(1)
    async with with_log(api, log).client(await api.token()) as client:
        shown = await upload(client, b"id,y\na1,yes\na2,yes\n")
        status = await status_of(api, client, await send(client, d, ACTUALS, actuals(shown["id"])))
        assert (status["status"], status["code"]) == ("ERROR", 503)
        assert "acknowledged 1 rows, which count; of up to 1 more it is not known" in status["message"]
        assert (await client.delete(f"/datasets/{shown['id']}/")).status_code == 204


async def test_a_broker_that_goes_away_between_chunks(api: Api, d: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.usecases.data_set_submissions.CHUNK", 1)

    class Leaving(Taken):
        def partitions(self, kind: IntakeKind) -> int:
            if self.records:
                raise Unavailable("Kafka: away")
            return 4

    async with with_log(api, Leaving(10)).client(await api.token()) as client:
        shown = await upload(client, b"id,y\na1,yes\na2,yes\n")
        status = await status_of(api, client, await send(client, d, ACTUALS, actuals(shown["id"])))
    assert (status["status"], status["code"]) == ("ERROR", 503)
    assert status["message"] == "Kafka: away; 1 rows were acknowledged until then, and count"


async def test_a_data_set_can_not_be_deleted_while_its_rows_are_not_counted(
    api: Api, speaking: httpx.AsyncClient, d: str
) -> None:
    shown = await upload(speaking, CSV)
    answer = await send(speaking, d, ACTUALS, actuals(shown["id"]))
    await status_of(api, speaking, answer)
    assert (await speaking.delete(f"/datasets/{shown['id']}/")).status_code == 409
    assert (await speaking.delete(f"/status/{answer.json()['statusId']}/")).status_code == 204
    assert (await speaking.delete(f"/datasets/{shown['id']}/")).status_code == 204


async def test_a_destroyed_task_stops_at_its_next_chunk(api: Api, d: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.usecases.data_set_submissions.CHUNK", 10)
    token, task = await api.token(), ""

    class Destroying(Taken):
        async def append(self, records: Sequence[OutRecord]) -> None:
            await super().append(records)
            if len(self.records) == 30:
                async with api.client(token) as other:
                    assert (await other.delete(f"/status/{task}/")).status_code == 204

    log = Destroying(10_000)
    async with with_log(api, log).client(token) as client:
        shown = await upload(client, b"id,y\n" + b"".join(b"a%d,yes\n" % number for number in range(100)))
        answer = await send(client, d, ACTUALS, actuals(shown["id"]))
        task = answer.json()["statusId"]
        await api.deps.work.idle()
        assert (await client.get(f"/status/{task}/")).status_code == 404
    assert len(log.records) == 30


async def test_the_limit_of_the_hour_counts_all_rows_at_once(api: Api, d: str, log: Taken) -> None:
    async with with_log(api, log, rows_per_hour=3).client(await api.token()) as client:
        shown = await upload(client, CSV)
        assert (await send(client, d, ACTUALS, actuals(shown["id"]))).status_code == 202
        answer = await send(client, d, ACTUALS, actuals(shown["id"]))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 3_600


async def test_what_is_wrong_is_told_by_the_names_of_the_request(speaking: httpx.AsyncClient, d: str) -> None:
    shown = await upload(speaking, b"id,p_yes\n")
    for kind, body, errors in (
        (ACTUALS, {}, {"datasetId", "actualValueColumn", "associationIdColumn"}),
        (ACTUALS, actuals("unknown"), {"datasetId"}),
        (ACTUALS, actuals("x\0"), {"datasetId"}),
        (ACTUALS, actuals(shown["id"], datasetVersionId="unknown"), {"datasetVersionId"}),
        (ACTUALS, actuals(shown["id"], associationIdColumn="i", timestampColumn="t", wasActedOnColumn="w"),
         {"associationIdColumn", "actualValueColumn", "timestampColumn", "wasActedOnColumn"}),
        (PREDICTIONS, {}, {"datasetId", "predictionsColumns"}),
        (PREDICTIONS, predictions("unknown", predictionsColumns="p_yes"), {"datasetId", "predictionsColumns"}),
        (PREDICTIONS, predictions(shown["id"], timestampColumn="t", monitoringBatchId="b"),
         {"predictionsColumns", "timestampColumn", "monitoringBatchId"}),
        (PREDICTIONS, predictions(shown["id"], predictionsColumns=[]), {"predictionsColumns"}),
        (PREDICTIONS, predictions(shown["id"], predictionsColumns=CLASSES * 501), {"predictionsColumns"}),
        (PREDICTIONS, predictions(shown["id"], predictionsColumns=[CLASSES[0]]), {"predictionsColumns"}),
    ):  # fmt: skip
        answer = await send(speaking, d, kind, body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"].keys() == errors


async def test_actuals_need_an_association_id_column(api: Api, speaking: httpx.AsyncClient, d: str) -> None:
    await execute(api, "UPDATE deployments SET association_columns = '{}'")
    shown = await upload(speaking, CSV)
    answer = await send(speaking, d, ACTUALS, actuals(shown["id"]))
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("No association ID column is set")


async def test_who_may(api: Api, client: httpx.AsyncClient, d: str) -> None:
    shown = await upload(client, CSV)
    for token, status in (
        (await api.token(scope=Scope.READ), 403),
        (await api.token(username="bob", organisation="elsewhere"), 404),
        (await api.token(deployments=["other"]), 404),
        (await api.token(deployments=[d]), 422),  # and sees no data sets
    ):
        async with api.client(token) as other:
            assert (await send(other, d, ACTUALS, actuals(shown["id"]))).status_code == status
            assert (await send(other, d, PREDICTIONS, predictions(shown["id"]))).status_code == status
    for kind in (ACTUALS, PREDICTIONS):
        path = f"/deployments/{d}/{kind}/fromDataset"
        assert (await client.post(path, content=b"{}", headers={"Content-Type": "text/csv"})).status_code == 415
        assert (await client.post(path, content=b"[]", headers={"Content-Type": "application/json"})).status_code == 400
