"""What comes from the brokers, taken as soon as it is there, whatever task it is for.

The library sends a broker no fetch while records of any of its partitions wait to be taken. A task takes records only
when its micro-batch is done, and would keep all others waiting: so nothing is left with the library, up to a bound.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from service.adapters.kafka.fetched import (
    call_when_fetched,
    check_group,
    fetched_partitions,
    fetched_records,
    fetching,
)
from service.adapters.kafka.held_records import HeldRecords
from service.ports import LedgerMismatch

_LOOK_EVERY_S = 0.5
_AFTER_ERROR_S = 0.1


class Prefetch:
    """Of one consumer. `roles` are those of its topics, by name; `failed` is told what ends it."""

    def __init__(
        self, consumer: AIOKafkaConsumer, roles: Mapping[str, str], failed: Callable[[Exception], None]
    ) -> None:
        self._consumer = consumer
        self._roles = roles
        self._failed = failed
        self._most: dict[int, int] = {}
        """Records of each topic that may be held of a task, or a record batch more."""
        self._held: defaultdict[int, HeldRecords] = defaultdict(HeldRecords)
        self._came: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._lost: dict[int, LedgerMismatch] = {}
        self._stirred = asyncio.Event()
        self._listens = False
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """After the consumer."""
        self._running = asyncio.create_task(self._run(), name="prefetch")

    async def stop(self) -> None:
        """Before the consumer."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def want(self, task: int, most: int) -> HeldRecords:
        """What is held of a task; from now on so many of each topic may be. Raises `LedgerMismatch`."""
        if (lost := self._lost.pop(task, None)) is not None:
            raise lost
        self._most[task] = most
        self._stirred.set()
        return self._held[task]

    def held(self, task: int) -> HeldRecords:
        return self._held[task]

    def drop(self, task: int) -> None:
        """What is held of a task; nothing more of it is taken until it is wanted again."""
        self._most.pop(task, None)
        self._lost.pop(task, None)
        self._held[task].clear()

    def clear(self) -> None:
        """What is held of all tasks; who wants more gets it from where the consumer stands then."""
        for held in self._held.values():
            held.clear()

    async def more(self, task: int, wait_s: float) -> None:
        """Returns when more of a task has come, or after so many seconds."""
        self._came[task].clear()
        await _within(self._came[task], wait_s)

    async def _run(self) -> None:
        try:
            with fetching(self._consumer):
                while True:
                    self._stirred.clear()
                    await self._take()
                    await _within(self._stirred, _LOOK_EVERY_S)
        except Exception as error:
            self._failed(error)

    async def _take(self) -> None:
        try:
            check_group(self._consumer)
            if not self._listens:  # before looking: what comes after the look stirs
                self._listens = True
                call_when_fetched(self._consumer, self._heard)
            for partition in fetched_partitions(self._consumer):
                self._take_of(partition)
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(_AFTER_ERROR_S)
            self._stirred.set()

    def _heard(self) -> None:
        self._listens = False
        self._stirred.set()

    def _take_of(self, partition: TopicPartition) -> None:
        task, role = partition.partition, self._roles[partition.topic]
        room = self._most.get(task, 0) - self._held[task].count(role)
        if room <= 0:
            return
        try:
            records = fetched_records(self._consumer, partition, room)
        except OffsetOutOfRangeError as error:
            self._lost[task] = LedgerMismatch(
                f"{error}: the log no longer holds the records that the ledger says come next. If retention removed "
                "them they are lost; `hindsight topics check` shows the topics"
            )
        else:
            if not records:
                return
            self._held[task].add(role, records)
        self._came[task].set()


async def _within(event: asyncio.Event, wait_s: float) -> None:
    """Returns when it is set, or after so many seconds."""
    try:
        async with asyncio.timeout(wait_s):
            await event.wait()
    except TimeoutError:
        return
