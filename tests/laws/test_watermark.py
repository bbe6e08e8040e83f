"""The watermark never goes back, whatever is heard in whatever order."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.watermark import NEVER, DeploymentClock

INSTANTS = st.none() | st.integers(0, 1 << 50)
LATENESS = st.integers(0, 1 << 40)


@given(st.lists(st.tuples(INSTANTS, INSTANTS, LATENESS), max_size=20))
def test_the_watermark_never_goes_back(heard: list[tuple[int | None, int | None, int]]) -> None:
    clock = DeploymentClock()
    for predictions, actuals, lateness in heard:
        after = clock.advanced(predictions=predictions, actuals=actuals, allowed_lateness_us=lateness)
        assert after.watermark >= clock.watermark
        assert (after.predictions or 0) >= (clock.predictions or 0)
        assert (after.actuals or 0) >= (clock.actuals or 0)
        clock = after


@given(st.lists(st.tuples(INSTANTS, INSTANTS), max_size=20), LATENESS, st.data())
def test_the_order_of_records_does_not_matter(
    heard: list[tuple[int | None, int | None]], lateness: int, data: st.DataObject
) -> None:
    def end_of(order: list[tuple[int | None, int | None]]) -> DeploymentClock:
        clock = DeploymentClock()
        for predictions, actuals in order:
            clock = clock.advanced(predictions=predictions, actuals=actuals, allowed_lateness_us=lateness)
        return clock

    assert end_of(heard) == end_of(data.draw(st.permutations(heard)))


@given(st.lists(INSTANTS, max_size=10), LATENESS)
def test_one_input_alone_moves_nothing(heard: list[int | None], lateness: int) -> None:
    clock = DeploymentClock()
    for instant in heard:
        clock = clock.advanced(predictions=instant, actuals=None, allowed_lateness_us=lateness)
    assert clock.watermark == NEVER
