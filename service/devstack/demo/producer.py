"""Sends the demo's events, and remembers beside them how far it has come.

How far is known per run: *so many predictions and actuals of what was left of the first so many flights*. On Apache
Kafka that memory is the metadata of an offset which the producer commits for a group of its own, in the transaction
that sends the events: both are there or neither is, so a run that was cut off anywhere is gone on with exactly, also
when it is gone on with for more flights. Tansu has no transactions and forgets all when it stops; so does its producer.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from service.devstack.demo.replay import ACTUAL, PREDICTION, Replay
from service.domain.ids import murmur2_many
from service.domain.records import Topic, topic_name

GROUP: Final = "hindsight-demo"
BATCH: Final = 10_000
_BATCH_BYTES: Final = 900_000
_REQUEST_BYTES: Final = 1 << 20
_ROLES: Final = {PREDICTION: Topic.PREDICTIONS, ACTUAL: Topic.ACTUALS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What one run has sent of what was left of the first `rows` flights."""

    rows: int
    predictions: int = 0
    actuals: int = 0

    def further(self, topic: int, events: int) -> "Leg":
        if topic == PREDICTION:
            return replace(self, predictions=self.predictions + events)
        return replace(self, actuals=self.actuals + events)

    @property
    def sent(self) -> dict[int, int]:
        return {PREDICTION: self.predictions, ACTUAL: self.actuals}


def packed(legs: Sequence[Leg]) -> str:
    """The legs as a line, such as `2000:2000:1964 4000:120:7`."""
    return " ".join(f"{leg.rows}:{leg.predictions}:{leg.actuals}" for leg in legs)


def unpacked(line: str) -> list[Leg]:
    numbers = [[int(number) for number in leg.split(":")] for leg in line.split()]
    return [Leg(rows=rows, predictions=predictions, actuals=actuals) for rows, predictions, actuals in numbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """What was sent before, what is left to send now, and the legs up to here; the last of them is this run's."""

    before: Mapping[int, int]
    left: Replay
    legs: Sequence[Leg]


def journey(year: Replay, legs: Sequence[Leg], rows: int) -> Journey:
    """Go on after these legs with the first `rows` flights."""
    sent = np.zeros(len(year), dtype=np.bool_)
    for leg in legs:
        for topic, events in leg.sent.items():
            sent[np.flatnonzero((year.topics == topic) & (year.flights < leg.rows) & ~sent)[:events]] = True
    left = np.flatnonzero((year.flights < rows) & ~sent)
    goes_on = legs and legs[-1].rows == rows
    return Journey(
        before={topic: int(np.count_nonzero(sent & (year.topics == topic))) for topic in _ROLES},
        left=_chosen(year, left),
        legs=legs if goes_on else [*(leg for leg in legs if any(leg.sent.values())), Leg(rows=rows)],
    )


def _chosen(year: Replay, kept: npt.NDArray[np.int64]) -> Replay:
    return Replay(
        topics=year.topics[kept],
        event_at_us=year.event_at_us[kept],
        flights=year.flights[kept],
        keys=[year.keys[i] for i in kept.tolist()],
        values=[year.values[i] for i in kept.tolist()],
    )


class DemoProducer:
    """Sends to the home partition of each key. Use `open_producer`."""

    def __init__(self, producer: AIOKafkaProducer, prefix: str, partitions: int, *, transactions: bool) -> None:
        self._producer = producer
        self._names = {topic: topic_name(prefix, role) for topic, role in _ROLES.items()}
        self._partitions = partitions
        self._transactions = transactions

    async def send(self, topic: int, keys: Sequence[bytes], values: Sequence[bytes], legs: Sequence[Leg]) -> None:
        """Returns when every event is acknowledged; then `legs` are what a later run reads, too."""
        if not self._transactions:
            await self._send(topic, keys, values)
            return
        async with self._producer.transaction():
            await self._send(topic, keys, values)
            place = TopicPartition(self._names[PREDICTION], 0)
            memory = {place: OffsetAndMetadata(sum(leg.predictions for leg in legs), packed(legs))}
            await self._producer.send_offsets_to_transaction(memory, GROUP)

    async def _send(self, topic: int, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        homes = murmur2_many(keys) % self._partitions
        acknowledged = []
        for home in range(self._partitions):
            for batch in self._batches((keys[i], values[i]) for i in np.flatnonzero(homes == home).tolist()):
                acknowledged.append(await self._producer.send_batch(batch, self._names[topic], partition=home))
        for one in acknowledged:
            await one

    def _batches(self, events: Iterator[tuple[bytes, bytes]]) -> Iterator[Any]:
        """As few as hold the events; none where there are none."""
        batch = self._producer.create_batch()
        for key, value in events:
            if batch.append(key=key, value=value, timestamp=None) is None:
                yield batch
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        if batch.record_count():
            yield batch


@asynccontextmanager
async def open_producer(
    bootstrap_servers: str, *, prefix: str, partitions: int, transactions: bool
) -> AsyncIterator[tuple[DemoProducer, list[Leg]]]:
    """A producer, and the legs of the runs before. Whatever a run before has left open is ended first."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        transactional_id=GROUP if transactions else None,
        acks="all",
        linger_ms=0,
        max_batch_size=_BATCH_BYTES,
        max_request_size=_REQUEST_BYTES,
    )
    await producer.start()
    try:
        legs = await _remembered(bootstrap_servers, topic_name(prefix, Topic.PREDICTIONS)) if transactions else []
        yield DemoProducer(producer, prefix, partitions, transactions=transactions), legs
    finally:
        await producer.stop()


async def _remembered(bootstrap_servers: str, topic: str) -> list[Leg]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        await admin.start()
        committed = await admin.list_consumer_group_offsets(GROUP)
    finally:
        await admin.close()
    memory = committed.get(TopicPartition(topic, 0))
    return unpacked(memory.metadata) if memory else []
