"""`hindsight verify` on the command line: three exit codes, a table, JSON."""

import json

import pytest

from service import verify_commands
from service.config import Settings
from service.ports import Unavailable
from service.usecases.cell_differences import Difference
from service.usecases.verification import Asked, Progress, Verified, VerifiedTask, verified
from tests.unit.test_cli import run

WRONG = Difference(task=1, deployment_id="rain", model_id="m", hour="2026-01-01T10:00:00.000000Z", figure="MATCHED",
                   expected=3, found=4)  # fmt: skip
GAP = "the status topic begins after seq 9"


def answer(monkeypatch: pytest.MonkeyPatch, value: Verified | Exception) -> list[Asked]:
    asked: list[Asked] = []

    async def stand_in(_: Settings, one: Asked, __: Progress) -> Verified:
        asked.append(one)
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(verify_commands, "verify", stand_in)
    return asked


def test_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [VerifiedTask(task=task, statuses=1_200, cells=7, unchecked=[GAP]) for task in range(3)]
    asked = answer(monkeypatch, verified(tasks))
    result = run("verify", "--deployment", "rain", "--partition", "2", "--since", "1970-01-01T01:00:01+01:00")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"not checked, all tasks: {GAP}",
        "3,600 statuses and 21 cells of 3 tasks compared: equal as far as could be checked",
    ]
    assert asked == [Asked(deployment_id="rain", partition=2, since=1_000_000)]


def test_different(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [VerifiedTask(task=0, faults=["lost"]), VerifiedTask(task=1, differences=[WRONG], unchecked=[GAP])]
    answer(monkeypatch, verified(tasks))
    result = run("verify")
    assert result.exit_code == 1
    table, *summary = [" ".join(line.split()) for line in result.stdout.splitlines()][1:]
    assert table == "1 rain m 2026-01-01T10:00Z MATCHED 3 4"
    assert summary == [
        "wrong, task 0: lost",
        f"not checked, task 1: {GAP}",
        "0 statuses and 0 cells of 2 tasks compared: 1 differences, 1 faults",
    ]
    told = json.loads(run("verify", "--json").stdout)
    assert not told["equal"] and told["tasks"][1]["differences"][0]["figure"] == "MATCHED"


def test_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, Unavailable("Kafka: away"))
    result = run("verify")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "error: Kafka: away\n")
    assert run("verify", "--since", "yesterday").exit_code == 2
