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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from service.domain.records import OutRecord, Topic
from service.domain.timers import packed_timers
from service.domain.watermark import NEVER
from service.pipeline.aggregate import Deltas, advance_clocks, aggregate
from service.pipeline.assign import assign
from service.pipeline.backoff import Backoff
from service.pipeline.columns import Decoded
from service.pipeline.join import Joined, Joiner, keys_of, row_batches, unpacked
from service.pipeline.owned import OwnedTask, World
from service.pipeline.publish import dead_letter_records, event_records, status_records
from service.pipeline.registry import Known, Registry
from service.ports import (
    INPUT_TOPICS,
    AccuracyCellKey,
    ClockRow,
    MicroBatch,
    Polled,
    PredictionCellKey,
    Record,
    SettingsMoved,
    StorePosition,
    Unavailable,
)
from service.telemetry import Telemetry
from service.wire.slot import pack_slot

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chores:
    """What a task has to do besides its records: events to publish, deletions to apply."""

    events: Sequence[tuple[int, bytes, bytes]] = ()
    deletions: dict[str, tuple[int, list[str]]]

    def __bool__(self) -> bool:
        return bool(self.events or self.deletions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A micro-batch on its way into the ledger."""

    decoded: Decoded
    known: Known
    joined: Joined
    batch: MicroBatch
    outgoing: Sequence[OutRecord]


class MicroBatchFlow:
    """Runs the micro-batches of one owned task, one after the other."""

    def __init__(
        self, world: World, owned: OwnedTask, registry: Registry, telemetry: Telemetry, slot_limit: int
    ) -> None:
        self._world = world
        self._owned = owned
        self._registry = registry
        self._telemetry = telemetry
        self._slot_limit = slot_limit
        self._publishing: asyncio.Task[None] | None = None

    async def run_once(self, polled: Polled, chores: Chores) -> None:
        """Take these records from decoding to a commit that is known, and start to publish what came of them.

        Raises `Fenced` when the task has another owner now, `Unavailable` when the publish of the micro-batch before
        is not known to be out; either way the task must be taken over anew.
        """
        decoded = self._owned.decoder.decode(polled, self._owned.origins)
        computed = await self._compute(decoded, polled, chores)
        if len(computed.batch.slot) > self._slot_limit and polled.size > 1:
            first, second = halves(polled, self._owned.offsets)
            await self.run_once(first, chores)
            await self.run_once(second, Chores(deletions={}))
            return
        await self.published()
        computed = await self._persist(computed, polled, chores)
        self._remember(computed)
        self._publishing = asyncio.create_task(self._publish(computed), name=f"publish-{self._owned.task}")

    async def published(self) -> None:
        """Wait until nothing is being published. Raises what the publish raised."""
        if self._publishing is not None:
            await asyncio.wait([self._publishing])
            self.check_published()
            self._publishing = None

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

    async def _compute(self, decoded: Decoded, polled: Polled, chores: Chores) -> Computed:
        owned = self._owned
        known = await self._resolve(decoded)
        assigned = assign(decoded, known)
        keys = keys_of(assigned)
        rows = unpacked(keys, owned.store.get_many(keys))
        await self._registry.load_batches(known, row_batches(rows))
        deleted = known.deleted
        watermarks = {
            name: owned.clocks[name].clock.watermark if name in owned.clocks else NEVER for name in known.deployments
        }
        joined = Joiner(rows, watermarks, deleted).join(assigned)
        deltas = aggregate(assigned, joined, known.deployments, deleted)
        clocks = advance_clocks(owned.clocks, assigned, joined, known.deployments, self._world.clock.now())
        outgoing = self._outgoing(joined, decoded, chores)
        batch = await self._micro_batch(polled, decoded, deltas, clocks, known, outgoing, chores)
        return Computed(decoded=decoded, known=known, joined=joined, batch=batch, outgoing=outgoing)

    async def _resolve(self, decoded: Decoded) -> Known:
        backoff = Backoff()
        while True:
            try:
                return await self._registry.resolve(decoded)
            except Unavailable as error:
                await self._wait(backoff, error)

    async def _wait(self, backoff: Backoff, error: Unavailable) -> None:
        """Postgres does not answer: the same call is made again, and nothing more is polled meanwhile."""
        self._telemetry.database_up.set(0)
        self._telemetry.task_paused.labels(self._owned.task).set(1)
        _log.warning("waiting", task=self._owned.task, detail=str(error))
        await backoff.wait()

    def _outgoing(self, joined: Joined, decoded: Decoded, chores: Chores) -> list[OutRecord]:
        owned = self._owned
        now_ms = round(self._world.clock.now().timestamp() * 1000)
        return [
            *status_records(joined.happened, owned.task, owned.seq, owned.version + 1, now_ms),
            *dead_letter_records(joined.dead, owned.task),
            *decoded.strays,
            *event_records(chores.events, owned.task, now_ms),
        ]

    async def _micro_batch(
        self,
        polled: Polled,
        decoded: Decoded,
        deltas: Deltas,
        clocks: dict[str, ClockRow],
        known: Known,
        outgoing: Sequence[OutRecord],
        chores: Chores,
    ) -> MicroBatch:
        owned = self._owned
        for name, (number, _) in chores.deletions.items():
            row = clocks.get(name) or owned.clocks.get(name, ClockRow())
            clocks[name] = replace(row, deletions_applied=number)
        return MicroBatch(
            task=owned.task,
            epoch=owned.epoch,
            expected_version=owned.version,
            seq=owned.seq + sum(record.topic == Topic.STATUS for record in outgoing),
            offsets=owned.offsets | dict(polled.positions),
            origins=owned.origins | decoded.origins,
            slot=pack_slot(outgoing),
            prediction_cells=await owned.traffic.absolute(deltas.traffic, self._is_new),
            accuracy_cells=await owned.accuracy.absolute(deltas.accuracy, self._is_new),
            clocks=clocks,
            submissions=await self._submissions(deltas.submissions),
            deployment_versions={name: deployment.version for name, deployment in known.deployments.items()},
            batch_versions={key: batch.version for key, batch in known.batches.items()},
            outbox_ids=[event[0] for event in chores.events],
            dropped_batches=[(name, batch) for name, (_, batches) in chores.deletions.items() for batch in batches],
        )

    def _is_new(self, key: PredictionCellKey | AccuracyCellKey) -> bool:
        """Whether no cell of this key can be in the ledger: its hour is later than any prediction that was counted."""
        row = self._owned.clocks.get(key.deployment_id)
        latest = None if row is None else row.clock.predictions
        return bool(key.model_id) and (latest is None or key.hour > latest)

    async def _submissions(self, deltas: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
        if not deltas:
            return {}
        counted = await self._world.ledger.submissions(self._owned.task, list(deltas))
        return {key: counted.get(key, 0) + count for key, count in deltas.items()}

    async def _persist(self, computed: Computed, polled: Polled, chores: Chores) -> Computed:
        """Commit; what was computed under settings that have changed since is computed again first."""
        backoff = Backoff()
        while True:
            started = self._world.clock.monotonic()
            try:
                await self._world.ledger.persist(computed.batch)
            except SettingsMoved:
                self._registry.forget(computed.known.deployments, computed.known.batches)
                computed = await self._compute(computed.decoded, polled, chores)
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
        owned.traffic.install(batch.prediction_cells)
        owned.accuracy.install(batch.accuracy_cells)
        if batch.dropped_batches:
            gone = frozenset(batch.dropped_batches)
            owned.traffic.drop(lambda key: (key.deployment_id, key.batch_id) in gone)
            owned.accuracy.drop(lambda key: (key.deployment_id, key.batch_id) in gone)
        now = self._world.clock.now().timestamp()
        position = StorePosition(owned.incarnation, owned.version, owned.status_offset, now)
        timers = packed_timers(joined.opened, b"v" + owned.version.to_bytes(8, "big"))
        owned.store.apply(joined.rows, timers, position)
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
        for outcome, count in Counter([happened.outcome for happened in computed.joined.happened]).items():
            telemetry.join_outcomes_total.labels(outcome.name).inc(count)
        for reason, count in Counter([refused.reason for refused in computed.joined.dead]).items():
            telemetry.dead_letters_total.labels(reason.value).inc(count)
        refused_predictions = sum(refused.is_prediction for refused in decoded.refused)
        telemetry.records_total.labels("predictions").inc(len(decoded.predictions.row_id) + refused_predictions)
        telemetry.records_total.labels("actuals").inc(
            len(decoded.actuals.row_id) + len(decoded.refused) - refused_predictions
        )


def halves(polled: Polled, offsets: Mapping[str, int]) -> tuple[Polled, Polled]:
    """The records in two parts that keep the order within each topic, for a slot that would be too large."""
    first: dict[str, Sequence[Record]] = {}
    second: dict[str, Sequence[Record]] = {}
    positions = {}
    room = polled.size // 2
    for role in INPUT_TOPICS:
        records = polled.records.get(role, ())
        first[role], second[role] = records[:room], records[room:]
        room -= len(first[role])
        whole = polled.positions.get(role, offsets[role])
        positions[role] = second[role][0].offset if second[role] else whole
    return Polled(first, positions), Polled(second, polled.positions)
