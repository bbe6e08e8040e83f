"""What must hold whenever a world is at rest, whatever was sent and whatever failed."""

from collections import Counter

from service.ports import Topic
from tests.flow.published import DeadLetter, Status
from tests.flow.verified import check_verified
from tests.flow.world import PREFIX, FlowWorld

_STATUSLESS = {"malformed", "unknown_deployment", "misplaced_rekey"}
"""Reasons of dead letters whose record gets no status."""


def check(world: FlowWorld) -> None:
    """What must hold whenever the world is at rest."""
    world.settle()
    statuses, letters = world.statuses(), world.dead_letters()
    for task in range(world.broker.partitions):
        numbers = [status.fields["seq"] for status in world.statuses_of(task) if status.fields]
        assert numbers == list(range(world.checkpoint(task).seq)), f"task {task}: seq has gaps or repeats"
    assert world.conservation_error() == 0
    last = {status.key: status.state for status in statuses}
    assert {key: state for key, state in last.items() if state} == world.states()
    _check_every_record_is_answered(world, statuses, letters)
    check_verified(world)
    if not world.catalog.deletions:
        assert sum(world.outcomes().values()) == len(statuses), "outcome counts are not the statuses"


def _check_every_record_is_answered(world: FlowWorld, statuses: list[Status], letters: list[DeadLetter]) -> None:
    answered = Counter(status.source for status in statuses if status.source)
    refused = {status.source for status in statuses}
    answered.update(letter.source for letter in letters if letter.reason in _STATUSLESS or letter.source not in refused)
    for topic in (Topic.PREDICTIONS, Topic.ACTUALS):
        for task in range(world.broker.partitions):
            for record in world.broker.log(topic, task).read(0, 1 << 30):
                place = (f"{PREFIX}.{topic}.v1", task, record.offset)
                times = answered.pop(place, 0)
                assert times == 1, f"{place}: answered {times} times"
    assert all(topic == f"{PREFIX}.rekey.v1" for topic, _, _ in answered), answered
    assert max(Counter(letter.source for letter in letters).values(), default=1) == 1, "a dead letter twice"
