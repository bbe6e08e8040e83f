"""Topics on a real Apache Kafka, and on Tansu as far as it goes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from service.adapters.kafka.topics import (
    Creation,
    check_alerts_topics,
    check_topics,
    create_topics,
    partition_count,
    topic_ids,
    topic_names,
)
from service.devstack.kafka import Kafka
from service.devstack.server import until
from service.devstack.tansu import open_tansu
from service.ports import Topic, Unavailable

DAY_MS = 86_400_000


def all_names(prefix: str) -> set[str]:
    return {*topic_names(prefix).values(), f"{prefix}.alerts.changelog.v1", f"{prefix}.alerts.dlq.v1"}


@pytest.fixture
def prefix(topic_prefix: str) -> str:
    return topic_prefix.rstrip(".")


@pytest.fixture
def options(kafka: Kafka) -> dict[str, Any]:
    return {"bootstrap_servers": kafka.bootstrap_servers, "security_protocol": "PLAINTEXT"}


async def create(options: dict[str, Any], prefix: str) -> Creation:
    return await create_topics(options, prefix, partitions=3, replication_factor=None, min_insync=None)


async def created(options: dict[str, Any], prefix: str) -> tuple[str, ...]:
    creation = await create(options, prefix)
    assert creation.problems == ()
    return creation.created


async def configuration(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    ((_, _, _, _, entries),) = response.resources
    return {entry[0]: entry[1] for entry in entries}


async def make(admin: AIOKafkaAdminClient, name: str, partitions: int, policy: str = "delete") -> None:
    topic = NewTopic(name, partitions, 1, topic_configs={"cleanup.policy": policy})
    response = await admin.create_topics([topic])
    assert [code for _, code, *_ in response.topic_errors] == [0]


async def delete(admin: AIOKafkaAdminClient, name: str) -> None:
    """Returns when the broker has forgotten it."""
    await admin.delete_topics([name])
    async with asyncio.timeout(15):
        await until(lambda: _is_gone(admin, name))


async def _is_gone(admin: AIOKafkaAdminClient, name: str) -> bool:
    return name not in await admin.list_topics()


async def test_all_are_created_as_designed(options: dict[str, Any], prefix: str, admin: AIOKafkaAdminClient) -> None:
    names = topic_names(prefix)

    assert set(await created(options, prefix)) == all_names(prefix)

    assert names[Topic.PREDICTIONS] == f"{prefix}.predictions.v1"
    assert await check_topics(options, prefix) == []
    assert await partition_count(options, prefix) == 3
    status = await configuration(admin, names[Topic.STATUS])
    assert set(status["cleanup.policy"].split(",")) == {"compact", "delete"}
    assert int(status["retention.ms"]) == 120 * DAY_MS
    assert int(status["min.compaction.lag.ms"]) == DAY_MS
    assert int(status["delete.retention.ms"]) == 7 * DAY_MS
    for role, days in ((Topic.PREDICTIONS, 7), (Topic.ACTUALS, 7), (Topic.REKEY, 7), (Topic.DLQ, 30)):
        found = await configuration(admin, names[role])
        assert (found["cleanup.policy"], int(found["retention.ms"])) == ("delete", days * DAY_MS)
    assert await check_alerts_topics(options, prefix) == []
    assert (await configuration(admin, f"{prefix}.alerts.changelog.v1"))["cleanup.policy"] == "compact"


async def test_workers_do_without_the_topics_of_alerts(
    options: dict[str, Any], prefix: str, admin: AIOKafkaAdminClient
) -> None:
    changelog, letters = f"{prefix}.alerts.changelog.v1", f"{prefix}.alerts.dlq.v1"
    await created(options, prefix)
    await delete(admin, changelog)
    await delete(admin, letters)

    assert await check_topics(options, prefix) == []
    assert await check_alerts_topics(options, prefix, where_made=True) == []
    assert await check_alerts_topics(options, prefix) == [
        f"{name} does not exist; create it: hindsight topics create --partitions 3" for name in (changelog, letters)
    ]

    await make(admin, changelog, 2, "compact")  # alerts need it divided as the topic that they read
    (problem,) = await check_alerts_topics(options, prefix, where_made=True)
    assert problem.startswith(f"{changelog} has 2 partitions where 3 are needed")
    assert await check_topics(options, prefix) == []


async def test_a_second_time_creates_nothing(options: dict[str, Any], prefix: str) -> None:
    await created(options, prefix)
    assert await created(options, prefix) == ()


async def test_nothing_is_there(options: dict[str, Any], prefix: str) -> None:
    problems = await check_topics(options, prefix)
    assert len(problems) == 6
    assert f"{prefix}.rekey.v1 does not exist; create it: hindsight topics create --partitions N" in problems
    assert await partition_count(options, prefix) is None
    assert await topic_ids(options, prefix) == {}


async def test_one_is_missing(options: dict[str, Any], prefix: str, admin: AIOKafkaAdminClient) -> None:
    dlq = topic_names(prefix)[Topic.DLQ]
    await created(options, prefix)
    await delete(admin, dlq)

    assert await check_topics(options, prefix) == [
        f"{dlq} does not exist; create it: hindsight topics create --partitions 3"
    ]
    assert await created(options, prefix) == (dlq,)


async def test_another_partition_count(options: dict[str, Any], prefix: str, admin: AIOKafkaAdminClient) -> None:
    actuals = topic_names(prefix)[Topic.ACTUALS]
    await make(admin, actuals, 2)
    creation = await create(options, prefix)

    (problem,) = await check_topics(options, prefix)

    assert creation.problems == (problem,)
    assert problem.startswith(f"{actuals} has 2 partitions where 3 are needed")
    assert problem.endswith(f"--alter --topic {actuals} --partitions 3")
    assert await partition_count(options, prefix) == 3


async def test_more_partitions_than_asked_for(options: dict[str, Any], prefix: str) -> None:
    await created(options, prefix)
    problems = await check_topics(options, prefix, partitions=2)
    assert len(problems) == 6
    assert "hindsight topics create --partitions 3" in problems[0]


async def test_another_cleanup_policy(options: dict[str, Any], prefix: str, admin: AIOKafkaAdminClient) -> None:
    status = topic_names(prefix)[Topic.STATUS]
    await make(admin, status, 3, "compact")
    await create(options, prefix)

    problems = await check_topics(options, prefix)

    assert problems[0].startswith(f"{status} has cleanup.policy=compact, it must be compact,delete: kafka-configs.sh")
    assert problems[0].endswith(f"--entity-name {status} --add-config 'cleanup.policy=[compact,delete]'")
    keys = [problem.split(" has ")[1].split("=")[0] for problem in problems[1:]]
    assert keys == ["retention.ms", "min.compaction.lag.ms", "delete.retention.ms"]


async def test_a_compacted_input_would_lose_records(
    options: dict[str, Any], prefix: str, admin: AIOKafkaAdminClient
) -> None:
    predictions = topic_names(prefix)[Topic.PREDICTIONS]
    await make(admin, predictions, 3, "compact")
    await create(options, prefix)
    (problem,) = await check_topics(options, prefix)
    assert problem.startswith(f"{predictions} has cleanup.policy=compact, it must be delete")


async def test_refused_creations_are_told(options: dict[str, Any], prefix: str) -> None:
    creation = await create_topics(options, prefix, partitions=3, replication_factor=9, min_insync=None)
    assert creation.created == ()
    assert len(creation.problems) == 8
    assert all(" was not created: " in problem for problem in creation.problems)


async def test_ids_tell_a_topic_from_its_successor(
    options: dict[str, Any], prefix: str, admin: AIOKafkaAdminClient
) -> None:
    await created(options, prefix)
    before = await topic_ids(options, prefix)
    assert before.keys() == topic_names(prefix).keys()
    assert all(len(one) == 22 for one in before.values()) and len(set(before.values())) == 6

    await delete(admin, topic_names(prefix)[Topic.STATUS])
    await created(options, prefix)

    after = await topic_ids(options, prefix)
    assert {role for role in before if before[role] != after[role]} == {Topic.STATUS}


async def test_nobody_is_there(prefix: str) -> None:
    nowhere = {"bootstrap_servers": "127.0.0.1:1"}
    with pytest.raises(Unavailable):
        await check_topics(nowhere, prefix)
    with pytest.raises(Unavailable):
        await topic_ids(nowhere, prefix)


async def test_tansu(tmp_path: Path, prefix: str) -> None:
    async with open_tansu(tmp_path) as tansu:
        options = {"bootstrap_servers": tansu.bootstrap_servers, "security_protocol": "PLAINTEXT"}
        assert len(await check_topics(options, prefix)) == 6
        assert set(await created(options, prefix)) == all_names(prefix)
        assert await created(options, prefix) == ()
        assert await check_topics(options, prefix) == []
        assert len(await check_topics(options, prefix, partitions=4)) == 6
        assert (await topic_ids(options, prefix)).keys() in (set(), topic_names(prefix).keys())
