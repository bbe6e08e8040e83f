"""A member of the group: the end of a log behind transaction markers and while a partition moves away, and membership
while this process works hard."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from service.adapters.clock import SystemClock
from service.adapters.kafka.source import KafkaSource, open_source
from service.adapters.kafka.topics import create_topics
from service.devstack.kafka import Kafka
from service.domain.records import Topic, topic_name
from service.ports import INPUT_TOPICS

pytestmark = pytest.mark.integration


@asynccontextmanager
async def member(options: dict[str, Any], prefix: str, session_ms: int = 10_000) -> AsyncIterator[KafkaSource]:
    """The only one of its group, with its one task."""
    await create_topics(options, prefix, partitions=1, replication_factor=1, min_insync=1)
    opening = open_source(
        options, prefix=prefix, clock=SystemClock(), group_id=prefix, instance="one", session_timeout_ms=session_ms,
        on_disk=frozenset, stay=False,
    )  # fmt: skip
    async with opening as source:
        await source.assignment_changed()
        assert source.assignment == {0}
        yield source


async def test_an_aborted_transaction_at_the_end_is_no_backlog(kafka: Kafka, topic_prefix: str) -> None:
    options, prefix = {"bootstrap_servers": kafka.bootstrap_servers}, topic_prefix.rstrip(".")
    producing = AIOKafkaProducer(**options, transactional_id=prefix)
    async with member(options, prefix) as source, producing as producer, asyncio.timeout(30):
        await source.seek(0, {})
        taken, ends = 0, [0]
        for commits in (True, False, False):
            await producer.begin_transaction()
            await producer.send_and_wait(topic_name(prefix, Topic.PREDICTIONS), b"{}", partition=0)
            await (producer.commit_transaction() if commits else producer.abort_transaction())
            ends.append(ends[-1] + 2)  # the record and its marker
            reached = -1
            while reached < ends[-1]:
                polled = await source.poll(0, 10, 0.2)
                taken, reached = taken + polled.size, polled.positions[Topic.PREDICTIONS]
        assert taken == 1
        assert (await source.poll(0, 10, 0.2)).ended == frozenset(INPUT_TOPICS)
        assert source.lag(0).records == dict.fromkeys(INPUT_TOPICS, 0)


def busy(seconds: float) -> None:
    """Pure Python, which never lets go of the interpreter by itself."""
    until, number = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        number += 1


async def test_a_long_restore_keeps_the_place_in_the_group(kafka: Kafka, topic_prefix: str) -> None:
    """Two threads that work for longer than the session lasts."""
    options, prefix = {"bootstrap_servers": kafka.bootstrap_servers}, topic_prefix.rstrip(".")
    async with member(options, prefix, session_ms=6_000) as source:
        moved = asyncio.create_task(source.assignment_changed())
        await asyncio.gather(asyncio.to_thread(busy, 8.0), asyncio.to_thread(busy, 8.0))
        await asyncio.wait([moved], timeout=1.0)
        assert not moved.done(), "it was thrown out meanwhile and has joined again"
        moved.cancel()


async def test_a_member_never_counts_as_idle(kafka: Kafka, topic_prefix: str) -> None:
    """One that nobody has polled for as long as the library allows (24 days, at most) is made to leave the group."""
    options, prefix = {"bootstrap_servers": kafka.bootstrap_servers}, topic_prefix.rstrip(".")
    async with member(options, prefix) as source:
        await source.seek(0, {})
        await source.poll(0, 10, 0.1)
        await asyncio.sleep(0.1)
        assert source._consumer._subscription.fetcher_idle_time == 0


class _Moved:
    """A consumer whose partitions have been assigned away, as the library behaves then."""

    def assignment(self) -> frozenset[Any]:
        return frozenset()

    def last_stable_offset(self, partition: Any) -> int:
        raise AssertionError("Partition is not assigned")


def test_a_partition_that_moves_away_has_no_end_for_us() -> None:
    source = KafkaSource("monitoring", SystemClock())
    source._consumer = _Moved()
    source._positions[0] = dict.fromkeys(INPUT_TOPICS, 5)
    assert source.lag(0).records == dict.fromkeys(INPUT_TOPICS, 0)
    assert source._coming(0) == set()
    assert source._ended(0) == frozenset()
