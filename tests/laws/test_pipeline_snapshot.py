"""Snapshot: a store that is lost at any point comes back with every row, and a timer for every row that needs one."""

from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.row import RowPhase
from tests.flow.input import ACTUALS, CHANGED, ODD, Sent, facts, send, world_of_rows
from tests.flow.invariants import check
from tests.flow.world import FlowWorld

WAITING = {RowPhase.OPEN, RowPhase.WITHDRAWN, RowPhase.PARKED, RowPhase.PARKED_WITHDRAWN}
RECORDS = st.lists(CHANGED | ACTUALS | CHANGED | ACTUALS | ODD, min_size=2, max_size=24)


def check_timers(world: FlowWorld) -> None:
    waiting = {name.encode() for name, row in world.rows().items() if row.phase in WAITING}
    assert waiting <= world.timed()


@settings(max_examples=50)
@given(RECORDS, st.data(), st.booleans())
def test_a_lost_store_changes_nothing(records: list[Sent], data: st.DataObject, compacted: bool) -> None:
    lost_after = data.draw(st.integers(1, len(records)))
    with closing(world_of_rows()) as kept, closing(world_of_rows()) as lost:
        for position, record in enumerate(records, 1):
            send(kept, record)
            send(lost, record)
            kept.settle()
            lost.settle()
            check_timers(kept)
            if position == lost_after:
                before = lost.states()
                lost.stop("one")
                lost.lose_disk("one")
                if compacted:
                    lost.compact()
                lost.start("one", (0, 1))
                lost.settle()
                assert lost.states() == before
                check_timers(lost)
        check(kept)
        check(lost)
        assert lost.states() == kept.states()
        assert facts(lost) == facts(kept)
        assert lost.outcomes() == kept.outcomes()
        check_timers(lost)
