"""Which monitoring batch a deployment's policy gives, and which batches take rows."""

from datetime import UTC, datetime

import numpy as np
import pytest

from service.domain.deployment import BatchPolicy
from service.domain.errors import Reason
from service.domain.monitoring_batch import MonitoringBatch, hours_of, policy_batch_name


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
