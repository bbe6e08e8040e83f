"""A micro-batch whose outgoing bytes would not fit into the slot is split until they do; no result changes."""

from datetime import timedelta
from typing import Any
from unittest.mock import patch

from service.pipeline.join import Joiner
from tests.builders import ACTUAL_AT, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.invariants import check
from tests.flow.world import FlowWorld

FILLER = "-".join(str(number * 7919) for number in range(300))


def busy(world: FlowWorld) -> FlowWorld:
    """The same records, in one poll per task."""
    batch = world.catalog.open_batch("flights", "January")
    world.catalog.lock("flights", batch.id)
    for number in range(60):
        how: dict[str, Any] = {"batchName": f"batch-{number % 3}"} if number % 4 else {}
        world.predict(prediction(f"row-{number}", features={"origin": f"{number}{FILLER}"}, **how))
        if number % 5 == 0:
            world.predict(prediction(f"row-{number}"), headers=[("hindsight-submission-id", b"s1")])
        if number % 6 == 0:
            world.predict(b"?%d" % number, partition=number % 4)
        if number % 9 == 0:
            world.predict(prediction(f"stray-{number}"), partition=(world.home(f"stray-{number}") + 1) % 4)
        if number % 2:
            world.tell(actual(f"row-{number}"))
            world.tell(actual(f"row-{number}", "on_time", at=ACTUAL_AT + timedelta(hours=number - 30)))
    world.start("one", range(4))
    world.settle()
    check(world)
    return world


def test_a_small_slot_limit_changes_no_result(opened: Opened) -> None:
    wide, narrow = (
        busy(opened(deployment(batch_enabled=True), started=False, slot_bytes=limit)) for limit in (1 << 20, 700)
    )
    assert narrow.ledger.commits > 2 * wide.ledger.commits
    assert narrow.states() == wide.states()
    assert narrow.numbers().accuracy == wide.numbers().accuracy
    assert narrow.outcomes() == wide.outcomes()
    assert narrow.submissions() == wide.submissions()
    assert sorted(narrow.batch_events()) == sorted(wide.batch_events())
    assert sorted(map(str, narrow.dead_letters())) == sorted(map(str, wide.dead_letters()))
    assert narrow.timed() == wide.timed()


def test_no_slot_is_larger_than_the_limit_unless_one_record_alone_is(opened: Opened) -> None:
    world = busy(opened(deployment(batch_enabled=True), started=False, slot_bytes=700))
    for task in range(4):
        assert len(world.checkpoint(task).slot) <= 1400


def test_what_did_not_fit_once_is_polled_in_smaller_portions_from_then_on(opened: Opened) -> None:
    world = opened(deployment(), partitions=1, slot_bytes=8_000)
    computed, join = [0], Joiner.join

    def counted(self: Joiner, *what: Any) -> Any:
        computed[0] += 1
        return join(self, *what)

    with patch.object(Joiner, "join", counted):
        for rows in (range(2_000), range(2_000, 8_000)):
            before = computed[0] - world.ledger.commits
            for number in rows:
                world.predict(prediction(f"row-{number * 7919}"))
            world.settle()
            split = computed[0] - world.ledger.commits - before
            assert split > 5 if rows[0] == 0 else split <= 5
