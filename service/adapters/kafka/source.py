"""`RecordSource` on aiokafka: a static member of the consumer group, read task by task.

The library fetches and heartbeats in the background. Its rebalance callbacks only note what was assigned: heartbeats
stop while a callback runs. The protocol revokes everything on each rebalance and hands most of it back, so a task
that stays goes on where it was; only what the caller has not placed by `seek` is paused.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiokafka.conn
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from service.adapters.kafka.assignor import assignor_of
from service.adapters.kafka.checksums import check_what_comes
from service.adapters.kafka.connection import translating
from service.adapters.kafka.fetched import next_position
from service.adapters.kafka.held_records import HeldRecords
from service.adapters.kafka.prefetch import Prefetch
from service.domain.records import INPUT_TOPICS, topic_name
from service.ports import Clock, Fenced, Lag, LedgerMismatch, Polled, Unavailable

_FETCH_BYTES = 4 << 20
_HEARTBEAT_MS = 300
"""A member learns of a rebalance by the answer to a heartbeat: what another hands over stands still for so long."""
_NEVER_MS = 2**31 - 1
_STOP_WITHIN_S = 5.0
_JOIN_TRIES = 10
_JOIN_AGAIN_S = 0.5
_GATHER_S = 0.005
_GATHER_AT_MOST = 20
_LACKING_AT_MOST = 200
"""Looks, so many seconds apart: a poll waits so long for more of a backlog, and so long for a topic that goes on and of
which nothing is held. One answer of a broker holds records of a few partitions, so with many it takes several."""
_ANSWER_HOLDS_MS = 5_000
"""A log end that was heard longer ago is not known any more: this process may have been stopped meanwhile."""


class KafkaSource(ConsumerRebalanceListener):  # type: ignore[misc]
    """Use `open_source`."""

    def __init__(self, prefix: str, clock: Clock) -> None:
        self._clock = clock
        self._names = {role: topic_name(prefix, role) for role in INPUT_TOPICS}
        self._roles = {name: role for role, name in self._names.items()}
        self._consumer: AIOKafkaConsumer
        self._assignment: frozenset[int] = frozenset()
        self._changed = asyncio.Event()
        self._positions: dict[int, dict[str, int]] = {}
        """Next offsets of the tasks that were placed since they came here, by role."""
        self._prefetch: Prefetch
        """Holds what is not polled yet, from the positions on."""
        self._paused: set[int] = set()
        self._failure: Exception | None = None
        self.partitions = 0

    @property
    def assignment(self) -> frozenset[int]:
        return self._assignment

    async def assignment_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        if self._failure is not None:
            raise self._failure

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing yet: most of it comes back, and the ledger fences what does not."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._assignment = frozenset(partition.partition for partition in assigned)
        for task in self._positions.keys() - self._assignment:
            del self._positions[task]
            self._prefetch.drop(task)
        self._prefetch.clear()
        for partition in assigned:
            position = self._positions.get(partition.partition, {}).get(self._roles[partition.topic])
            if position is None or partition.partition in self._paused:
                self._consumer.pause(partition)
            self._consumer.seek(partition, position or 0)
        self._changed.set()

    async def seek(self, task: int, offsets: Mapping[str, int]) -> dict[str, int]:
        partitions = {role: TopicPartition(name, task) for role, name in self._names.items()}
        with translating():
            begins = await self._consumer.beginning_offsets(list(partitions.values()))
            ends = await self._consumer.end_offsets(list(partitions.values()))
        positions = {role: offsets.get(role, begins[partition]) for role, partition in partitions.items()}
        for role, partition in partitions.items():
            _check_inside(partition, positions[role], begins[partition], ends[partition])
        if task in self._assignment:
            self._positions[task] = positions
            self._prefetch.drop(task)
            self._paused.discard(task)
            for role, partition in partitions.items():
                self._consumer.seek(partition, positions[role])
            self._consumer.resume(*partitions.values())
        return dict(positions)

    async def ping(self) -> None:
        """Raises `Unavailable` when no broker answers."""
        if not await self._consumer._client.force_metadata_update():
            raise Unavailable("Kafka: no broker answers")

    def pause(self, task: int) -> None:
        self._paused.add(task)
        self._prefetch.drop(task)
        assigned = [partition for partition in self._partitions_of(task) if partition in self._consumer.assignment()]
        self._consumer.pause(*assigned)

    async def poll(self, task: int, max_records: int, wait_s: float) -> Polled:
        self._check_owned(task)
        held = self._prefetch.want(task, max_records)
        if not held:
            await self._prefetch.more(task, wait_s)
        for looks in range(_LACKING_AT_MOST):  # of a backlog, as much as there is room for
            before, coming = len(held), self._coming(task)
            if not _lacking(held, coming) and (not coming or before >= max_records or looks >= _GATHER_AT_MOST):
                break
            await self._prefetch.more(task, _GATHER_S)
            if len(held) == before and not _lacking(held, self._coming(task)):
                break
        self._check_owned(task)
        records = held.take(max_records, self._coming(task))
        for role, taken in records.items():
            # at once, before anything is awaited: a rebalance goes on from here
            self._positions[task][role] = taken[-1].offset + 1
        self._pass_markers(task)
        return Polled(records, dict(self._positions[task]), self._ended(task))

    def _check_owned(self, task: int) -> None:
        if task not in self._positions:
            raise Fenced(f"task {task} was assigned away from this member")

    def lag(self, task: int) -> Lag:
        behind = {}
        for role, position in self._positions.get(task, {}).items():
            end = self._log_end(TopicPartition(self._names[role], task))
            behind[role] = max(0, (end or 0) - position)
        return Lag(records=behind)

    def _coming(self, task: int) -> set[str]:
        """Roles whose log goes on behind what is held."""
        coming = set()
        for role, name in self._names.items():
            partition = TopicPartition(name, task)
            end = self._log_end(partition)
            if end is not None and end > next_position(self._consumer, partition):
                coming.add(role)
        return coming

    def _ended(self, task: int) -> frozenset[str]:
        """Roles of which nothing more waits, by an answer of the broker that is no older than some seconds."""
        ended, now_ms = set(), self._clock.now().timestamp() * 1000
        for role, position in self._positions[task].items():
            partition = TopicPartition(self._names[role], task)
            end = self._log_end(partition)
            if end is not None and position >= end:
                answered_ms = self._consumer.last_poll_timestamp(partition) or 0
                if now_ms - answered_ms < _ANSWER_HOLDS_MS:
                    ended.add(role)
        return frozenset(ended)

    def _log_end(self, partition: TopicPartition) -> int | None:
        """As the last answer of the broker has it; None before the first, and while the partition is not ours."""
        if partition not in self._consumer.assignment():
            return None
        end: int | None = self._consumer.last_stable_offset(partition)
        return end

    def _pass_markers(self, task: int) -> None:
        """Go on behind transaction markers where the consumer has seen them, so that the log's end is reached."""
        held, positions = self._prefetch.held(task), self._positions[task]
        for role in positions:
            if not held.count(role):
                reached = next_position(self._consumer, TopicPartition(self._names[role], task))
                positions[role] = max(positions[role], reached)

    def _fail(self, error: Exception) -> None:
        """Nothing more will come: the supervisor is told through `assignment_changed`."""
        refused = isinstance(error, KafkaError)
        self._failure = Unavailable(f"Kafka: the consumer group refused this worker: {error}") if refused else error
        self._changed.set()

    def _partitions_of(self, task: int) -> list[TopicPartition]:
        return [TopicPartition(name, task) for name in self._names.values()]

    async def start(self, consumer: AIOKafkaConsumer) -> None:
        aiokafka.conn.READER_LIMIT = _FETCH_BYTES  # with 64 kB, a large answer stops and starts the socket all the time
        self._consumer = consumer
        self._prefetch = Prefetch(consumer, self._roles, self._fail)
        consumer.subscribe(list(self._names.values()), listener=self)
        await consumer.start()
        check_what_comes(consumer)
        self.partitions = len(consumer.partitions_for_topic(self._names["predictions"]) or ())
        self._prefetch.start()

    async def stop(self) -> None:
        """Take nothing more; before the consumer is stopped."""
        await self._prefetch.stop()


def _lacking(held: HeldRecords, coming: Collection[str]) -> bool:
    """Whether nothing is held of a topic that goes on: its next records may be older than what is held."""
    return any(not held.count(role) for role in coming)


def _check_inside(partition: TopicPartition, position: int, begin: int, end: int) -> None:
    if not begin <= position <= end:
        raise LedgerMismatch(
            f"{partition.topic} partition {partition.partition} holds offsets {begin} to {end}, but the ledger goes on "
            f"at {position}: records are missing, or the topic was made anew. Nothing was skipped; "
            "`hindsight topics check` shows the topics"
        )


@asynccontextmanager
async def open_source(
    options: Mapping[str, Any],
    *,
    prefix: str,
    clock: Clock,
    group_id: str,
    instance: str,
    session_timeout_ms: int,
    on_disk: Callable[[], frozenset[int]],
    stay: bool,
) -> AsyncIterator[KafkaSource]:
    """A member of the group. At the end it leaves it, unless it is to `stay`: then its tasks wait for its return.

    `clock` must be this machine's, since the library stamps its fetches by that.

    A member that fails does not leave either: the place may be that of another process of this name by now.
    """
    source = KafkaSource(prefix, clock)
    make = partial(
        AIOKafkaConsumer,
        **options,
        group_id=group_id,
        group_instance_id=instance,
        partition_assignment_strategy=(assignor_of(instance, lambda: source.assignment, on_disk),),
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=session_timeout_ms,
        heartbeat_interval_ms=_HEARTBEAT_MS,
        max_poll_interval_ms=_NEVER_MS,
        rebalance_timeout_ms=30_000,
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=100,
        fetch_max_bytes=_FETCH_BYTES * 8,
    )
    consumer = await _joined(source, make, instance)
    leaves = False
    try:
        yield source
        leaves = not stay
    finally:
        if leaves:
            # the library leaves on behalf of dynamic members only
            consumer._coordinator._group_instance_id = None
        await source.stop()
        await _stop(consumer)


async def _joined(source: KafkaSource, make: Callable[[], AIOKafkaConsumer], instance: str) -> AIOKafkaConsumer:
    """A member of the group. Another process of this instance that is on its way out may push it out while it joins.

    The library does not know the broker's word for that (FENCED_INSTANCE_ID), and its consumer is of no more use then.
    """
    refusals = 0
    while True:
        consumer = make()
        try:
            await source.start(consumer)
        except BaseException as error:
            await _stop(consumer)
            if type(error) is not KafkaError:
                with translating():
                    raise
            refusals += 1
            if refusals == _JOIN_TRIES:
                raise Unavailable(
                    f"Kafka: the consumer group refuses this worker again and again ({error}); "
                    f"does another process run as instance {instance!r}?"
                ) from error
            await asyncio.sleep(_JOIN_AGAIN_S)
        else:
            return consumer


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Also where the broker is silent: then it finds out by the session time-out that we are gone."""
    try:
        await asyncio.wait_for(consumer.stop(), _STOP_WITHIN_S)
    except (KafkaError, OSError, TimeoutError):
        return
