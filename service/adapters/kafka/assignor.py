"""Who gets which task: co-partitioned and sticky by construction.

A task is partition *i* of every input topic, so it is assigned as one. Each member says in its user data which tasks
it runs and which its disk still holds. Everybody gets an equal share; a task stays where it runs, else goes to a
disk that knows it, else to whoever has least.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import orjson
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


class Member(NamedTuple):
    """What a member of the group says of itself."""

    instance: str
    running: frozenset[int] = frozenset()
    on_disk: frozenset[int] = frozenset()


def share_out(tasks: int, members: Mapping[str, Member]) -> dict[str, list[int]]:
    """Tasks 0..tasks-1 of each member ID: shares differ by one at most, and as few tasks move as that allows."""
    order = sorted(members, key=lambda name: (-len(members[name].running), members[name].instance, name))
    least, extra = divmod(tasks, len(order))
    room = {name: least + (position < extra) for position, name in enumerate(order)}
    shares: dict[str, list[int]] = {name: [] for name in order}
    free = set(range(tasks))

    def give(claims: Callable[[Member], Iterable[int]]) -> None:
        for name in order:
            for task in sorted(free.intersection(claims(members[name])))[: room[name]]:
                shares[name].append(task)
                free.discard(task)
                room[name] -= 1

    give(lambda member: member.running)
    give(lambda member: member.on_disk)
    give(lambda member: tuple(free))
    return {name: sorted(share) for name, share in shares.items()}


def assignor_of(
    instance: str, running: Callable[[], frozenset[int]], on_disk: Callable[[], frozenset[int]]
) -> type[AbstractPartitionAssignor]:
    """An assignor class for one process. The library takes classes, so what the process knows is closed over."""

    class TaskAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
        name = "hindsight-tasks"
        version = 0

        @classmethod
        def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
            said = {"instance": instance, "running": sorted(running()), "onDisk": sorted(on_disk())}
            return ConsumerProtocolMemberMetadata(cls.version, sorted(topics), orjson.dumps(said))

        @classmethod
        def assign(
            cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
        ) -> dict[str, ConsumerProtocolMemberAssignment]:
            topics = sorted({topic for member in members.values() for topic in member.subscription})
            tasks = min(len(cluster.partitions_for_topic(topic) or ()) for topic in topics)
            shares = share_out(tasks, {name: _member(name, said.user_data) for name, said in members.items()})
            return {
                name: ConsumerProtocolMemberAssignment(cls.version, [(topic, share) for topic in topics], b"")
                for name, share in shares.items()
            }

        @classmethod
        def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
            """Nothing to learn from it: the consumer's listener is told as well."""

    return TaskAssignor


def _member(name: str, user_data: bytes | None) -> Member:
    try:
        said = orjson.loads(user_data or b"{}")
        return Member(str(said["instance"]), frozenset(said["running"]), frozenset(said["onDisk"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return Member(name)
