"""Plain read-only JSON for the machine's own people and scripts, under `/internal/v1`; no password, so loopback only.

Neither of the two dialects, and no promise to anybody outside: names and shapes may change with any version.
"""

from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import AwareDatetime

from service.usecases import deployments as deployment_cases
from service.usecases import drift as drift_cases
from service.usecases import monitoring_batches as batch_cases
from service.usecases import statistics as statistics_cases
from service.usecases.deployments import Deployments
from service.usecases.drift import BaselineKind, DriftQuestion, FeatureCounts
from service.usecases.monitoring_batches import MonitoringBatches
from service.usecases.statistics import Grouping, Statistics

PREFIX = "/internal/v1"
_FORWARDED = ("forwarded", "x-forwarded-for")

Limit = Annotated[int, Query(ge=1, le=1_000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]


def require_loopback(request: Request) -> None:
    """Lets in only who is on this machine: neither another machine, nor a proxy that speaks for one."""
    if not _is_loopback(request) or any(name in request.headers for name in _FORWARDED):
        raise HTTPException(status_code=403, detail="only from this machine")


def internal_router(
    deployments: Deployments, batches: MonitoringBatches, statistics: Statistics, features: FeatureCounts
) -> APIRouter:
    """Domain errors and `Unavailable` are left to the application."""
    router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_loopback)], include_in_schema=False)

    @router.get("/deployments")
    async def list_deployments() -> dict[str, Any]:
        return {"deployments": [deployment_cases.summarise(one) for one in await deployments.all()]}

    @router.get("/deployments/{deployment_id}")
    async def show_deployment(deployment_id: str) -> dict[str, Any]:
        return deployment_cases.describe(await deployment_cases.show(deployments, deployment_id))

    @router.get("/deployments/{deployment_id}/batches")
    async def list_batches(deployment_id: str, limit: Limit = 100, offset: Offset = 0) -> dict[str, Any]:
        page = await batch_cases.page(batches, deployment_id, limit=limit, offset=offset)
        shown = [batch_cases.describe(batch) for batch in page.batches]
        return {"batches": shown, "total": page.total, "limit": limit, "offset": offset}

    @router.get("/deployments/{deployment_id}/statistics")
    async def show_statistics(
        deployment_id: str,
        by: Grouping = Grouping.ALL,
        start: AwareDatetime | None = None,
        end: AwareDatetime | None = None,
    ) -> dict[str, Any]:
        figures = await statistics_cases.figures(statistics, deployment_id, by=by, start=start, end=end)
        return {"by": by, "groups": [statistics_cases.describe(group) for group in figures]}

    @router.get("/deployments/{deployment_id}/drift")
    async def show_drift(asked: Annotated[DriftQuestion, Depends(_drift_question)]) -> dict[str, Any]:
        return drift_cases.describe(await drift_cases.drift(deployments, features, asked), asked.by)

    return router


def _drift_question(
    deployment_id: str,
    start: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    end: Annotated[AwareDatetime | None, Query(alias="to")] = None,
    bucket: Grouping = Grouping.ALL,
    batch: str | None = None,
    model: str | None = None,
    baseline: BaselineKind = BaselineKind.TRAINING,
) -> DriftQuestion:
    return DriftQuestion(
        deployment_id=deployment_id,
        model_id=model,
        start=start,
        end=end,
        by=bucket,
        batch_id=batch,
        baseline=baseline,
    )


def _is_loopback(request: Request) -> bool:
    if request.client is None:
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
