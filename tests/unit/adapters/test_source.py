"""How long a poll waits for more than it holds, with a broker's answers in its place."""

from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition

from service.adapters.clock import SystemClock
from service.adapters.kafka import source as module
from service.adapters.kafka.held_records import HeldRecords
from service.adapters.kafka.source import KafkaSource
from service.ports import INPUT_TOPICS, Topic
from tests.unit.adapters.test_held_records import Fetched

END = 100
"""Of each log that goes on."""


class Answers:
    """What the brokers say and send: consumer and prefetch in one. `coming` gives the records of each look."""

    def __init__(self, coming: Mapping[int, tuple[str, list[int]]], goes_on: frozenset[str]) -> None:
        self._coming = coming
        self._ends = {role: END if role in goes_on else 0 for role in INPUT_TOPICS}
        self._held = HeldRecords()
        self.next = dict.fromkeys(INPUT_TOPICS, 0)
        self.looks = 0

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(f"monitoring.{role}.v1", 0) for role in INPUT_TOPICS]

    def last_stable_offset(self, partition: TopicPartition) -> int:
        return self._ends[partition.topic.split(".")[1]]

    def last_poll_timestamp(self, partition: TopicPartition) -> int:
        return 0

    def want(self, task: int, most: int) -> HeldRecords:
        self._send()
        return self._held

    def held(self, task: int) -> HeldRecords:
        return self._held

    async def more(self, task: int, wait_s: float) -> None:
        self.looks += 1
        self._send()

    def _send(self) -> None:
        role, offsets = self._coming.get(self.looks, ("", []))
        if offsets:
            self._held.add(role, [Fetched(offset, offset) for offset in offsets])
            self.next[role] = offsets[-1] + 1


def source_over(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> KafkaSource:
    source: Any = KafkaSource("monitoring", SystemClock())
    source._consumer = source._prefetch = answers
    source._positions[0] = dict.fromkeys(INPUT_TOPICS, 0)
    monkeypatch.setattr(module, "next_position", lambda _, partition: answers.next[partition.topic.split(".")[1]])
    return source  # type: ignore[no-any-return]


BOTH = frozenset({Topic.PREDICTIONS, Topic.ACTUALS})


async def test_a_topic_that_goes_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its predictions are older than the actuals that came first: those would all be early."""
    answers = Answers({0: (Topic.ACTUALS, [*range(50)]), 90: (Topic.PREDICTIONS, [*range(50)])}, BOTH)
    polled = await source_over(answers, monkeypatch).poll(0, 10, 0.5)
    assert {role: len(records) for role, records in polled.records.items()} == {"predictions": 5, "actuals": 5}


async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker that has it may be away."""
    answers = Answers({0: (Topic.ACTUALS, [*range(50)])}, BOTH)
    polled = await source_over(answers, monkeypatch).poll(0, 10, 0.5)
    assert {role: len(records) for role, records in polled.records.items()} == {"actuals": 10}
    assert 100 < answers.looks < 1_000


async def test_a_topic_of_which_something_is_held_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers({0: (Topic.ACTUALS, [*range(5)])}, frozenset({Topic.ACTUALS}))
    assert (await source_over(answers, monkeypatch).poll(0, 10, 0.5)).size == 5
    assert answers.looks == 1


async def test_a_backlog_fills_the_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few records with every look: until there is room for no more."""
    coming = {look: (Topic.ACTUALS, [*range(look * 3, look * 3 + 3)]) for look in range(30)}
    answers = Answers(coming, frozenset({Topic.ACTUALS}))
    assert (await source_over(answers, monkeypatch).poll(0, 10, 0.5)).size == 10
    assert answers.looks == 3


async def test_a_trickle_is_taken_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    coming = {look: (Topic.ACTUALS, [look]) for look in range(90)}
    answers = Answers(coming, frozenset({Topic.ACTUALS}))
    assert (await source_over(answers, monkeypatch).poll(0, 1_000, 0.5)).size == answers.looks + 1 < 40


async def test_the_end_of_all_logs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers({0: (Topic.ACTUALS, [*range(5)])}, frozenset())
    assert (await source_over(answers, monkeypatch).poll(0, 10, 0.5)).size == 5
    assert answers.looks == 0
