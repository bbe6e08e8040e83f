"""The composition root of the API: settings in, a running role out. It decides nothing."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import version

import structlog
from prometheus_client import CollectorRegistry

from service.adapters.clock import SystemClock
from service.adapters.kafka.connection import client_options
from service.adapters.kafka.intake import open_input_log
from service.adapters.kafka.status_retention import KafkaStatusRetention
from service.adapters.objects.files import open_files
from service.adapters.postgres.access import PostgresAccess
from service.adapters.postgres.baselines import PostgresBaselines
from service.adapters.postgres.batch_models import PostgresBatchModels
from service.adapters.postgres.data_sets import PostgresDataSets
from service.adapters.postgres.deployment_views import PostgresDeploymentViews
from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.feature_counts import PostgresFeatureCounts
from service.adapters.postgres.intake import PostgresIntake
from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.postgres.monitoring_batches import PostgresMonitoringBatches
from service.adapters.postgres.pool import open_pool
from service.adapters.postgres.schema import assert_migrated
from service.adapters.postgres.statistics import PostgresStatistics
from service.adapters.postgres.status_tasks import PostgresStatusTasks
from service.api.app import create_app
from service.api.core.deps import ApiDeps
from service.api.core.origin import Origins
from service.api.ops import ProbeResult, Probes
from service.api.server import serve
from service.bootstrap import DISTRIBUTION, stopping_on_signals
from service.config import Settings, networks
from service.logs import configure_logging
from service.ports import Unavailable
from service.telemetry import Telemetry
from service.usecases.data_sets import sweep
from service.usecases.files import Spool
from service.usecases.submissions import Intake
from service.usecases.work import open_work

_log = structlog.get_logger(__name__)
_SETTLE_EVERY_S = 60.0
_SWEEP_EVERY_S = 6 * 3600.0


def run_api(settings: Settings) -> None:
    """Serve HTTP until SIGTERM or SIGINT, then let the requests under way end.

    Raises `NotMigrated` where the database has another schema, with the command that mends it.
    """
    configure_logging(settings.log.level, settings.log.format)
    asyncio.run(_run_api(settings))


async def _run_api(settings: Settings) -> None:
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        deps = await open_api_deps(settings, stack)
        port = await stack.enter_async_context(
            serve(create_app(deps, version=version(DISTRIBUTION)), settings.api.host, settings.api.port)
        )
        spare_what_stays()
        _log.info("api is up", port=port)
        async with asyncio.TaskGroup() as keepers:
            keeping = [
                keepers.create_task(_keep_doing(chore, pause, failed))
                for chore, pause, failed in (
                    (deps.tasks.settle, _SETTLE_EVERY_S, "status tasks were not settled"),
                    (partial(_sweep_files, deps), _SWEEP_EVERY_S, "files were not swept"),
                )
            ]
            with stopping_on_signals(stopping.set):
                await stopping.wait()
            for keeper in keeping:
                keeper.cancel()
        _log.info("api stops")


def spare_what_stays() -> None:
    """Let the garbage collector pass over everything that is there by now: it stays, and to walk through it takes as
    long as to build a page of a hundred deployments."""
    gc.collect()
    gc.freeze()


async def _keep_doing(chore: Callable[[], Awaitable[None]], pause: float, failed: str) -> None:
    """What no request asks for. Every process does it: it may be done twice, or a little late."""
    while True:
        try:
            await chore()
        except Unavailable as error:
            _log.warning(failed, detail=str(error))
        await asyncio.sleep(pause)


async def _sweep_files(deps: ApiDeps) -> None:
    if left := await sweep(deps.data_sets, deps.files, deps.clock.now()):
        _log.info("files without a data set were deleted", files=left)


async def open_api_deps(settings: Settings, stack: AsyncExitStack) -> ApiDeps:
    """What the API stands on; everything that was opened closes with the stack."""
    dsn = settings.postgres.dsn.get_secret_value()
    await assert_migrated(dsn)
    pool = await stack.enter_async_context(
        open_pool(dsn, size=settings.postgres.pool_size, application_name="hindsight-api")
    )
    telemetry = Telemetry(CollectorRegistry(), version=version(DISTRIBUTION))
    kafka, tasks = settings.kafka, PostgresStatusTasks(pool)
    log = open_input_log(
        client_options(kafka),
        prefix=kafka.topic_prefix,
        idempotent=kafka.transactions,
        compression=kafka.compression_type,
    )
    intake = Intake(
        store=PostgresIntake(pool),
        log=await stack.enter_async_context(log),
        tasks=tasks,
        clock=SystemClock(),
        telemetry=telemetry,
        rows_per_hour=settings.api.rows_per_hour,
    )
    spool = Spool(directory=settings.files.spool_dir, max_bytes=settings.files.max_bytes)
    return ApiDeps(
        telemetry=telemetry,
        probes=_api_probes(PostgresLedger(pool), telemetry),
        clock=SystemClock(),
        origins=Origins(
            public_origin=settings.api.public_origin, trusted_proxies=networks(settings.api.trusted_proxies)
        ),
        access=PostgresAccess(pool),
        tasks=tasks,
        deployments=PostgresDeployments(pool),
        deployment_views=PostgresDeploymentViews(pool),
        retention=KafkaStatusRetention(client_options(settings.kafka), settings.kafka.topic_prefix, SystemClock()),
        batches=PostgresMonitoringBatches(pool),
        batch_models=PostgresBatchModels(pool),
        statistics=PostgresStatistics(pool),
        features=PostgresFeatureCounts(pool),
        intake=intake,
        baselines=PostgresBaselines(pool),
        data_sets=PostgresDataSets(pool),
        files=open_files(settings.files.url, spool),
        spool=spool,
        work=await stack.enter_async_context(open_work(tasks)),
    )


def _api_probes(ledger: PostgresLedger, telemetry: Telemetry) -> Probes:
    async def up() -> ProbeResult:
        return ProbeResult(ok=True)

    async def ready() -> ProbeResult:
        try:
            await ledger.ping()
        except Unavailable as error:
            telemetry.database_up.set(0)
            return ProbeResult(ok=False, detail={"database": str(error)})
        telemetry.database_up.set(1)
        return ProbeResult(ok=True)

    return Probes(live=up, ready=ready, started=up)
