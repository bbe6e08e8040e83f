"""What the endpoints stand on, open already, and how an endpoint gets at it."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.api.core.origin import Origins
from service.api.ops import Probes
from service.ports import Clock
from service.telemetry import Telemetry
from service.usecases.access import Access
from service.usecases.batch_models import BatchModels
from service.usecases.data_sets import DataSets
from service.usecases.deployment_settings import StatusRetention
from service.usecases.deployment_views import DeploymentViews
from service.usecases.deployments import Deployments
from service.usecases.drift import FeatureCounts
from service.usecases.files import Files, Spool
from service.usecases.model_baselines import Baselines
from service.usecases.monitoring_batches import MonitoringBatches
from service.usecases.statistics import Statistics
from service.usecases.status_tasks import StatusTasks
from service.usecases.submissions import Intake
from service.usecases.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiDeps:
    """Ports, and what the process was told of the world around it."""

    telemetry: Telemetry
    probes: Probes
    clock: Clock
    origins: Origins
    access: Access
    tasks: StatusTasks
    deployments: Deployments
    deployment_views: DeploymentViews
    retention: StatusRetention
    batches: MonitoringBatches
    batch_models: BatchModels
    statistics: Statistics
    features: FeatureCounts
    intake: Intake
    baselines: Baselines
    data_sets: DataSets
    files: Files
    spool: Spool
    work: Work


async def _deps(request: Request) -> ApiDeps:  # a plain function would run in a thread
    return cast(ApiDeps, request.app.state.deps)


Deps = Annotated[ApiDeps, Depends(_deps)]
