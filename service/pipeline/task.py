"""The life of one assigned task: take over, run micro-batches, drain, close; again from the start after a fault."""

import asyncio

import structlog

from service.domain.flood import Flood
from service.domain.records import topic_name
from service.domain.watermark import NEVER
from service.pipeline.auditor import Auditor
from service.pipeline.backoff import Backoff
from service.pipeline.flow import Chores, MicroBatchFlow
from service.pipeline.held import held_row
from service.pipeline.limits import Limits
from service.pipeline.owned import OwnedTask, World, take_over
from service.pipeline.registry import Registry
from service.pipeline.restore import RestoreEnded, Restoring
from service.pipeline.retention import Step, next_step
from service.ports import Checkpoint, Fenced, LedgerMismatch, Polled, Unavailable
from service.telemetry import Telemetry
from service.wire.held_row import HeldRow

_log = structlog.get_logger(__name__)
_IDLE_POLL_S = 0.5
_CHORES_EVERY_S = 1.0
_REST_AFTER_FENCE_S = 1.0
_LOOK_AT_FLOOD_EVERY_S = 1.0
_SMALL = 0.25
"""Share of a full micro-batch below which there is no backlog: the next one takes with it what comes until this one is
published, and so many seconds from poll to poll: what a micro-batch costs, however small, would cost latency too."""
_SMALL_EVERY_S = 0.04


def flood_text(flood: Flood, prefix: str, task: int) -> str:
    """What has paused a task, for people."""
    return (
        f"paused: {flood.records:,} records in a row on {topic_name(prefix, flood.paused_by)}, partition {task}, "
        f"do not decode; look at them: hindsight dlq ls --partition {task}; go on: hindsight resume --partition {task}"
    )


class Replaced(LedgerMismatch):
    """Another process runs under this instance ID: this one must end."""


class TaskRunner:
    """Runs one task until `stop`. `restored` tells whether it has caught up."""

    def __init__(self, task: int, world: World, registry: Registry, telemetry: Telemetry, limits: Limits) -> None:
        self.task = task
        self.restored = False
        self.flooded = ""
        """What pauses the task until a person lets it go on; empty while nothing does."""
        self._world = world
        self._registry = registry
        self._telemetry = telemetry
        self._limits = limits
        self._waits_for = ""
        left = telemetry.restore_remaining_records.labels(task)
        self._restoring = Restoring(task, world.clock.monotonic, left.set)
        self._stopping = asyncio.Event()
        self._owned: OwnedTask | None = None
        self._has_owned = False
        self._in_doubt = False

    @property
    def waits_for(self) -> str:
        """What keeps the task from being taken over; empty while nothing does."""
        return self._restoring.text() or self._waits_for

    def stop(self) -> None:
        """Finish the micro-batch under way, then end."""
        self._stopping.set()
        self._restoring.end()

    def doubt(self) -> None:
        """The group has changed: make sure that the task is still owned, even if it has nothing to commit.

        Two processes of one instance ID push each other out of the group again and again, both with the same
        assignment; only the ledger tells which of them came last.
        """
        self._in_doubt = True

    def held(self, deployment_id: str, row_id: str) -> HeldRow | None:
        """The row as the store holds it; None while the task is not owned."""
        return None if self._owned is None else held_row(self._owned, deployment_id, row_id)

    async def run(self) -> None:
        """Own the task for as long as the group leaves it here. Raises `LedgerMismatch`, `Replaced` and bugs."""
        backoff = Backoff()
        try:
            while not self._stopping.is_set():
                try:
                    await self._own(backoff)
                except Fenced as error:
                    self._telemetry.takeovers_total.labels("fenced").inc()
                    _log.warning("fenced", task=self.task, detail=str(error))
                    await self._check_replaced()
                    await self._rest(_REST_AFTER_FENCE_S)
                except RestoreEnded as error:
                    _log.info("takeover given up", task=self.task, detail=str(error))
                except Unavailable as error:
                    self._telemetry.takeovers_total.labels("unavailable").inc()
                    self._telemetry.task_paused.labels(self.task).set(1)
                    _log.warning("waiting", task=self.task, detail=str(error))
                    self._waits_for = str(error)
                    await backoff.wait()
        finally:
            self._world.source.pause(self.task)
            self._telemetry.forget_task(self.task)

    async def _check_replaced(self) -> None:
        try:
            owner = (await self._world.ledger.read(self.task)).owner
        except Unavailable:
            return
        mine = self._world.owner
        if owner is not None and owner.instance == mine.instance and owner.process != mine.process:
            raise Replaced(f"another process runs as instance {mine.instance!r}; each worker needs an ID of its own")

    async def _check_owned(self, owned: OwnedTask) -> Checkpoint:
        found = await self._world.ledger.read(self.task)
        if found.epoch != owned.epoch:
            raise Fenced(f"task {self.task}: epoch {found.epoch} has replaced {owned.epoch}")
        return found

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    async def _own(self, backoff: Backoff) -> None:
        started = self._world.clock.monotonic()
        if self._has_owned:
            await self._check_replaced()
        owned = await take_over(self._world, self.task, self._limits.prefix, self._limits.cells, self._restoring)
        took = self._world.clock.monotonic() - started
        self._telemetry.takeovers_total.labels("taken").inc()
        self._telemetry.restore_seconds.labels(self.task).set(took)
        self._telemetry.task_paused.labels(self.task).set(0)
        self._telemetry.database_up.set(1)
        _log.info("task taken over", task=self.task, version=owned.version, epoch=owned.epoch, seconds=round(took, 3))
        self.restored = self._has_owned = True
        self._waits_for = ""
        backoff.reset()
        flow = MicroBatchFlow(self._world, owned, self._registry, self._telemetry, self._limits)
        self._owned = owned
        try:
            await self._stream(owned, flow)
            await flow.settle()
        finally:
            self.restored, self._owned = False, None
            self.flooded = ""
            self._world.source.pause(self.task)
            await flow.abandon()
            await owned.publisher.close()
            owned.store.close()

    async def _stream(self, owned: OwnedTask, flow: MicroBatchFlow) -> None:
        auditor = Auditor(self._world, owned, self._telemetry)
        try:
            await self._stream_audited(owned, flow, auditor)
        finally:
            await auditor.finish()

    async def _stream_audited(self, owned: OwnedTask, flow: MicroBatchFlow, auditor: Auditor) -> None:
        clock = self._world.clock
        chores_at = 0.0
        while not self._stopping.is_set():
            polled_at = clock.monotonic()
            polled = await self._poll(owned, flow.room)
            flow.check_published()
            if self._in_doubt:
                self._in_doubt = False
                await self._check_owned(owned)
            chores = Chores()
            if clock.monotonic() >= chores_at:
                chores = await self._chores(owned)
                chores_at = clock.monotonic() + _CHORES_EVERY_S
                if (step := await self._retention(owned)) is not None:
                    await flow.keep(step)
            if polled.size or chores or await flow.is_due(polled):
                await flow.run_once(polled, chores)
                self._telemetry.microbatch_records.observe(polled.size)
            else:
                await flow.settle()
            auditor.audit_if_due(idle=not polled.size)
            self._show_lag(polled)
            self._show_watermark(owned)
            if 0 < polled.size < flow.room * _SMALL:
                await flow.published()
                await self._rest(polled_at + _SMALL_EVERY_S - clock.monotonic())

    async def _poll(self, owned: OwnedTask, most: int) -> Polled:
        """The next records; none while the task is paused by a flood, so that only chores are done."""
        self._telemetry.task_flooded.labels(self.task).set(bool(owned.flood.paused_by))
        if owned.flood.paused_by and not await self._resumed(owned):
            return Polled({}, {})
        return await self._world.source.poll(self.task, most, _IDLE_POLL_S)

    async def _resumed(self, owned: OwnedTask) -> bool:
        """Take nothing more, wait a moment, and look whether the ledger lets the task go on."""
        if not self.flooded:
            self.flooded = flood_text(owned.flood, self._limits.prefix, self.task)
            _log.error("flood", task=self.task, detail=self.flooded)
        self._world.source.pause(self.task)
        await self._rest(_LOOK_AT_FLOOD_EVERY_S)
        try:
            found = await self._check_owned(owned)
        except Unavailable:
            self._telemetry.database_up.set(0)
            return False
        if found.flood.paused_by:
            return False
        owned.flood, self.flooded = found.flood, ""
        self._telemetry.task_flooded.labels(self.task).set(0)
        await self._world.source.seek(self.task, owned.offsets)
        _log.info("task goes on after a flood", task=self.task)
        return True

    async def _chores(self, owned: OwnedTask) -> Chores:
        """What waits in the database for this task. It is asked again in a second if the database is away."""
        ledger = self._world.ledger
        try:
            events = await ledger.outbox(self.task, self._world.source.partitions, self._limits.max_records)
            deletions = await ledger.deletions(self.task)
            owned.held_at = await ledger.held_at(self.task)
            asked_at = self._world.clock.monotonic()
            self._world.clock.compare(await ledger.now(), asked_at)
        except Unavailable:
            self._telemetry.database_up.set(0)
            return Chores()
        self._telemetry.database_up.set(1)
        return Chores(events=events, deletions=deletions)

    async def _retention(self, owned: OwnedTask) -> Step | None:
        """What to do next to old statistics; asked again in a second if the database is away."""
        try:
            return await next_step(self._world.ledger, self.task, owned.clocks, self._limits.retention, owned.checked)
        except Unavailable:
            return None

    def _show_lag(self, polled: Polled) -> None:
        lag = self._world.source.lag(self.task)
        for role, records in lag.records.items():
            self._telemetry.consumer_lag_records.labels(role, self.task).set(records)
        behind = 0.0
        if any(lag.records.values()):
            newest = [records[-1].timestamp for records in polled.records.values() if records]
            behind = max(0.0, self._world.clock.now().timestamp() - min(newest) / 1000) if newest else 0.0
        self._telemetry.consumer_lag_seconds.labels(self.task).set(behind)

    def _show_watermark(self, owned: OwnedTask) -> None:
        """Of the deployments that are furthest behind, among those that have a watermark."""
        clocks = [row.clock for row in owned.clocks.values() if row.clock.watermark != NEVER]
        if clocks:
            lag = self._world.clock.now().timestamp() - min(clock.watermark for clock in clocks) / 1e6
            self._telemetry.watermark_lag_seconds.labels(self.task).set(lag)
            skew = max(clock.newest - clock.watermark for clock in clocks) / 1e6
            self._telemetry.input_skew_seconds.labels(self.task).set(skew)
