"""The verdict on a flood depends on the records alone, not on where micro-batches begin and end."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from service.domain.flood import Flood

MARKS = st.lists(st.booleans(), max_size=60)


@given(MARKS, st.integers(0, 8), st.lists(st.integers(0, 60), max_size=6))
def test_micro_batches_may_be_cut_anywhere(marks: list[bool], limit: int, cuts: list[int]) -> None:
    whole = Flood().after({"actuals": marks}, limit)
    flood = Flood()
    bounds = [0, *sorted(min(cut, len(marks)) for cut in cuts), len(marks)]
    for start, end in zip(bounds, bounds[1:], strict=False):
        flood = flood.after({"actuals": marks[start:end], "predictions": []}, limit)
    assert flood.paused_by == whole.paused_by
    if not whole.paused_by:
        assert flood == whole


@given(MARKS, st.integers(0, 8))
def test_a_task_is_paused_by_a_run_longer_than_the_limit_and_by_nothing_else(marks: list[bool], limit: int) -> None:
    runs = [len(list(group)) for is_undecoded, group in groupby(marks) if is_undecoded]
    flood = Flood().after({"rekey": marks}, limit)
    assert bool(flood.paused_by) == (max(runs, default=0) > limit)
    if flood.paused_by:
        assert flood.records == max(runs)
        assert flood.after({"rekey": [False]}, limit) == flood
    else:
        assert flood.records == 0
        assert flood.runs == ({"rekey": runs[-1]} if marks and marks[-1] else {})


@given(MARKS, MARKS, st.integers(0, 8))
def test_topics_have_runs_of_their_own(one: list[bool], other: list[bool], limit: int) -> None:
    both = Flood().after({"predictions": one, "actuals": other}, limit)
    alone = [Flood().after({role: marks}, limit) for role, marks in (("predictions", one), ("actuals", other))]
    assert bool(both.paused_by) == any(flood.paused_by for flood in alone)
