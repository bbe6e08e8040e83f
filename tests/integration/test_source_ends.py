"""The end of a log as the consumer sees it: behind transaction markers, and while a partition is moving away."""

import asyncio
from pathlib import Path
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


async def test_an_aborted_transaction_at_the_end_is_no_backlog(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap_servers}
    prefix = topic_prefix.rstrip(".")
    await create_topics(options, prefix, partitions=1, replication_factor=1, min_insync=1)
    member = open_source(
        options, prefix=prefix, clock=SystemClock(), group_id=prefix, instance="one", session_timeout_ms=10_000,
        on_disk=frozenset, stay=False,
    )  # fmt: skip
    async with member as source, AIOKafkaProducer(**options, transactional_id=prefix) as producer, asyncio.timeout(30):
        while not source.assignment:
            await source.assignment_changed()
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
