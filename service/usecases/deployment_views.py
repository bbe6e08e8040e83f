"""Deployments as people look at them: what they are, how much they are used, and how they fare.

Health is told as it is before the first evaluation: what can not be judged is unavailable, all else is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final, Protocol

from service.domain.errors import NotFound
from service.usecases.access import Principal
from service.usecases.deployments import DeploymentSettings

DAYS: Final = 7


class HealthStatus(StrEnum):
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    PASSING = "passing"
    WARNING = "warning"
    FAILING = "failing"


class Order(StrEnum):
    """By what deployments are listed. Health from `unavailable` to `failing`, as above."""

    LABEL = "label"
    CREATED_AT = "created_at"
    SERVICE_HEALTH = "service_health"
    MODEL_HEALTH = "model_health"
    ACCURACY_HEALTH = "accuracy_health"


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`start` and `end` of what was judged; None where nothing was."""

    status: HealthStatus
    message: str
    start: datetime | None = None
    end: datetime | None = None
    evaluated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSummary:
    deployment_id: str
    model_id: str
    kind: str
    rows: int
    method: str
    version: int
    created_at: datetime

    @property
    def id(self) -> str:
        """The same for all versions of one model and kind."""
        return sha256(f"{self.deployment_id}/{self.model_id}/{self.kind}".encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentView:
    settings: DeploymentSettings
    created_at: datetime
    baselines: Sequence[BaselineSummary]
    daily_rates: Sequence[int]
    """Predictions of each of the last days, in UTC; today is the last."""
    last_prediction_at: datetime | None
    judges_drift: bool
    judges_accuracy: bool

    @property
    def service_health(self) -> Health:
        return Health(status=HealthStatus.UNAVAILABLE, message="No service data.")

    @property
    def model_health(self) -> Health:
        return _unless(self.judges_drift, "Drift is not tracked.")

    @property
    def accuracy_health(self) -> Health:
        return _unless(self.judges_accuracy, "No association ID and no actuals.")

    @property
    def predictions_timeliness(self) -> Health:
        return _unless(self.settings.health.predictions_timeliness.enabled, "Not enabled.")

    @property
    def actuals_timeliness(self) -> Health:
        return _unless(self.settings.health.actuals_timeliness.enabled, "Not enabled.")


def _unless(is_judged: bool, why_not: str) -> Health:
    if is_judged:
        return Health(status=HealthStatus.UNKNOWN, message="Not evaluated yet.")
    return Health(status=HealthStatus.UNAVAILABLE, message=why_not)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which deployments somebody wants to see."""

    search: str | None = None
    """Part of a label or description in any case, or a whole ID."""
    order: Order = Order.CREATED_AT
    descending: bool = True
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewedDeployments:
    views: Sequence[DeploymentView]
    total: int


class DeploymentViews(Protocol):
    """Where deployments are read for people. May raise `Unavailable`."""

    async def listed(
        self, organisation: str, only: Sequence[str] | None, listing: Listing, *, today: datetime
    ) -> ViewedDeployments:
        """Those of the organisation, and of `only` where it is given, ties by ID; `today` is the begin of the day."""


async def listed(views: DeploymentViews, principal: Principal, listing: Listing, *, now: datetime) -> ViewedDeployments:
    """What is open to whoever asks."""
    only = None if principal.deployments is None else sorted(principal.deployments)
    return await views.listed(principal.organisation, only, listing, today=_day(now))


async def view(views: DeploymentViews, principal: Principal, deployment_id: str, *, now: datetime) -> DeploymentView:
    """Raises `NotFound`."""
    found = await views.listed(principal.organisation, [deployment_id], Listing(limit=1), today=_day(now))
    if not found.views:
        raise NotFound(f"there is no deployment {deployment_id!r}")
    return found.views[0]


def first_day(today: datetime) -> datetime:
    """The oldest of the days whose predictions are told."""
    return today - timedelta(days=DAYS - 1)


def _day(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
