"""One row as a worker tells it: beside the probes, to its own machine only."""

import httpx
import pytest
from prometheus_client import CollectorRegistry

from service.api.rows import create_worker_app
from service.domain.errors import Conflict, NotFound
from service.domain.row import RowPhase, RowState, decode_row, encode_row
from service.ports import Unavailable
from service.wire.held_row import HeldRow, decode_held, shown_row
from tests.api.test_ops import probes

ROW = RowState(RowPhase.OPEN, 1, 1_767_262_620_000_000, 0, 0, 10**18, 5, 0, b'{"late":0.83}', b"", "m", "")
ODD = "a/b?c d%2F../é"


def find(deployment_id: str, row_id: str) -> HeldRow:
    match row_id:
        case "away":
            raise Conflict("row 'away' lives in task 3; the tasks of this worker are: 0, 1")
        case "soon":
            raise Unavailable("task 1 is being taken over")
        case "never":
            raise NotFound("row 'never' came without any ID")
        case "none":
            return HeldRow(deployment_id=deployment_id, row_id=row_id, task=1, version=7)
    state = encode_row(ROW)
    return HeldRow(
        deployment_id=deployment_id, row_id=row_id, task=1, version=7, row=shown_row(ROW), state=state,
        watermark="2026-01-01T00:00:00.000000Z",
    )  # fmt: skip


async def ask(row: str, *, client: tuple[str, int] = ("127.0.0.1", 1), **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(create_worker_app(CollectorRegistry(), probes(), find), client=client)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker", headers=headers) as asking:
        return await asking.get(f"/rows/flights/{row}")


async def test_a_row_in_words_and_as_it_is_packed() -> None:
    answer = await ask("UA1")
    assert answer.status_code == 200
    assert answer.json()["row"] == {
        "phase": "OPEN", "revision": 1, "predictedAt": "2026-01-01T10:17:00.000000Z",
        "drop": "9999-12-31T23:59:59.999999Z", "prediction": {"late": 0.83}, "modelId": "m",
    }  # fmt: skip
    held = decode_held(answer.content)
    assert (held.task, held.version, held.watermark) == (1, 7, "2026-01-01T00:00:00.000000Z")
    assert decode_row(held.state) == ROW


async def test_any_row_id_can_be_asked_for() -> None:
    assert (await ask("a%2Fb%3Fc%20d%252F%2E%2E%2F%C3%A9")).json()["rowId"] == ODD


@pytest.mark.parametrize(
    ("row", "status", "detail"),
    [
        ("none", 404, "task 1 holds no row 'none' of deployment 'flights' at version 7"),
        ("never", 404, "row 'never' came without any ID"),
        ("away", 409, "row 'away' lives in task 3; the tasks of this worker are: 0, 1"),
        ("soon", 503, "task 1 is being taken over"),
    ],
)
async def test_why_there_is_none(row: str, status: int, detail: str) -> None:
    answer = await ask(row)
    assert (answer.status_code, answer.json()) == (status, {"detail": detail})


async def test_only_this_machine_is_told() -> None:
    assert (await ask("UA1", client=("10.0.0.7", 1))).status_code == 403
    assert (await ask("UA1", forwarded="for=127.0.0.1")).status_code == 403
    assert (await ask("UA1", client=("::1", 1))).status_code == 200
