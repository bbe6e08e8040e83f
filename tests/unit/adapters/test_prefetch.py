"""What was fetched is taken for every task that wants it, up to its bound; what goes wrong reaches who must know."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, NodeNotReadyError, OffsetOutOfRangeError

from service.adapters.kafka import prefetch
from service.adapters.kafka.prefetch import Prefetch
from service.ports import LedgerMismatch

ROLES = {"p": "predictions", "a": "actuals"}


class One(NamedTuple):
    offset: int
    timestamp: int = 0


class Library:
    """Stands in for the consumer: batches of records by partition, or the error that a partition has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: dict[TopicPartition, list[list[One]]] = {}
        self.errors: dict[TopicPartition, Exception] = {}
        self.against: list[Exception] = []
        self._calls: list[Callable[[], object]] = []
        monkeypatch.setattr(prefetch, "fetching", nullcontext)
        monkeypatch.setattr(prefetch, "check_group", self._check)
        monkeypatch.setattr(prefetch, "call_when_fetched", lambda _, call: self._calls.append(call))
        monkeypatch.setattr(prefetch, "fetched_partitions", lambda _: [*self.errors, *self.batches])
        monkeypatch.setattr(prefetch, "fetched_records", self._taken)

    def _check(self, _: Any) -> None:
        if self.against:
            raise self.against.pop()

    def _taken(self, _: Any, partition: TopicPartition, most: int) -> list[One]:
        if (error := self.errors.pop(partition, None)) is not None:
            raise error
        taken: list[One] = []
        while self.batches[partition] and len(taken) < most:
            taken += self.batches[partition].pop(0)
        if not self.batches[partition]:
            del self.batches[partition]
        return taken

    def bring(self, topic: str, task: int, *sizes: int) -> None:
        """An answer with batches of so many records."""
        self.batches[TopicPartition(topic, task)] = [[One(at) for at in range(size)] for size in sizes]
        self.tell()

    def tell(self) -> None:
        calls, self._calls = self._calls, []
        for call in calls:
            call()


@asynccontextmanager
async def running(failed: list[Exception]) -> AsyncIterator[Prefetch]:
    one = Prefetch(object(), ROLES, failed.append)
    one.start()
    await settled()
    try:
        yield one
    finally:
        await one.stop()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr(prefetch, "_AFTER_ERROR_S", 0)
    return Library(monkeypatch)


async def test_it_is_taken_for_all_tasks_that_want_it_while_nobody_polls(library: Library) -> None:
    async with running([]) as one:
        held = [one.want(task, 10) for task in (0, 1)]
        for task in (0, 1, 2):
            library.bring("p", task, 3)
            library.bring("a", task, 2)
        await settled()
        assert [(each.count("predictions"), each.count("actuals")) for each in held] == [(3, 2), (3, 2)]
        assert library.batches.keys() == {TopicPartition("p", 2), TopicPartition("a", 2)}
        assert len(one.held(2)) == 0


async def test_beyond_the_bound_it_stays_with_the_library_until_there_is_room(library: Library) -> None:
    async with running([]) as one:
        held = one.want(0, 4)
        library.bring("p", 0, 3, 3, 3)
        await settled()
        assert held.count("predictions") == 6
        library.bring("a", 0, 1)
        await settled()
        assert (held.count("predictions"), held.count("actuals")) == (6, 1)
        held.take(5, ())
        assert one.want(0, 4) is held
        await settled()
        assert len(held) == 5
        assert not library.batches


async def test_who_waits_is_woken_by_records_of_its_own_task_only(library: Library) -> None:
    async with running([]) as one:
        for task in (0, 1):
            one.want(task, 10)
        waiting = [asyncio.create_task(one.more(task, 30)) for task in (0, 1)]
        await settled()
        library.bring("a", 1, 1)
        await settled()
        assert [each.done() for each in waiting] == [False, True]
        waiting[0].cancel()


async def test_what_is_dropped_is_not_filled_again_until_it_is_wanted(library: Library) -> None:
    async with running([]) as one:
        held = one.want(0, 10)
        library.bring("p", 0, 3)
        await settled()
        one.drop(0)
        library.bring("p", 0, 2)
        await settled()
        assert len(held) == 0
        one.want(0, 10)
        await settled()
        assert len(held) == 2


async def test_after_a_rebalance_who_waits_gets_what_comes_then(library: Library) -> None:
    async with running([]) as one:
        held = one.want(0, 10)
        library.bring("p", 0, 3)
        await settled()
        one.clear()
        assert len(held) == 0
        waiting = asyncio.create_task(one.more(0, 30))
        await settled()
        library.bring("p", 0, 2)
        await settled()
        assert waiting.done()
        assert len(held) == 2


async def test_a_log_that_lost_records_fails_the_poll_of_its_task_only(library: Library) -> None:
    async with running([]) as one:
        for task in (0, 1):
            one.want(task, 10)
        library.errors[TopicPartition("p", 1)] = OffsetOutOfRangeError({"p": 7})
        library.bring("p", 0, 1)
        await settled()
        assert len(one.want(0, 10)) == 1
        with pytest.raises(LedgerMismatch, match="no longer holds the records"):
            one.want(1, 10)


async def test_a_fault_that_passes_is_tried_again_and_one_that_does_not_is_told(library: Library) -> None:
    failed: list[Exception] = []
    async with running(failed) as one:
        held = one.want(0, 10)
        library.against.append(NodeNotReadyError())
        library.bring("p", 0, 1)
        await settled()
        one.want(0, 10)
        await settled()
        assert len(held) == 1
        assert not failed
        library.against.append(GroupAuthorizationFailedError("no"))
        one.want(0, 10)
        await settled()
        assert [type(error) for error in failed] == [GroupAuthorizationFailedError]
