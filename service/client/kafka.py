"""The way over Kafka: an idempotent producer, all acknowledgements, each row in the partition of its key.

While the broker is away the driver repeats what is under way, without doubling it, for as long as it takes. A producer
that has failed for good is replaced by another; what it had under way is sent again and may then be there twice, which
the service recognises by the association ID.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    CorruptRecordException,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from service.client.complaints import Complaints
from service.client.kafka_options import DEFAULT_PREFIX, KafkaOptions, check, producer_options
from service.client.partition import partition_of
from service.client.rows import Outcome, Parcel, Row
from service.domain.records import topic_name

_BATCH_BYTES: Final = 900_000
_REQUEST_BYTES: Final = 1 << 20
_START_WITHIN_S: Final = 60.0
_STOP_WITHIN_S: Final = 2.0
_SILENT_AFTER_S: Final = 10.0
_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_FOR_GOOD: Final = (
    ClusterAuthorizationFailedError,
    CorruptRecordException,
    InvalidTopicError,
    TopicAuthorizationFailedError,
    *_TOO_LARGE,
)
"""Another try would end the same."""


class _Home(NamedTuple):
    """Rows of one parcel that live in one partition."""

    topic: str
    partition: int
    rows: list[Row]


class _Fault(NamedTuple):
    rows: Sequence[Row]
    error: Exception


class KafkaTransport:
    """Connects when there is something to send."""

    at_once = 1

    def __init__(self, options: KafkaOptions, complaints: Complaints) -> None:
        check(options)
        self._options = producer_options(options)
        self._prefix = options.get("topic_prefix", DEFAULT_PREFIX)
        self._complaints = complaints
        self._producers: list[AIOKafkaProducer] = []
        """None or one."""
        self._turns = count()

    async def send(self, parcel: Parcel) -> Outcome:
        try:
            producer = await self._connected()
        except (KafkaError, OSError) as error:  # time-outs too
            self._tell("waiting", error, parcel.rows)
            return Outcome(again=(parcel,))
        homes, faults = await self._homes(producer, parcel.rows)
        faults += await self._all_placed(producer, homes)
        if faults:
            await self._discard()
        return self._outcome(parcel, faults)

    async def close(self) -> None:
        await self._discard()

    async def _connected(self) -> AIOKafkaProducer:
        if not self._producers:
            producer = AIOKafkaProducer(
                **self._options,
                acks="all",
                enable_idempotence=True,
                linger_ms=0,
                max_batch_size=_BATCH_BYTES,
                max_request_size=_REQUEST_BYTES,
                retry_backoff_ms=500,
            )
            self._producers.append(producer)
            try:
                await asyncio.wait_for(producer.start(), _START_WITHIN_S)
            except BaseException:
                await self._discard()
                raise
        return self._producers[0]

    async def _homes(self, producer: AIOKafkaProducer, rows: Iterable[Row]) -> tuple[list[_Home], list[_Fault]]:
        by_topic: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_topic[row.topic].append(row)
        homes: list[_Home] = []
        faults: list[_Fault] = []
        for role, of_topic in by_topic.items():
            name = topic_name(self._prefix, role)
            try:
                partitions = sorted(await producer.partitions_for(name))
            except (KafkaError, OSError) as error:
                faults.append(_Fault(of_topic, error))
            else:
                homes += self._by_partition(name, of_topic, partitions)
        return homes, faults

    def _by_partition(self, name: str, rows: Iterable[Row], partitions: Sequence[int]) -> list[_Home]:
        """Rows without a key are at home anywhere: of one parcel in one place, the next elsewhere."""
        many = len(partitions)
        anywhere = next(self._turns) % many
        by_partition: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_partition[anywhere if row.key is None else partition_of(row.key, many)].append(row)
        return [_Home(name, partitions[place], there) for place, there in by_partition.items()]

    async def _all_placed(self, producer: AIOKafkaProducer, homes: Iterable[_Home]) -> list[_Fault]:
        tasks = [asyncio.create_task(self._placed(producer, home)) for home in homes]
        waiting: set[asyncio.Task[list[_Fault]]] = set(tasks)
        try:
            while waiting:
                _, waiting = await asyncio.wait(waiting, timeout=_SILENT_AFTER_S)
                if waiting:
                    self._complaints.tell("waiting", "Kafka does not acknowledge; it is tried again and again", rows=0)
        finally:
            for task in waiting:
                task.cancel()
        return [fault for task in tasks for fault in task.result()]

    async def _placed(self, producer: AIOKafkaProducer, home: _Home) -> list[_Fault]:
        """Rows that did not arrive, with the reason."""
        faults: list[_Fault] = []
        for batch, rows in _batches(producer, home.rows):
            try:
                await _acknowledged(producer, batch, home)
            except (KafkaError, OSError) as error:
                faults.append(_Fault(rows, error))
        return faults

    def _outcome(self, parcel: Parcel, faults: Sequence[_Fault]) -> Outcome:
        failed = 0
        again: list[Parcel] = []
        for rows, error in faults:
            if isinstance(error, _TOO_LARGE) and len(rows) > 1:
                half = len(rows) // 2
                again += [Parcel(rows[:half]), Parcel(rows[half:])]
            elif isinstance(error, _FOR_GOOD):
                failed += len(rows)
                self._tell("given up", error, rows)
            else:
                again.append(Parcel(rows))
                self._tell("waiting", error, rows)
        sent = len(parcel.rows) - failed - sum(len(one.rows) for one in again)
        return Outcome(sent=sent, failed=failed, again=tuple(again))

    def _tell(self, reason: str, error: Exception, rows: Sequence[Row]) -> None:
        what = "it is tried again" if reason == "waiting" else "these rows are not sent"
        text = f"Kafka: {type(error).__name__}: {error!s:.200}; {what}"
        self._complaints.tell(reason, text, rows=len(rows))

    async def _discard(self) -> None:
        """Let go of the producer, even where the broker is silent.

        Its own `stop` would wait until the broker has taken what is under way. Nobody waits for that any more.
        """
        while self._producers:
            producer = self._producers.pop()
            producer._closed = True
            ending = [asyncio.create_task(producer._sender.close()), asyncio.create_task(producer.client.close())]
            _, left = await asyncio.wait(ending, timeout=_STOP_WITHIN_S)
            for task in left:
                task.cancel()


def _batches(producer: AIOKafkaProducer, rows: Sequence[Row]) -> Iterator[tuple[Any, Sequence[Row]]]:
    """As few as hold the rows, each with its own."""
    batch, first = producer.create_batch(), 0
    for place, row in enumerate(rows):
        if batch.append(key=row.key, value=row.value, timestamp=None) is None:
            yield batch, rows[first:place]
            batch, first = producer.create_batch(), place
            batch.append(key=row.key, value=row.value, timestamp=None)
    yield batch, rows[first:]


async def _acknowledged(producer: AIOKafkaProducer, batch: Any, home: _Home) -> None:
    while True:
        try:
            acknowledged = await producer.send_batch(batch, home.topic, partition=home.partition)
        except KafkaTimeoutError:  # the batch before it is still under way, this one was not taken
            continue
        await acknowledged
        return
