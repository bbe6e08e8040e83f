"""Publishing to a `MemoryBroker`, with the faults that a transaction can have."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from service.adapters.memory.broker import MemoryBroker
from service.ports import Batch, Fenced, Topic, Unavailable
from service.wire.record_batch import records_of

PublishFault = Literal["before", "after"]
"""The publish fails: before the commit, or after it, when the acknowledgement is lost."""


class MemorySink:
    """Opens publishers. Set `fail_next` to make the next publish fail."""

    def __init__(self, broker: MemoryBroker) -> None:
        self.fail_next: PublishFault | None = None
        self._broker = broker

    async def open(self, task: int) -> "MemoryPublisher":
        await asyncio.sleep(0)
        return MemoryPublisher(self._broker, self, task)

    async def published_version(self, task: int) -> int | None:
        await asyncio.sleep(0)
        committed = self._broker.committed.get(task)
        return None if committed is None else committed.version

    def take_fault(self) -> PublishFault | None:
        fault, self.fail_next = self.fail_next, None
        return fault


class MemoryPublisher:
    """The right to publish for one task. Control returns to the loop before and after each effect."""

    def __init__(self, broker: MemoryBroker, sink: MemorySink, task: int) -> None:
        self._broker = broker
        self._sink = sink
        self._task = task
        self._right = broker.fence(task)
        self._usable = True

    async def publish(self, batches: Sequence[Batch], positions: Mapping[str, int], version: int) -> int:
        await asyncio.sleep(0)
        if self._broker.is_fenced(self._task, self._right):
            raise Fenced(f"another publisher of task {self._task} was opened")
        fault = self._sink.take_fault()
        if fault == "before" or not self._usable:
            self._fail()
        records = [record for batch in batches for record in records_of(batch)]
        self._broker.commit(self._task, records, positions, version)
        if fault == "after":
            self._fail()
        await asyncio.sleep(0)
        has_status = any(batch.topic == Topic.STATUS for batch in batches)
        return self._broker.log(Topic.STATUS, self._task).end if has_status else 0

    async def settle(self, positions: Mapping[str, int], version: int) -> None:
        """Positions are never left."""

    async def close(self) -> None:
        self._usable = False

    def _fail(self) -> None:
        self._usable = False
        raise Unavailable("the fate of the publish is not known; this publisher is of no more use")
