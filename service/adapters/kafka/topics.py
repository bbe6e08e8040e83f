"""The topics, six of the workers and two of `hindsight alerts`: their names, how they are created, whether they fit.

Existing topics are checked and never altered: a change of partitions moves keys, a change of retention deletes
records, and both are for a person to decide. Each problem is told with the command that mends it. Brokers that do not
tell a topic's configuration (Tansu) are checked for existence and partition counts only.
"""

import asyncio
import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, UnsupportedVersionError, for_code

from service.adapters.kafka.connection import open_admin, open_client
from service.adapters.kafka.topic_metadata import TopicIdsRequest, ids_in
from service.domain.records import Topic, topic_name
from service.ports import Unavailable

VISIBLE_WITHIN: Final = 15.0
_EXISTS: Final = 36
_UNKNOWN_REQUEST: Final = 35
_GOOD_REPLICATION: Final = 3
_FOREVER: Final = -1


def _ms(**span: float) -> int:
    return int(timedelta(**span) / timedelta(milliseconds=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """What one topic must be. `settings` are given at creation; an existing one is held to `policy` and `at_least`."""

    role: str
    policy: str = "delete"
    settings: Mapping[str, int] = field(default_factory=dict)
    at_least: Mapping[str, int] = field(default_factory=dict)
    co_partitioned: bool = False
    """Partition i of these topics is the work of task i."""

    @property
    def configuration(self) -> dict[str, str]:
        return {"cleanup.policy": self.policy} | {name: str(value) for name, value in self.settings.items()}


_MILLISECOND: Final = timedelta(milliseconds=1)
_AFTER_THE_LAST: Final = timedelta(days=30)
"""The status topic is the changelog of the rows: what it keeps of a row must outlive the row, with room to spare."""
_STATUS: Final = {
    "retention.ms": _ms(days=120),  # window + grace + 30 days, of the default join
    "min.compaction.lag.ms": _ms(hours=24),
    "delete.retention.ms": _ms(days=7),
}
SPECS: Final = (
    TopicSpec(role=Topic.PREDICTIONS, settings={"retention.ms": _ms(days=7)}, co_partitioned=True),
    TopicSpec(role=Topic.ACTUALS, settings={"retention.ms": _ms(days=7)}, co_partitioned=True),
    TopicSpec(role=Topic.REKEY, settings={"retention.ms": _ms(days=7)}, co_partitioned=True),
    TopicSpec(role=Topic.STATUS, policy="compact,delete", settings=_STATUS, at_least=_STATUS, co_partitioned=True),
    TopicSpec(role=Topic.BATCHES, policy="compact,delete", settings=_STATUS, co_partitioned=True),
    TopicSpec(role=Topic.DLQ, settings={"retention.ms": _ms(days=30)}, co_partitioned=True),
)
ALERTS_SPECS: Final = (
    TopicSpec(role=Topic.ALERTS_CHANGELOG, policy="compact", co_partitioned=True),
    TopicSpec(role=Topic.ALERTS_DLQ, settings={"retention.ms": _ms(days=30)}),
)
"""Of `hindsight alerts`: workers do without them. Its changelog is divided as the topic that it reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Creation:
    """What `create_topics` did: names that are new, and what is wrong with those that are not."""

    created: tuple[str, ...]
    problems: tuple[str, ...]


def topic_names(prefix: str) -> dict[str, str]:
    """Name of every topic of the workers, by role."""
    return {spec.role: topic_name(prefix, spec.role) for spec in SPECS}


async def create_topics(
    options: dict[str, Any], prefix: str, *, partitions: int, replication_factor: int | None, min_insync: int | None
) -> Creation:
    """Create the topics that are missing and check the others. Raises `Unavailable`.

    Without a replication factor it is three where there are so many brokers; without `min_insync`, one less.
    """
    async with open_admin(options) as admin:
        replicas = replication_factor or min(_GOOD_REPLICATION, await _brokers(admin))
        insync = min_insync or max(1, replicas - 1)
        existing = set(await admin.list_topics())
        wanted = [
            _new_topic(spec, prefix, partitions, replicas, insync)
            for spec in (*SPECS, *ALERTS_SPECS)
            if topic_name(prefix, spec.role) not in existing
        ]
        refused = await _create(admin, wanted)
        created = tuple(topic.name for topic in wanted if topic.name not in refused)
        await _until_visible(admin, created)
        problems = await _problems(admin, options, prefix, (*SPECS, *ALERTS_SPECS), partitions)
    unexplained = [problem for problem in problems if not problem.startswith(tuple(f"{name} " for name in refused))]
    return Creation(created=created, problems=(*refused.values(), *unexplained))


async def check_topics(
    options: dict[str, Any], prefix: str, *, partitions: int | None = None, longest_row: timedelta | None = None
) -> list[str]:
    """What is wrong with the workers' topics, each with the command that mends it; nothing: they can be worked with.

    `partitions` is the number wanted; without it, the co-partitioned topics need only agree. `longest_row` is how long
    a row may live: its statuses must be kept for 30 days longer. Raises `Unavailable`.
    """
    async with open_admin(options) as admin:
        return await _problems(admin, options, prefix, SPECS, partitions, longest_row)


async def check_alerts_topics(options: dict[str, Any], prefix: str, *, where_made: bool = False) -> list[str]:
    """The same of what `hindsight alerts` reads and writes; `where_made`: nothing if none of its own was made.

    Raises `Unavailable`.
    """
    specs = (*(spec for spec in SPECS if spec.role == Topic.BATCHES), *ALERTS_SPECS)
    async with open_admin(options) as admin:
        if where_made:
            existing = set(await admin.list_topics())
            specs = tuple(spec for spec in specs if topic_name(prefix, spec.role) in existing)
        return await _problems(admin, options, prefix, specs, None)


async def partition_count(options: dict[str, Any], prefix: str, role: str = Topic.PREDICTIONS) -> int | None:
    """Partitions of a topic; None where it does not exist. Raises `Unavailable`."""
    name = topic_name(prefix, role)
    async with open_admin(options) as admin:
        return (await _partition_counts(admin, [name])).get(name)


async def topic_retention(options: dict[str, Any], prefix: str, role: str) -> timedelta | None:
    """How long a topic keeps its records; None: for good, or the broker does not tell. Raises `Unavailable`."""
    name = topic_name(prefix, role)
    async with open_admin(options) as admin:
        told = (await _configurations(admin, [name])).get(name, {})
    if isinstance(told, str):
        raise Unavailable(f"Kafka: the retention of {name} is not told: {told}")
    kept = int(told.get("retention.ms", _FOREVER))
    return None if kept == _FOREVER else kept * _MILLISECOND


async def topic_ids(options: dict[str, Any], prefix: str) -> dict[str, str]:
    """ID of each topic, by role, as Kafka's tools write it; none from a broker without IDs. Raises `Unavailable`."""
    names = topic_names(prefix)
    async with open_client(options) as client:
        try:
            response = await client.send(client.get_random_node(), TopicIdsRequest(names.values()))
        except (NotImplementedError, IncompatibleBrokerVersion):
            return {}
    ids = ids_in(response)
    return {
        role: base64.urlsafe_b64encode(ids[name].bytes).decode().rstrip("=")
        for role, name in names.items()
        if name in ids
    }


# ------------------------------------------------------------------------------------------- creating


def _new_topic(spec: TopicSpec, prefix: str, partitions: int, replicas: int, insync: int) -> NewTopic:
    return NewTopic(
        name=topic_name(prefix, spec.role),
        num_partitions=partitions,
        replication_factor=replicas,
        topic_configs=spec.configuration | {"min.insync.replicas": str(insync)},
    )


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> dict[str, str]:
    """Create them; the ones that were refused, with why."""
    if not topics:
        return {}
    response = await admin.create_topics(topics)
    return {
        name: f"{name} was not created: {_reason(code, *message)}"
        for name, code, *message in response.topic_errors
        if code not in (0, _EXISTS)
    }


async def _until_visible(admin: AIOKafkaAdminClient, names: Collection[str]) -> None:
    """A broker may learn of a topic after the controller has made it."""
    try:
        async with asyncio.timeout(VISIBLE_WITHIN):
            while True:
                if set(names) <= set(await _partition_counts(admin, names)):
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Unavailable(f"Kafka: topics were created but can not be seen yet: {', '.join(names)}") from None


async def _brokers(admin: AIOKafkaAdminClient) -> int:
    return len((await admin.describe_cluster())["brokers"])


# ------------------------------------------------------------------------------------------- checking


async def _problems(
    admin: AIOKafkaAdminClient,
    options: dict[str, Any],
    prefix: str,
    specs: Sequence[TopicSpec],
    partitions: int | None,
    longest_row: timedelta | None = None,
) -> list[str]:
    servers = str(options["bootstrap_servers"])
    names = {spec.role: topic_name(prefix, spec.role) for spec in specs}
    together = [names[spec.role] for spec in specs if spec.co_partitioned]
    counts = await _partition_counts(admin, names.values())
    wanted = partitions or max((counts[name] for name in together if name in counts), default=None)
    problems = [
        f"{name} does not exist; create it: hindsight topics create --partitions {wanted or 'N'}"
        for name in names.values()
        if name not in counts
    ]
    problems += _partition_problems(together, counts, wanted, servers)
    configurations = await _configurations(admin, list(counts))
    for spec in specs:
        name = topic_name(prefix, spec.role)
        least = dict(spec.at_least)
        if spec.role == Topic.STATUS and longest_row is not None:
            least["retention.ms"] = max(least["retention.ms"], (longest_row + _AFTER_THE_LAST) // _MILLISECOND)
        problems += _configuration_problems(spec, least, name, configurations.get(name), servers)
    return problems


def _partition_problems(
    together: Sequence[str], counts: Mapping[str, int], wanted: int | None, servers: str
) -> Iterator[str]:
    for name in together:
        if wanted is None or (found := counts.get(name, wanted)) == wanted:
            continue
        mend = (
            f"kafka-topics.sh --bootstrap-server {servers} --alter --topic {name} --partitions {wanted}"
            if found < wanted
            else f"hindsight topics create --partitions {found}, or delete the topic and create it anew"
        )
        yield f"{name} has {_counted(found)} where {wanted} are needed; before its first record: {mend}"


def _configuration_problems(
    spec: TopicSpec, at_least: Mapping[str, int], name: str, found: Mapping[str, str] | str | None, servers: str
) -> Iterator[str]:
    if found is None:
        return
    if isinstance(found, str):
        yield f"{name} can not be checked: {found}; allow this user to DescribeConfigs on it"
        return
    alter = f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {name}"
    policy = found.get("cleanup.policy", spec.policy)
    if set(policy.split(",")) != set(spec.policy.split(",")):
        yield (
            f"{name} has cleanup.policy={policy}, it must be {spec.policy}: "
            f"{alter} --add-config 'cleanup.policy=[{spec.policy}]'"
        )
    for key, least in at_least.items():
        value = int(found.get(key, least))
        if value < least and not (key == "retention.ms" and value == _FOREVER):
            yield f"{name} has {key}={value}, it must be at least {least}: {alter} --add-config {key}={least}"


async def _partition_counts(admin: AIOKafkaAdminClient, names: Collection[str]) -> dict[str, int]:
    """Of the topics that exist. Asks only for those, since asking for a missing one may create it."""
    existing = sorted(set(await admin.list_topics()) & set(names))
    if not existing:
        return {}
    described = await admin.describe_topics(existing)
    return {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}


async def _configurations(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str] | str]:
    """Configuration of each topic, or why it is not told; nothing from a broker that never tells."""
    if not names:
        return {}
    try:
        responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    except (NotImplementedError, IncompatibleBrokerVersion, UnsupportedVersionError):
        return {}
    resources = [resource for response in responses for resource in response.resources]
    return {
        name: _reason(code, message) if code else {entry[0]: entry[1] for entry in entries}
        for code, message, _, name, entries in resources
        if code != _UNKNOWN_REQUEST
    }


def _reason(code: int, message: str | None = None) -> str:
    return message or str(for_code(code).description)


def _counted(partitions: int) -> str:
    return "1 partition" if partitions == 1 else f"{partitions} partitions"
