"""The composition root of workers: settings in, a running role out; and what every role needs. It decides nothing."""

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry

from service.adapters.clock import SystemClock
from service.adapters.kafka.connection import client_options
from service.adapters.kafka.sink import open_sink
from service.adapters.kafka.source import KafkaSource, open_source
from service.adapters.kafka.status_log import KafkaStatusLog
from service.adapters.kafka.topics import check_topics, partition_count, topic_ids
from service.adapters.postgres.catalog import PostgresCatalog
from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.postgres.pool import open_pool
from service.adapters.postgres.schema import assert_migrated
from service.adapters.rocksdb.store import RocksDbStores
from service.api.ops import PROBE_SECONDS, ProbeResult, Probes
from service.api.rows import create_worker_app
from service.api.server import serve
from service.config import Settings
from service.domain.errors import Reason
from service.domain.outcomes import Outcome
from service.domain.records import Codec
from service.logs import configure_logging
from service.pipeline.guarded_clock import GuardedClock
from service.pipeline.limits import Limits
from service.pipeline.owned import World
from service.pipeline.registry import Registry
from service.pipeline.retention import RetentionSpec
from service.pipeline.supervisor import Supervisor
from service.ports import LedgerMismatch, Owner, Unavailable
from service.telemetry import Telemetry

_log = structlog.get_logger(__name__)
DISTRIBUTION = "hindsight-monitoring"
_COLLECT_EVERY_S = 30.0
_END_WITHIN_S = 25.0
"""After a signal; Kubernetes kills after 30 s."""


def run_worker(settings: Settings, *, stay: bool = False) -> None:
    """Run one worker until SIGTERM or SIGINT, then drain.

    With `stay` it keeps its membership at the end, so that its tasks wait for its return (a rolling restart). Raises
    `LedgerMismatch` where topics, database and state do not fit, with the command that mends it.
    """
    configure_logging(settings.log.level, settings.log.format)
    asyncio.run(_run_worker(settings, stay))


async def _run_worker(settings: Settings, stay: bool) -> None:
    # the group is left first and at once, for others wait for its tasks; probes are answered until the end
    async with AsyncExitStack() as server, AsyncExitStack() as stack:
        telemetry = Telemetry(CollectorRegistry(), version=version(DISTRIBUTION))
        telemetry.start_at_zero(outcomes=[one.name for one in Outcome], reasons=[one.value for one in Reason])
        supervisor, probes = await open_worker(settings, stack, telemetry, stay=stay)
        app = create_worker_app(telemetry.registry, probes, supervisor.held)
        port = await server.enter_async_context(serve(app, settings.worker.metrics_host, settings.worker.metrics_port))
        _log.info("worker is up", metrics_port=port)
        await stack.enter_async_context(collecting_seldom())
        with stopping_on_signals(supervisor.stop):
            await supervisor.run()
        _log.info("worker has drained")


async def open_worker(
    settings: Settings, stack: AsyncExitStack, telemetry: Telemetry, *, stay: bool
) -> tuple[Supervisor, Probes]:
    """Connect a worker to its world; everything that was opened closes with the stack."""
    kafka, options = settings.kafka, client_options(settings.kafka)
    dsn = settings.postgres.dsn.get_secret_value()
    await assert_migrated(dsn)
    pool = await stack.enter_async_context(
        open_pool(dsn, size=settings.postgres.pool_size, application_name="hindsight-worker")
    )
    instance = settings.worker.instance_id or kept_instance_id(settings.worker.state_dir)
    stores = RocksDbStores(settings.worker.state_dir, settings.worker.memory_mb << 20)
    ledger = PostgresLedger(pool)

    async def check_fit() -> None:
        longest_row = await PostgresDeployments(pool).longest_row()
        if problems := await check_topics(options, kafka.topic_prefix, longest_row=longest_row):
            raise LedgerMismatch("\n".join(problems))
        partitions = await partition_count(options, kafka.topic_prefix) or 0
        await ledger.claim(kafka.group_id, partitions, await topic_ids(options, kafka.topic_prefix))

    # before it joins the group: a worker that does not fit must not take tasks from those that do
    await check_fit()
    source = await stack.enter_async_context(
        open_source(
            options,
            prefix=kafka.topic_prefix,
            clock=SystemClock(),
            group_id=kafka.group_id,
            instance=instance,
            session_timeout_ms=kafka.session_timeout_ms,
            on_disk=stores.tasks_on_disk,
            stay=stay,
        )
    )
    sink = await stack.enter_async_context(
        open_sink(
            options,
            prefix=kafka.topic_prefix,
            group_id=kafka.group_id,
            transactions=kafka.transactions,
        )
    )
    world = World(
        clock=GuardedClock(SystemClock()),
        source=source,
        sink=sink,
        status_log=KafkaStatusLog(options, kafka.topic_prefix),
        stores=stores,
        ledger=ledger,
        owner=Owner(instance=instance, process=uuid4()),
        check_fit=check_fit,
    )
    pipeline = settings.pipeline
    registry = Registry(PostgresCatalog(pool), pipeline.auto_create_deployments)
    limits = Limits(
        max_records=pipeline.max_records,
        slot_bytes=pipeline.slot_limit_bytes,
        codec=Codec[settings.kafka.compression.upper()],
        cells=pipeline.cell_cache,
        prefix=kafka.topic_prefix,
        retention=RetentionSpec(hourly_for=_days(pipeline.hourly_days), kept_for=_days(pipeline.kept_days)),
        flood=pipeline.flood_limit,
    )
    _log.info("worker starts", instance=instance, group=kafka.group_id, partitions=source.partitions)
    supervisor = Supervisor(world, registry, telemetry, limits)
    return supervisor, _worker_probes(supervisor, ledger, source)


def _days(days: int | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


def kept_instance_id(state_dir: Path) -> str:
    """The name of this worker in the group: made once, kept beside its state."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = state_dir / "instance-id"
    if not file.exists():
        file.write_text(f"worker-{uuid4().hex[:12]}", encoding="ascii")
    return file.read_text(encoding="ascii").strip()


def _worker_probes(supervisor: Supervisor, ledger: PostgresLedger, source: KafkaSource) -> Probes:
    async def live() -> ProbeResult:
        return ProbeResult(ok=True, detail={"tasks": len(supervisor.tasks)})

    async def ready() -> ProbeResult:
        if supervisor.stopping:
            return ProbeResult(ok=False, detail={"stopping": True})
        away = await _away(database=ledger.ping(), kafka=source.ping())
        flooded = supervisor.flooded
        waiting = {f"task {task}": reason for task, reason in (supervisor.waiting | flooded).items()}
        detail = {"restored": supervisor.restored, "tasks": len(supervisor.tasks)}
        return ProbeResult(ok=supervisor.restored and not away and not flooded, detail=detail | waiting | away)

    async def started() -> ProbeResult:
        return ProbeResult(ok=supervisor.restored, detail={"restored": supervisor.restored})

    return Probes(live=live, ready=ready, started=started)


async def _away(**pings: Awaitable[None]) -> dict[str, str]:
    """Which of these can not be reached, and why. A silent one is answered for in time."""

    async def told(name: str, ping: Awaitable[None]) -> dict[str, str]:
        try:
            async with asyncio.timeout(PROBE_SECONDS / 2):
                await ping
        except (TimeoutError, Unavailable) as error:
            return {name: str(error) or f"no answer within {PROBE_SECONDS / 2:g} s"}
        return {}

    found = await asyncio.gather(*(told(name, ping) for name, ping in pings.items()))
    return {name: why for one in found for name, why in one.items()}


@asynccontextmanager
async def collecting_seldom() -> AsyncIterator[None]:
    """Look for garbage cycles every half minute instead of after every few thousand objects.

    A micro-batch makes some hundred thousand objects and hardly a cycle; the collector's own rhythm would walk through
    all of them several times.
    """

    async def collect() -> None:
        while True:
            await asyncio.sleep(_COLLECT_EVERY_S)
            gc.collect()

    gc.freeze()
    gc.disable()
    collecting = asyncio.create_task(collect())
    try:
        yield
    finally:
        collecting.cancel()
        gc.enable()


def _give_up() -> None:
    """End like a crash, which loses nothing: what is not done is taken up by the next owner."""
    _log.error("could not end in time: Kafka or Postgres does not answer")
    os._exit(1)


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        stop()
        loop.call_later(_END_WITHIN_S, _give_up)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
