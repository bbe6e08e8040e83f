"""How long the status topic keeps rows, as the broker tells it."""

from datetime import timedelta

import pytest

from service.adapters.kafka.status_retention import KafkaStatusRetention
from service.adapters.kafka.topics import create_topics
from service.adapters.memory.clock import HandClock
from service.devstack.kafka import Kafka
from service.ports import Unavailable


async def test_the_broker_is_asked_once_a_minute(kafka: Kafka, topic_prefix: str) -> None:
    options = {"bootstrap_servers": kafka.bootstrap_servers}
    await create_topics(options, topic_prefix, partitions=1, replication_factor=1, min_insync=1)
    clock = HandClock()
    retention = KafkaStatusRetention(options, topic_prefix, clock)
    assert await retention.kept_for() == timedelta(days=120)

    options["bootstrap_servers"] = "127.0.0.1:1"
    clock.advance(timedelta(seconds=59))
    assert await retention.kept_for() == timedelta(days=120)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(Unavailable):
        await retention.kept_for()
