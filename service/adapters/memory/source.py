"""Reading tasks from a `MemoryBroker`."""

import asyncio
from collections.abc import Mapping

from service.adapters.memory.broker import MemoryBroker, MemoryRecord
from service.ports import INPUT_TOPICS, Fenced, Lag, LedgerMismatch, Polled


class MemorySource:
    """One member of the consumer group."""

    def __init__(self, broker: MemoryBroker, instance: str) -> None:
        self._broker = broker
        self._instance = instance
        self._heard = 0
        self._positions: dict[int, dict[str, int]] = {}
        self._paused: set[int] = set()
        self._turn = 0

    @property
    def assignment(self) -> frozenset[int]:
        return self._broker.assignment(self._instance)

    @property
    def partitions(self) -> int:
        return self._broker.partitions

    async def assignment_changed(self) -> None:
        while self._broker.times_assigned(self._instance) == self._heard:
            await self._broker.news.wait()
        self._heard = self._broker.times_assigned(self._instance)

    async def seek(self, task: int, offsets: Mapping[str, int]) -> dict[str, int]:
        await asyncio.sleep(0)
        positions = {topic: self._checked(topic, task, offsets.get(topic)) for topic in INPUT_TOPICS}
        self._positions[task] = positions
        self._paused.discard(task)
        return dict(positions)

    def pause(self, task: int) -> None:
        self._paused.add(task)

    async def poll(self, task: int, max_records: int, wait_s: float) -> Polled:
        try:
            async with asyncio.timeout(wait_s):
                while not (polled := self._available(task, max_records)).size:
                    await self._broker.news.wait()
        except TimeoutError:
            return self._available(task, max_records)
        return polled

    def lag(self, task: int) -> Lag:
        positions = self._positions.get(task, {})
        logs = {topic: self._broker.log(topic, task) for topic in INPUT_TOPICS}
        return Lag(records={topic: log.end - positions.get(topic, log.begin) for topic, log in logs.items()})

    def _available(self, task: int, max_records: int) -> Polled:
        """What there is now; each time another topic comes first, so that none starves."""
        if task not in self.assignment:
            raise Fenced(f"task {task} is not assigned to {self._instance}")
        positions = self._positions.get(task, {})
        records: dict[str, list[MemoryRecord]] = {}
        if task not in self._paused and positions:
            self._turn += 1
            for i in range(len(INPUT_TOPICS)):
                topic = INPUT_TOPICS[(self._turn + i) % len(INPUT_TOPICS)]
                if found := self._broker.log(topic, task).read(positions[topic], max_records):
                    records[topic] = found
                    positions[topic] = found[-1].offset + 1
                    max_records -= len(found)
        ended = {topic for topic, position in positions.items() if position == self._broker.log(topic, task).end}
        return Polled(records, dict(positions), frozenset(ended))

    def _checked(self, topic: str, task: int, offset: int | None) -> int:
        log = self._broker.log(topic, task)
        if offset is None:
            return log.begin
        if not log.begin <= offset <= log.end:
            raise LedgerMismatch(f"{topic}/{task}: offset {offset} is outside the log [{log.begin}, {log.end}]")
        return offset
