"""What is refused of posted rows: every field that is wrong is named, and nothing reaches the topics."""

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from service.usecases.access import Scope
from tests.integration.posting import ACTUALS, PREDICTIONS, Posting, open_posting
from tests.integration.worker import Site

AT = "2026-01-01T10:17:00Z"
SHARES = [{"className": "late", "value": 0.8}, {"className": "on_time", "value": 0.2}]
TOO_LARGE = [SHARES[0] | {"value": 1.5}, SHARES[1]]


@pytest.fixture
async def posting(site: Site) -> AsyncIterator[Posting]:
    """In which nothing ever reaches the topics."""
    async with open_posting(site, API__ROWS_PER_HOUR="10000") as opened:
        await opened.connected()
        before = await site.ends()
        yield opened
        assert await site.ends() == before


def truth(**changed: Any) -> dict[str, Any]:
    return {"associationId": "a", "actualValue": "late", "timestamp": AT} | changed


def late(**changed: Any) -> dict[str, Any]:
    return {"associationId": "a", "prediction": SHARES, "timestamp": AT, "features": {"x": 1}} | changed


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


LATER = "2999-01-01T00:00:00Z"
BAD_ACTUALS: list[tuple[dict[str, Any], str]] = [
    (truth(associationId=""), "associationId"),
    (truth(associationId="x" * 129), "associationId"),
    (truth(associationId="job:1:2"), "associationId"),
    (truth(associationId="submission:1:2"), "associationId"),
    (truth(associationId="record:t:0:1"), "associationId"),
    (truth(associationId=None), "associationId"),
    (truth(associationId=7), "associationId"),
    (truth(associationId=["a", "b"]), "associationId"),
    (without(truth(), "associationId"), "associationId"),
    (truth(actualValue="never"), "actualValue"),
    (truth(actualValue=None), "actualValue"),
    (truth(actualValue=True), "actualValue"),
    (truth(actualValue=1), "actualValue"),
    (truth(actualValue={"late": 1}), "actualValue"),
    (without(truth(), "actualValue"), "actualValue"),
    (truth(wasActedOn="yes"), "wasActedOn"),
    (truth(wasActedOn=1), "wasActedOn"),
    (truth(timestamp=LATER), "timestamp"),
    (truth(timestamp="1969-12-31T23:59:59Z"), "timestamp"),
    (truth(timestamp="0001-01-01T00:00:00+23:59"), "timestamp"),
    (truth(timestamp="yesterday"), "timestamp"),
    (truth(timestamp="2026-02-30T00:00:00Z"), "timestamp"),
    (truth(timestamp=1767262620), "timestamp"),
    (truth(timestamp=""), "timestamp"),
]
BAD_PREDICTIONS: list[tuple[dict[str, Any], str]] = [
    (late(associationId=""), "associationId"),
    (late(associationId="x" * 129), "associationId"),
    (late(associationId="job:1"), "associationId"),
    (late(associationId="submission:1"), "associationId"),
    (late(associationId="record:1"), "associationId"),
    (late(associationId=1), "associationId"),
    (late(timestamp=LATER), "timestamp"),
    (late(timestamp="1960-01-01"), "timestamp"),
    (late(timestamp=True), "timestamp"),
    (late(features={"x": [1]}), "features"),
    (late(features={"x": {"y": 1}}), "features"),
    (late(features=[1]), "features"),
    (late(features="x"), "features"),
    (without(late(), "prediction"), "prediction"),
    (late(prediction=None), "prediction"),
    (late(prediction=0.5), "prediction"),
    (late(prediction="late"), "prediction"),
    (late(prediction=[]), "prediction"),
    (late(prediction={"late": 0.8}), "prediction"),
    (late(prediction=TOO_LARGE), "prediction.0.value"),
    (late(prediction=[SHARES[0], SHARES[1] | {"value": -0.1}]), "prediction.1.value"),
    (late(prediction=[SHARES[0], SHARES[1] | {"value": "0.2"}]), "prediction.1.value"),
    (late(prediction=[SHARES[0], SHARES[1] | {"value": True}]), "prediction.1.value"),
    (late(prediction=[SHARES[0], without(SHARES[1], "value")]), "prediction.1.value"),
    (late(prediction=[SHARES[0], without(SHARES[1], "className")]), "prediction.1.className"),
    (late(prediction=[SHARES[0], SHARES[1] | {"className": "never"}]), "prediction.1.className"),
    (late(prediction=[SHARES[0], SHARES[0]]), "prediction.1.className"),
    (late(prediction=[SHARES[0], SHARES[1] | {"className": 1}]), "prediction.1.className"),
    (late(service=1), "service"),
    (late(service={"responseTimeMs": -1}), "service.responseTimeMs"),
    (late(service={"executionTimeMs": "1"}), "service.executionTimeMs"),
    (late(service={"outcome": "fine"}), "service.outcome"),
    (late(service={"consumerId": 5}), "service.consumerId"),
    (late(service={"cacheHit": "no"}), "service.cacheHit"),
]
BAD_HEADS: dict[str, list[tuple[dict[str, Any], str]]] = {
    ACTUALS: [({"keepActualsWithoutPredictions": value}, "keepActualsWithoutPredictions") for value in (None, 1, "no")],
    PREDICTIONS: [
        ({"modelId": "a b"}, "modelId"),
        ({"modelId": "."}, "modelId"),
        ({"modelId": 5}, "modelId"),
        ({"monitoringBatchId": "none-such"}, "monitoringBatchId"),
        ({"monitoringBatchId": "not / an id\0"}, "monitoringBatchId"),
        ({"monitoringBatchId": []}, "monitoringBatchId"),
        ({"skipDriftTracking": "yes"}, "skipDriftTracking"),
        ({"skipDriftTracking": None}, "skipDriftTracking"),
    ],
}
GOOD = {ACTUALS: truth(), PREDICTIONS: late()}
BAD = {ACTUALS: BAD_ACTUALS, PREDICTIONS: BAD_PREDICTIONS}


@pytest.mark.parametrize("kind", [ACTUALS, PREDICTIONS], ids=["actuals", "predictions"])
async def test_everything_that_is_wrong_is_named_at_once(posting: Posting, kind: str) -> None:
    """150 bodies of each kind: some bad rows among good ones, bad heads, none of it sent."""
    rng = random.Random(7)
    for number in range(150):
        chosen = [BAD[kind][number % len(BAD[kind])], *rng.sample(BAD[kind], rng.randrange(0, 5))]
        rows = [row for row, _ in chosen] + [GOOD[kind]] * rng.randrange(0, 6)
        order = rng.sample(range(len(rows)), len(rows))
        expected = {f"data.{order.index(place)}.{field}" for place, (_, field) in enumerate(chosen)}
        head: dict[str, Any] = {}
        if rng.random() < 0.3:
            head, field = rng.choice(BAD_HEADS[kind])
            expected.add(field)
        answer = await posting.post(kind, [rows[place] for place in order], **head)
        assert answer.status_code == 422, answer.text
        assert answer.json()["message"] == "Invalid field data."
        assert set(answer.json()["errors"]) == expected
        assert all(rule.endswith(".") for rule in answer.json()["errors"].values())


@pytest.mark.parametrize("kind", [ACTUALS, PREDICTIONS], ids=["actuals", "predictions"])
async def test_each_bad_head_is_named(posting: Posting, kind: str) -> None:
    for head, field in BAD_HEADS[kind]:
        answer = await posting.post(kind, [GOOD[kind]], **head)
        assert (answer.status_code, set(answer.json()["errors"])) == (422, {field}), answer.text


@pytest.mark.parametrize("kind", [ACTUALS, PREDICTIONS], ids=["actuals", "predictions"])
async def test_bodies_that_are_no_rows(posting: Posting, kind: str) -> None:
    path = f"/deployments/flights/{kind}/"
    json_type = {"Content-Type": "application/json"}
    for content, status in ((b"", 400), (b"{", 400), (b"[]", 400), (b"7", 400), (b"\xff", 400), (b"[" * 9_999, 400)):
        answer = await posting.client.post(path, content=content, headers=json_type)
        assert answer.status_code == status, (content, answer.text)
        assert set(answer.json()) == {"message", "errors"}
    others: list[dict[str, Any]] = [{}, {"data": None}, {"data": []}, {"data": {}}, {"data": "x"}]
    for bad in others:
        answer = await posting.client.post(path, json=bad)
        assert (answer.status_code, set(answer.json()["errors"])) == (422, {"data"}), answer.text
    answer = await posting.client.post(path, json={"data": [1, None]})
    assert (answer.status_code, set(answer.json()["errors"])) == (422, {"data.0", "data.1"})
    assert (await posting.client.post(path, content=b"a,b", headers={"Content-Type": "text/csv"})).status_code == 415
    large = b'{"data": [], "x": "' + b"x" * (32 << 20) + b'"}'
    assert (await posting.client.post(path, content=large, headers=json_type)).status_code == 413


async def test_check_30_limits_of_a_request(site: Site, posting: Posting) -> None:
    rows = [truth(associationId=f"r{number}") for number in range(10_001)]
    answer = await posting.post(ACTUALS, rows)
    assert (answer.status_code, set(answer.json()["errors"])) == (422, {"data"})
    for bad in ("x" * 129, "job:1", "submission:1", "record:1"):
        for kind, row in GOOD.items():
            answer = await posting.post(kind, [row | {"associationId": bad}])
            assert (answer.status_code, set(answer.json()["errors"])) == (422, {"data.0.associationId"})


async def test_check_30_the_hourly_limit(site: Site, posting: Posting) -> None:
    """Reached by what was counted in this hour; what was counted in another does not matter."""
    statement = (
        "INSERT INTO intake_hours (deployment_id, kind, hour, records)"
        " VALUES ('flights', $1, date_trunc('hour', clock_timestamp()) - $3::interval, $2)"
    )
    for kind in ("actuals", "predictions"):
        await site.pool.execute(statement, kind, 9_999, timedelta())
        await site.pool.execute(statement, kind, 9_999, timedelta(hours=1))
    for kind, row in GOOD.items():
        answer = await posting.post(kind, [row, row])
        assert answer.status_code == 429, answer.text
        assert 1 <= int(answer.headers["retry-after"]) <= 3600
        assert answer.json()["errors"] == {}
    assert await site.pool.fetchval("SELECT max(records) FROM intake_hours") == 9_999
    assert await site.pool.fetchval("SELECT count(*) FROM status_tasks") == 0


async def test_of_several_classes_an_actual_counts_once_for_each(site: Site, posting: Posting) -> None:
    await site.pool.execute("UPDATE deployments SET target_type = 'Multiclass', class_names = '{late,on_time,never}'")
    rows = [truth(associationId=f"r{number}") for number in range(3_334)]
    assert (await posting.post(ACTUALS, rows)).status_code == 429
    assert await site.pool.fetchval("SELECT count(*) FROM intake_hours") == 0


async def test_a_regression_takes_numbers(site: Site, posting: Posting) -> None:
    await site.pool.execute(
        "UPDATE deployments SET target_type = 'Regression', class_names = '{}', positive_class = NULL"
    )
    for value in ("1", "late", None, True):
        answer = await posting.post(ACTUALS, [truth(actualValue=value)])
        assert (answer.status_code, set(answer.json()["errors"])) == (422, {"data.0.actualValue"}), answer.text
    for given in (SHARES, [], "1", None):
        answer = await posting.post(PREDICTIONS, [late(prediction=given)])
        assert (answer.status_code, set(answer.json()["errors"])) == (422, {"data.0.prediction"}), answer.text
    path, headers = "/deployments/flights/actuals/fromJSON/", {"Content-Type": "application/json"}
    for number, status in ((b"1e400", 422), (b"-" + b"9" * 400, 422), (b"NaN", 422)):
        body = b'{"data": [{"associationId": "a", "actualValue": %b}]}' % number
        answer = await posting.client.post(path, content=body, headers=headers)
        assert (answer.status_code, set(answer.json()["errors"])) == (status, {"data.0.actualValue"}), answer.text


async def test_what_the_deployment_asks_for(site: Site, posting: Posting) -> None:
    await site.pool.execute("UPDATE deployments SET association_columns = '{}', association_required = true")
    answer = await posting.post(ACTUALS, [truth()])
    assert (answer.status_code, answer.json()["errors"]) == (422, {})
    assert "association ID column" in answer.json()["message"]
    for row in (late(associationId=None), without(late(), "associationId")):
        answer = await posting.post(PREDICTIONS, [late(), row])
        assert answer.status_code == 422
        assert answer.json()["errors"] == {"data.1.associationId": "Is required by the deployment."}
    await site.pool.execute("INSERT INTO models SELECT 'flights', 'more-' || n, 'x' FROM generate_series(1, 99) n")
    answer = await posting.post(PREDICTIONS, [late()], modelId="one-more")
    assert (answer.status_code, set(answer.json()["errors"])) == (422, {"modelId"})


async def test_monitoring_batches_that_take_no_rows(site: Site, posting: Posting) -> None:
    insert = (
        "INSERT INTO monitoring_batches (deployment_id, id, name, origin, is_locked, deleted_at)"
        " VALUES ('flights', $1, 'B', 'api', $2, CASE WHEN $3 THEN now() END)"
    )
    await site.pool.execute(insert, "locked", True, False)
    await site.pool.execute(insert, "deleted", False, True)
    locked = await posting.post(PREDICTIONS, [late()], monitoringBatchId="locked")
    assert (locked.status_code, locked.json()["errors"]) == (409, {})
    bad_row_first = await posting.post(PREDICTIONS, [late(timestamp=LATER)], monitoringBatchId="locked")
    assert bad_row_first.status_code == 422
    deleted = await posting.post(PREDICTIONS, [late()], monitoringBatchId="deleted")
    assert (deleted.status_code, set(deleted.json()["errors"])) == (422, {"monitoringBatchId"})
    await site.pool.execute("UPDATE deployments SET batch_enabled = false")
    off = await posting.post(PREDICTIONS, [late()], monitoringBatchId="locked")
    assert (off.status_code, set(off.json()["errors"])) == (422, {"monitoringBatchId"})
    assert "off" in off.json()["errors"]["monitoringBatchId"]


async def test_idempotency_keys_that_can_not_be(posting: Posting) -> None:
    for key in ("", "x" * 256, "tab\tin it", "caf\u00e9"):
        headers = [(b"Idempotency-Key", key.encode("latin-1"))]
        for kind, row in GOOD.items():
            answer = await posting.client.post(f"/deployments/flights/{kind}/", json={"data": [row]}, headers=headers)
            assert (answer.status_code, set(answer.json()["errors"])) == (422, {"Idempotency-Key"}), (key, answer.text)


async def test_who_may_send_rows(posting: Posting) -> None:
    api = posting.api
    tokens = {
        None: 401,
        await api.token(username="reader", scope=Scope.READ): 403,
        await api.token(username="stranger", organisation="other"): 404,
        await api.token(username="confined", deployments=["something-else"]): 404,
    }
    for token, status in tokens.items():
        async with api.client(token) as client:
            for kind, row in GOOD.items():
                for path in (f"/deployments/flights/{kind}/", f"/deployments/flights/{kind}"):
                    answer = await client.post(path, json={"data": [row]})
                    assert answer.status_code == status, (status, answer.text)
                    assert set(answer.json()) == {"message", "errors"}
    for kind, row in GOOD.items():
        assert (await posting.post(kind, [row], to="nowhere")).status_code == 404
        assert (await posting.client.get(f"/deployments/flights/{kind}/")).status_code == 405
