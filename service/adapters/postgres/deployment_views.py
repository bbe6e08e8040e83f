"""Deployments for people, however many of a page: one statement, and one for how many there are."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from service.adapters.postgres.deployment_rows import deployment_settings, instant
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.usecases.deployment_views import (
    DAYS,
    BaselineSummary,
    DeploymentView,
    Listing,
    ViewedDeployments,
    first_day,
)

_VIEWS: Final = statement("deployment_views")
_COUNT: Final = statement("deployment_views_count")
_DAY: Final = timedelta(days=1)


class PostgresDeploymentViews:
    """`service.usecases.deployment_views.DeploymentViews` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def listed(
        self, organisation: str, only: Sequence[str] | None, listing: Listing, *, today: datetime
    ) -> ViewedDeployments:
        which = organisation, None if only is None else list(only), listing.search
        order = f"{'-' if listing.descending else ''}{listing.order}"
        days = first_day(today), today + _DAY
        with translating():
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(_VIEWS, *which, order, listing.limit, listing.offset, *days)
                total = await connection.fetchval(_COUNT, *which)
        return ViewedDeployments(views=[_view(row, days[0]) for row in rows], total=total)


def _view(row: Mapping[str, Any], first: datetime) -> DeploymentView:
    rates = row["rates"] or {}
    days = [(first + day * _DAY).date().isoformat() for day in range(DAYS)]
    return DeploymentView(
        settings=deployment_settings(row, [row["model"]]),
        created_at=row["created_at"],
        baselines=[_baseline(row["id"], stored) for stored in row["baselines"] or ()],
        daily_rates=[rates.get(day, 0) for day in days],
        last_prediction_at=row["last_at"],
        judges_drift=row["judges_drift"],
        judges_accuracy=row["judges_accuracy"],
    )


def _baseline(deployment_id: str, stored: Mapping[str, Any]) -> BaselineSummary:
    created_at = instant(stored["created_at"])
    assert created_at is not None
    return BaselineSummary(**{**stored, "created_at": created_at}, deployment_id=deployment_id)
