"""The command line on drift: what is asked, and how it is shown."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from service import commands
from service.config import PostgresSettings
from service.domain.errors import Invalid
from service.domain.stats.histogram import FeatureLayout
from service.usecases.baselines import Baseline, BaselineCounts
from service.usecases.drift import BaselineKind, DriftQuestion
from service.usecases.statistics import Grouping
from tests.unit.test_cli import NOBODY, answer, run


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS", NOBODY)
    monkeypatch.setenv("HINDSIGHT_POSTGRES__DSN", f"postgresql://somebody@{NOBODY}/hindsight")


BUCKET: dict[str, Any] = {
    "bucket": "2026-01",
    "features": [
        {
            "feature": "[f]", "n": 3, "m": 2, "psi": 0.25, "klDivergence": 0.0, "jsDivergence": 1.0, "hellinger": None,
            "dissimilarity": None, "wasserstein": None, "energy": None,
        }
    ],
}  # fmt: skip


def test_drift_for_people_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "show_drift", {"modelId": "m", "buckets": [BUCKET]})
    assert json.loads(run("drift", "d", "--json").stdout)["buckets"] == [BUCKET]
    heading, row = (line.split() for line in run("drift", "d").stdout.splitlines())
    assert (heading[:4], row) == (["feature", "n", "m", "psi"], ["[f]", "3", "2", "0.2500", "0.0000", "1.0000"])
    assert run("drift", "d", "--by", "month").stdout.splitlines()[1].split()[:2] == ["2026-01", "[f]"]


def test_the_question_about_drift_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[DriftQuestion] = []

    async def show_drift(settings: PostgresSettings, asked: DriftQuestion) -> dict[str, Any]:
        seen.append(asked)
        raise Invalid("model: there is none")

    monkeypatch.setattr(commands, "show_drift", show_drift)
    arguments = "--by day --from 2026-01-01T01:00+01:00 --to 2026-01-02T00:00Z --batch b --model m --baseline period"
    result = run("drift", "d", *arguments.split())
    assert (result.exit_code, result.stderr) == (2, "error: model: there is none\n")
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert seen == [
        DriftQuestion(
            deployment_id="d", model_id="m", start=start, end=end, by=Grouping.DAY, batch_id="b",
            baseline=BaselineKind.PERIOD,
        )
    ]  # fmt: skip


def test_a_baseline_from_a_period(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = BaselineCounts(rows=26_820, layout=FeatureLayout(), counts=())
    answer(monkeypatch, "fix_baseline", Baseline(model_id="m", kind="period", counted=counted, version=2))
    arguments = ("--from", "2026-01-01T00:00Z", "--to", "2026-02-01T00:00Z")
    told = "baseline period of model m: 26,820 rows, version 2\n"
    assert run("deployments", "baseline", "d", *arguments).stdout == told
