"""One micro-batch from its records to its statuses. Read `MicroBatchFlow.run_once` first: it is the whole service.

> The service ingests records, decodes them, assigns and joins them by association ID, aggregates, persists,
> publishes, and only then commits.

Decode, assign, join and aggregate compute and touch nothing. `persist` is one Postgres transaction and the commit
point: statistics, clocks, the ledger row with the next offsets, and the outbox slot that holds every outgoing byte.
The local store follows it, then one Kafka transaction publishes the slot together with the offsets. A crash anywhere
is mended by the next owner from the slot (`owned.py`). The publish of one micro-batch overlaps with the computing of
the next; a slot is overwritten only when its publish was acknowledged.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from service.domain.deployment import JoinSpec
from service.domain.instants import LATEST_US
from service.domain.outcomes import ENDS
from service.domain.records import Batch, OutRecord, RecordColumns, Topic
from service.domain.timers import packed_timers
from service.domain.watermark import NEVER
from service.pipeline.aggregate import Deltas, advance_clocks, aggregate
from service.pipeline.assign import assign
from service.pipeline.backoff import Backoff
from service.pipeline.columns import Decoded
from service.pipeline.expiry import Due
from service.pipeline.isolation import Broken, breaking, cause_of, halves
from service.pipeline.join import Joined, Joiner, keys_of, row_batches
from service.pipeline.limits import Limits
from service.pipeline.owned import OwnedTask, World
from service.pipeline.publish import dead_letter_records, event_records, status_records
from service.pipeline.registry import Known, Registry
from service.pipeline.retention import Step, kept
from service.ports import (
    AccuracyCellKey,
    ClockRow,
    Deletions,
    MicroBatch,
    Polled,
    PredictionCellKey,
    SettingsMoved,
    StorePosition,
    Unavailable,
)
from service.telemetry import Telemetry
from service.wire.record_batch import encode
from service.wire.slot import pack_slot

_log = structlog.get_logger(__name__)
T = TypeVar("T")
_LEAST_DUE = 1_000
"""Rows that time may act on in one micro-batch, however many records it has."""
_ROOM = 0.9
"""Of the slot is filled, since records are not all of one size."""
_TELL_EVERY_US = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Chores:
    """What a task has to do besides its records: events to publish, deletions to apply, cells to keep otherwise."""

    events: Sequence[tuple[int, bytes, bytes]] = ()
    deletions: Mapping[str, Deletions] = field(default_factory=dict)
    step: Step | None = None

    def __bool__(self) -> bool:
        return bool(self.events or self.deletions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A micro-batch on its way into the ledger."""

    decoded: Decoded
    known: Known
    joined: Joined
    due: Due
    batch: MicroBatch
    outgoing: Sequence[Batch]


class MicroBatchFlow:
    """Runs the micro-batches of one owned task, one after the other."""

    def __init__(
        self, world: World, owned: OwnedTask, registry: Registry, telemetry: Telemetry, limits: Limits
    ) -> None:
        self._world = world
        self._owned = owned
        self._registry = registry
        self._telemetry = telemetry
        self._limits = limits
        self._joins: dict[str, JoinSpec] = {}
        """Of every deployment that has a clock here, as last seen; the ledger checks what is committed."""
        self._looked: dict[str, tuple[ClockRow, ClockRow]] = {}
        """The clock rows at the last look, each with the committed one that it came from: silence that has been seen
        counts, though it is committed only when something happens."""
        self._publishing: asyncio.Task[None] | None = None
        self._slot_bytes_each = 0.0
        """Of a record, as the last micro-batch had it."""

    @property
    def room(self) -> int:
        """How many records the next micro-batch may have, so that it need not be split and computed anew."""
        fitting = self._limits.slot_bytes * _ROOM / max(self._slot_bytes_each, 1.0)
        return max(1, min(self._limits.max_records, int(fitting)))

    async def run_once(self, polled: Polled, chores: Chores) -> None:
        """Take these records from decoding to a commit that is known, and start to publish what came of them.

        Raises `Fenced` when the task has another owner now, `Unavailable` when the publish of the micro-batch before
        is not known to be out; either way the task must be taken over anew.
        """
        most_due = max(_LEAST_DUE, self._limits.max_records - polled.size)
        try:
            with breaking():
                decoded = self._owned.decoder.decode(polled, self._owned.origins)
            await self._attempt(decoded, polled, chores, most_due)
        except Broken as broken:
            await self._isolate(broken, polled, chores, most_due)

    async def _isolate(self, broken: Broken, polled: Polled, chores: Chores, most_due: int) -> None:
        """Some record of these breaks a stage: all others are counted, and it is a dead letter."""
        if polled.size > 1:
            await self._run_halves(polled, chores)
        elif polled.size == 1:
            cause = cause_of(broken)
            _log.error("a record breaks a stage", task=self._owned.task, cause=cause, positions=dict(polled.positions))
            refused = self._owned.decoder.unprocessable(polled, self._owned.origins, cause)
            await self._attempt(refused, polled, chores, most_due)
        else:
            raise broken

    async def _run_halves(self, polled: Polled, chores: Chores) -> None:
        first, second = halves(polled, self._owned.offsets)
        await self.run_once(first, chores)
        await self.run_once(second, Chores())

    async def keep(self, step: Step) -> None:
        """Make one day of its hours, or let old cells go: a micro-batch without records. Raises as `run_once` does."""
        nothing = Polled({}, {})
        decoded = self._owned.decoder.decode(nothing, self._owned.origins)
        await self._attempt(decoded, nothing, Chores(step=step), most_due=0)

    async def _attempt(self, decoded: Decoded, polled: Polled, chores: Chores, most_due: int) -> None:
        computed = await self._compute(decoded, polled, chores, most_due)
        if polled.size:
            self._slot_bytes_each = len(computed.batch.slot) / polled.size
        if len(computed.batch.slot) > self._limits.slot_bytes:
            if computed.due and most_due > 1:
                await self._attempt(decoded, polled, chores, most_due // 8)
                return
            if polled.size > 1:
                await self._run_halves(polled, chores)
                return
        await self.published()
        computed = await self._persist(computed, polled, chores, most_due)
        self._remember(computed)
        self._publishing = asyncio.create_task(self._publish(computed), name=f"publish-{self._owned.task}")

    async def published(self) -> None:
        """Wait until nothing is being published. Raises what the publish raised."""
        if self._publishing is not None:
            await asyncio.wait([self._publishing])
            self.check_published()
            self._publishing = None

    async def settle(self) -> None:
        """As `published`; then let the group's offsets tell how far the input was read. Raises as `published` does."""
        await self.published()
        await self._owned.publisher.settle(self._owned.offsets, self._owned.version)

    def check_published(self) -> None:
        """Raise what a finished publish raised, without waiting for one that is under way."""
        if self._publishing is not None and self._publishing.done():
            self._publishing.result()

    async def abandon(self) -> None:
        """Stop publishing, whatever comes of it: the next owner looks at what is out."""
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            publishing.cancel()
            await asyncio.gather(publishing, return_exceptions=True)

    async def is_due(self, polled: Polled) -> bool:
        """Whether time alone has something to do: rows that wait for their look, or a clock that others wait for."""
        paced = await self._paced(polled, frozenset())
        return self._owned.timers.is_due(_watermarks(paced)) or bool(self._to_tell(paced))

    async def _compute(self, decoded: Decoded, polled: Polled, chores: Chores, most_due: int) -> Computed:
        owned = self._owned
        paced = await self._paced(polled, decoded.heard)
        watermarks = _watermarks(paced)
        due = owned.timers.due(watermarks, most_due)
        with breaking():
            known = await self._resolve(decoded, due)
            assigned = assign(decoded, known)
            keys = keys_of(assigned, due.keys)
        rows = dict(zip(keys, owned.store.get_many(keys), strict=True))
        with breaking():
            await self._registry.load_batches(known, row_batches(rows))
            deleted = known.deleted
            joined = Joiner(rows, defaultdict(lambda: NEVER, watermarks), deleted).join(assigned, due.keys)
            deltas = kept(aggregate(assigned, joined, known.deployments, deleted), owned.clocks)
            looked_at = {name: paced[name] for name in due.deployments}
            heard = advance_clocks(paced, assigned, joined, decoded.strayed, known.deployments, self._wall)
            clocks = self._risen(self._to_tell(paced) | looked_at | heard, known)
            outgoing = encode(self._outgoing(joined, decoded, chores), self._limits.codec)
            seq = owned.seq + sum(count for outcome, count in joined.outcomes().items() if outcome not in ENDS)
            batch = await self._micro_batch(polled, decoded, deltas, clocks, known, outgoing, seq, chores)
        return Computed(decoded=decoded, known=known, joined=joined, due=due, batch=batch, outgoing=outgoing)

    @property
    def _wall(self) -> int:
        """Microseconds since 1970."""
        return round(self._world.clock.now().timestamp() * 1_000_000)

    async def _paced(self, polled: Polled, heard: frozenset[tuple[str, bool]]) -> dict[str, ClockRow]:
        """The clock rows as the passing of time has left them, before any of these records.

        An input moves on by itself where nothing of it was polled and nothing waits. `heard` names the (deployment,
        is it predictions) of which something was polled.
        """
        clocks, held_at, wall = self._owned.clocks, self._owned.held_at, self._wall
        if unknown := [name for name in clocks if name not in self._joins]:
            self._joins |= await self._until_answered(lambda: self._registry.joins(unknown))
        ended = {role: {role, Topic.REKEY} <= polled.ended for role in (Topic.PREDICTIONS, Topic.ACTUALS)}
        paced = {}
        for name, row in clocks.items():
            spans = self._joins[name].spans
            base, looked = self._looked.get(name, (row, row))
            clock = (looked if base is row else row).clock.paced(
                predictions=ended[Topic.PREDICTIONS] and (name, True) not in heard,
                actuals=ended[Topic.ACTUALS] and (name, False) not in heard,
                wall=wall,
                idle_timeout=spans.idle_timeout,
            )
            clock = clock.risen(spans.allowed_lateness, held_at.get(name))
            paced[name] = row if clock == row.clock else replace(row, clock=clock)
        self._looked = {name: (clocks[name], row) for name, row in paced.items()}
        return paced

    def _to_tell(self, paced: Mapping[str, ClockRow]) -> dict[str, ClockRow]:
        """Clocks that other tasks wait for, where they have moved on by themselves."""
        told = {}
        for name, row in paced.items():
            now, before = row.clock.stream_time, self._owned.clocks[name].clock.stream_time
            waited_for = row.has_strays or name in self._owned.held_at
            if waited_for and now is not None and now - (before or 0) >= _TELL_EVERY_US:
                told[name] = row
        return told

    def _risen(self, clocks: dict[str, ClockRow], known: Known) -> dict[str, ClockRow]:
        """With the watermarks that these clocks allow."""
        self._joins |= {name: deployment.join for name, deployment in known.deployments.items()}
        risen = {}
        for name, row in clocks.items():
            lateness = self._joins[name].spans.allowed_lateness
            risen[name] = replace(row, clock=row.clock.risen(lateness, self._owned.held_at.get(name)))
        return risen

    async def _resolve(self, decoded: Decoded, due: Due) -> Known:
        return await self._until_answered(lambda: self._registry.resolve(decoded, due.deployments))

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        backoff = Backoff()
        while True:
            try:
                return await ask()
            except Unavailable as error:
                await self._wait(backoff, error)

    async def _wait(self, backoff: Backoff, error: Unavailable) -> None:
        """Postgres does not answer: the same call is made again, and nothing more is polled meanwhile."""
        self._telemetry.database_up.set(0)
        self._telemetry.task_paused.labels(self._owned.task).set(1)
        _log.warning("waiting", task=self._owned.task, detail=str(error))
        await backoff.wait()

    def _outgoing(self, joined: Joined, decoded: Decoded, chores: Chores) -> list[RecordColumns | Sequence[OutRecord]]:
        owned = self._owned
        now_ms = round(self._world.clock.now().timestamp() * 1000)
        return [
            *status_records(joined, owned.task, owned.seq, owned.version + 1, now_ms),
            dead_letter_records(joined.dead, owned.task),
            decoded.strays,
            event_records(chores.events, owned.task, now_ms),
        ]

    async def _micro_batch(
        self,
        polled: Polled,
        decoded: Decoded,
        deltas: Deltas,
        clocks: dict[str, ClockRow],
        known: Known,
        outgoing: Sequence[Batch],
        seq: int,
        chores: Chores,
    ) -> MicroBatch:
        owned = self._owned
        dropped_hours = []
        for name, deleted in chores.deletions.items():
            row = clocks.get(name) or owned.clocks.get(name, ClockRow())
            clocks[name] = replace(row, deletions_applied=deleted.number)
            if deleted.whole:  # rows that are still waiting count nowhere from here on
                clocks[name] = replace(clocks[name], dropped_until=LATEST_US)
                dropped_hours.append((name, LATEST_US))
        if dropped_hours:
            deltas = kept(deltas, clocks)
        prediction_cells = await owned.traffic.absolute(deltas.traffic, self._is_new)
        accuracy_cells = await owned.accuracy.absolute(deltas.accuracy, self._is_new)
        rolled_days = []
        if (step := chores.step) is not None:
            name = step.deployment_id
            row = clocks.get(name, owned.clocks[name])
            clocks[name] = replace(row, rolled_until=step.rolled_until, dropped_until=step.dropped_until)
            rolled_days = step.rolled_days
            if step.dropped_until > row.dropped_until:
                dropped_hours.append((name, step.dropped_until))
            prediction_cells |= step.prediction_cells
            accuracy_cells |= step.accuracy_cells
        flood = owned.flood.after(owned.decoder.undecoded(polled, decoded.refused), self._limits.flood)
        return MicroBatch(
            task=owned.task,
            epoch=owned.epoch,
            expected_version=owned.version,
            seq=seq,
            offsets=owned.offsets | dict(polled.positions),
            origins=owned.origins | decoded.origins,
            slot=pack_slot(outgoing),
            prediction_cells=prediction_cells,
            accuracy_cells=accuracy_cells,
            clocks=clocks,
            submissions=await self._submissions(deltas.submissions),
            deployment_versions={name: deployment.version for name, deployment in known.deployments.items()},
            batch_versions={key: batch.version for key, batch in known.batches.items()},
            outbox_ids=[event[0] for event in chores.events],
            dropped_batches={(name, batch) for name, deleted in chores.deletions.items() for batch in deleted.batches},
            rolled_days=rolled_days,
            dropped_hours=dropped_hours,
            flood=None if flood == owned.flood else flood,
        )

    def _is_new(self, key: PredictionCellKey | AccuracyCellKey) -> bool:
        """Whether no cell of this key can be in the ledger: its hour is later than any prediction that was counted."""
        row = self._owned.clocks.get(key.deployment_id)
        latest = None if row is None else row.clock.predictions
        return bool(key.model_id) and (latest is None or key.hour > latest.at)

    async def _submissions(self, deltas: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        if not deltas:
            return {}
        counted = await self._world.ledger.submissions(self._owned.task, list(deltas))
        return {key: counted.get(key, 0) + count for key, count in deltas.items()}

    async def _persist(self, computed: Computed, polled: Polled, chores: Chores, most_due: int) -> Computed:
        """Commit; what was computed under settings that have changed since is computed again first."""
        backoff = Backoff()
        while True:
            started = self._world.clock.monotonic()
            try:
                with breaking():
                    await self._world.ledger.persist(computed.batch)
            except SettingsMoved:
                self._registry.forget(computed.known.deployments, computed.known.batches)
                self._joins.clear()
                # the time since the poll may have brought records: it does not count as silence
                polled = polled._replace(ended=frozenset())
                computed = await self._compute(computed.decoded, polled, chores, most_due)
            except Unavailable as error:
                await self._wait(backoff, error)
            else:
                self._telemetry.database_up.set(1)
                self._telemetry.task_paused.labels(self._owned.task).set(0)
                self._telemetry.commit_seconds.observe(self._world.clock.monotonic() - started)
                return computed

    def _remember(self, computed: Computed) -> None:
        """The commit is known: cells, clocks and store follow it."""
        owned, batch, joined = self._owned, computed.batch, computed.joined
        owned.version += 1
        owned.seq = batch.seq
        owned.offsets = dict(batch.offsets)
        owned.origins = dict(batch.origins)
        owned.clocks.update(batch.clocks)
        owned.flood = batch.flood or owned.flood
        if batch.lets_cells_go:
            owned.traffic.drop(batch.is_gone)
            owned.accuracy.drop(batch.is_gone)
        owned.traffic.install(batch.prediction_cells)
        owned.accuracy.install(batch.accuracy_cells)
        now = self._world.clock.now().timestamp()
        position = StorePosition(owned.incarnation, owned.version, owned.status_offset, now)
        stamp = b"v" + owned.version.to_bytes(8, "big")
        timers = [*computed.due.entries.items(), *packed_timers(joined.waiting(), stamp)]
        owned.store.apply(joined.rows, timers, position)
        owned.timers.wrote(timers)
        self._count(computed)

    async def _publish(self, computed: Computed) -> None:
        owned, clock = self._owned, self._world.clock
        started = clock.monotonic()
        version = computed.batch.expected_version + 1
        end = await owned.publisher.publish(computed.outgoing, computed.batch.offsets, version)
        owned.status_offset = max(owned.status_offset, end)
        self._telemetry.publish_seconds.observe(clock.monotonic() - started)
        now_ms = clock.now().timestamp() * 1000
        for columns in (computed.decoded.predictions, computed.decoded.actuals):
            self._telemetry.event_to_status_seconds.observe_all(((now_ms - columns.received_ms) / 1000).tolist())

    def _count(self, computed: Computed) -> None:
        telemetry, decoded = self._telemetry, computed.decoded
        for outcome, count in computed.joined.outcomes().items():
            telemetry.join_outcomes_total.labels(outcome.name).inc(count)
        for reason, count in Counter([refused.reason for refused in computed.joined.dead]).items():
            telemetry.dead_letters_total.labels(reason.value).inc(count)
        refused_predictions = sum(refused.is_prediction for refused in decoded.refused)
        telemetry.records_total.labels("predictions").inc(len(decoded.predictions.row_id) + refused_predictions)
        telemetry.records_total.labels("actuals").inc(
            len(decoded.actuals.row_id) + len(decoded.refused) - refused_predictions
        )


def _watermarks(clocks: Mapping[str, ClockRow]) -> dict[str, int]:
    return {name: row.clock.watermark for name, row in clocks.items()}
