"""Which monitoring batch a prediction joins: by ID, else by name, else by its deployment's policy."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from service.domain.deployment import BatchPolicy
from service.domain.errors import Reason
from service.domain.instants import DAY_US, HOUR_US

MAX_NAME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringBatch:
    """One batch at one version, as far as the admission of rows depends on it."""

    deployment_id: str
    id: str
    version: int
    name: str
    is_locked: bool = False
    is_deleted: bool = False

    @property
    def refusal(self) -> Reason | None:
        """Why no further row may join, or None."""
        if self.is_deleted:
            return Reason.BATCH_DELETED
        return Reason.BATCH_LOCKED if self.is_locked else None


def policy_starts(policy: BatchPolicy, events_at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Start of the UTC hour or day (n,), by policy, that each instant falls into; microseconds since 1970."""
    width = HOUR_US if policy is BatchPolicy.HOURLY else DAY_US
    return events_at - events_at % width


def policy_batch_name(policy: BatchPolicy, start_us: int) -> str:
    """Name of the batch that a policy (hourly or daily) gives to the rows of this hour or day.

    Hourly batches are named `2026-05-06T17:00Z`, daily ones `2026-05-06`.
    """
    start = datetime.fromtimestamp(start_us // 1_000_000, UTC)
    return start.strftime("%Y-%m-%dT%H:00Z" if policy is BatchPolicy.HOURLY else "%Y-%m-%d")


def hours_of(events_at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Start of the UTC hour that holds each instant (n,), both in microseconds since 1970."""
    return events_at - events_at % HOUR_US
