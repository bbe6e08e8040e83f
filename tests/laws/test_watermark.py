"""The watermark never goes back, whatever is heard in whatever order and however time passes."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.watermark import NEVER, DeploymentClock, Heard

INSTANTS = st.integers(0, 1 << 50)
HEARD = st.none() | st.builds(lambda one, other: Heard(min(one, other), max(one, other)), INSTANTS, INSTANTS)
SPANS = st.integers(0, 1 << 40)
HELD = st.none() | INSTANTS
STEPS = st.lists(st.tuples(HEARD, HEARD, SPANS, st.booleans(), st.booleans(), SPANS, HELD), max_size=20)


@given(STEPS, SPANS)
def test_the_watermark_never_goes_back(
    steps: list[tuple[Heard | None, Heard | None, int, bool, bool, int, int | None]], idle_timeout: int
) -> None:
    clock, wall = DeploymentClock(), 0
    for predictions, actuals, passed, no_predictions, no_actuals, lateness, held_at in steps:
        wall += passed
        paced = clock.paced(predictions=no_predictions, actuals=no_actuals, wall=wall, idle_timeout=idle_timeout)
        after = paced.heard(predictions, actuals, wall).risen(lateness, held_at)
        assert after.watermark >= clock.watermark
        assert (after.stream_time or 0) >= (clock.stream_time or 0)
        clock = after


@given(STEPS, SPANS, SPANS)
def test_the_watermark_is_never_beyond_what_was_heard_and_what_time_has_passed(
    steps: list[tuple[Heard | None, Heard | None, int, bool, bool, int, int | None]], idle_timeout: int, lateness: int
) -> None:
    clock, wall, greatest = DeploymentClock(), 0, 0
    for predictions, actuals, passed, no_predictions, no_actuals, _, _ in steps:
        wall += passed
        clock = clock.paced(predictions=no_predictions, actuals=no_actuals, wall=wall, idle_timeout=idle_timeout)
        clock = clock.heard(predictions, actuals, wall).risen(lateness)
        greatest = max([greatest, *(heard.last for heard in (predictions, actuals) if heard)])
        assert clock.watermark <= greatest + wall - lateness


@given(st.lists(st.tuples(HEARD, HEARD), max_size=20), SPANS, st.data())
def test_once_both_are_heard_the_order_of_records_does_not_matter(
    heard: list[tuple[Heard | None, Heard | None]], lateness: int, data: st.DataObject
) -> None:
    def end_of(order: list[tuple[Heard | None, Heard | None]]) -> DeploymentClock:
        clock = DeploymentClock().heard(Heard(0, 0), Heard(0, 0), 0)
        for predictions, actuals in order:
            clock = clock.heard(predictions, actuals, 0)
        return clock.risen(lateness)

    assert end_of(heard) == end_of(data.draw(st.permutations(heard)))


@given(HEARD.filter(bool), SPANS, SPANS)
def test_a_busy_input_does_not_move_on_by_itself(heard: Heard, passed: int, idle_timeout: int) -> None:
    clock = DeploymentClock().heard(heard, heard, 0)
    assert clock.paced(predictions=False, actuals=False, wall=passed, idle_timeout=idle_timeout) == clock


@given(SPANS)
def test_nothing_heard_moves_nothing(passed: int) -> None:
    clock = DeploymentClock().paced(predictions=True, actuals=True, wall=passed, idle_timeout=0).risen(0)
    assert clock.watermark == NEVER
