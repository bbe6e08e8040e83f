"""Which monitoring batch a deployment's policy gives, and which batches take rows."""

import time
from datetime import UTC, datetime

import numpy as np
import pytest

from service.domain.deployment import BatchPolicy
from service.domain.errors import Reason
from service.domain.monitoring_batch import MonitoringBatch, hours_of, policy_batch_name, policy_starts


def microseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def hour_of(text: str) -> int:
    return int(hours_of(np.array([microseconds(text)]))[0])


@pytest.mark.parametrize(
    ("policy", "name"),
    [(BatchPolicy.HOURLY, "2026-05-06T17:00Z"), (BatchPolicy.DAILY, "2026-05-06")],
)
def test_a_policy_names_batches_by_the_utc_hour(policy: BatchPolicy, name: str) -> None:
    assert policy_batch_name(policy, hour_of("2026-05-06T19:59:59.999999+02:00")) == name


def test_names_are_utc_wherever_the_machine_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        name = policy_batch_name(BatchPolicy.HOURLY, hour_of("2026-05-06T23:59:00+00:00"))
    time.tzset()
    assert name == "2026-05-06T23:00Z"


@pytest.mark.parametrize(
    ("policy", "starts"),
    [
        (BatchPolicy.HOURLY, ["2026-05-06T22:00:00+00:00", "2026-05-06T23:00:00+00:00", "2026-05-07T00:00:00+00:00"]),
        (BatchPolicy.DAILY, ["2026-05-06T00:00:00+00:00", "2026-05-06T00:00:00+00:00", "2026-05-07T00:00:00+00:00"]),
    ],
)
def test_a_batch_of_a_policy_begins_with_its_hour_or_day(policy: BatchPolicy, starts: list[str]) -> None:
    midnight = microseconds("2026-05-07T00:00:00+00:00")
    instants = np.array([midnight - 3_600_000_001, midnight - 1, midnight])
    assert policy_starts(policy, instants).tolist() == [microseconds(start) for start in starts]


def test_an_hour_begins_with_its_first_microsecond() -> None:
    start = microseconds("2026-05-06T17:00:00+00:00")
    assert hours_of(np.array([start - 1, start, start + 1, 0])).tolist() == [start - 3_600_000_000, start, start, 0]
    assert datetime.fromtimestamp(start / 1_000_000, UTC).minute == 0


@pytest.mark.parametrize(
    ("is_locked", "is_deleted", "refusal"),
    [
        (False, False, None),
        (True, False, Reason.BATCH_LOCKED),
        (False, True, Reason.BATCH_DELETED),
        (True, True, Reason.BATCH_DELETED),
    ],
)
def test_a_locked_or_deleted_batch_takes_no_row(is_locked: bool, is_deleted: bool, refusal: Reason | None) -> None:
    batch = MonitoringBatch(
        deployment_id="d", id="b", version=1, name="monday", is_locked=is_locked, is_deleted=is_deleted
    )
    assert batch.refusal is refusal


def test_a_new_batch_takes_rows() -> None:
    assert MonitoringBatch(deployment_id="d", id="b", version=1, name="monday").refusal is None
