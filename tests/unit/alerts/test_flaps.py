"""When a change is told, with the window drawn above each case, and as laws."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from service.alerts.flaps import KINDS, FlapSpec, FlapState, Verdict, after_change, after_time, thing_key
from service.wire.notification import Notification, Source

SPEC = FlapSpec(window=10.0, longest_hold=60.0)


def change(event: str, number: int = 0) -> Notification:
    return Notification(
        id=str(number),
        deployment_id="d",
        batch_id="b",
        batch_name=None,
        event=event,
        at="2026-05-01T10:00:00.000000Z",
        changes=1,
        details={},
    )


class Thing:
    """One thing, driven as `teller` drives it: time comes before a change."""

    def __init__(self, spec: FlapSpec = SPEC) -> None:
        self.spec = spec
        self.state: FlapState | None = None
        self.told: list[tuple[float, Notification]] = []
        self.settled = 0

    def until(self, now: float) -> None:
        if self.state is not None:
            self._take(after_time(self.spec, self.state, now), now)

    def change(self, event: str, now: float, number: int = 0) -> None:
        self.until(now)
        self._take(after_change(self.state, change(event, number), Source("t", 0, number, 0), now), now)

    def _take(self, verdict: Verdict, now: float) -> None:
        self.state = verdict.state
        self.settled += verdict.settled
        if verdict.tell is not None:
            self.told.append((now, verdict.tell))

    @property
    def words(self) -> list[tuple[float, str, int]]:
        return [(now, told.event, told.changes) for now, told in self.told]


def test_the_first_change_is_told_at_once() -> None:
    thing = Thing()
    thing.change("LOCKED", 0)
    assert thing.words == [(0, "LOCKED", 1)]


def test_further_ones_are_told_together_once_it_is_quiet() -> None:
    # 0  L  5 U  9 L  14 U             24 quiet: U(3)
    thing = Thing()
    for number, (now, event) in enumerate([(0, "LOCKED"), (5, "UNLOCKED"), (9, "LOCKED"), (14, "UNLOCKED")]):
        thing.change(event, now, number)
    thing.until(23.9)
    assert thing.words == [(0, "LOCKED", 1)]
    thing.until(24)
    assert thing.words == [(0, "LOCKED", 1), (24, "UNLOCKED", 3)]
    assert thing.told[1][1].id == "3"
    assert thing.state is None


def test_back_to_what_was_told_is_not_told() -> None:
    # 0  L  1 U  2 L             12 quiet: nothing
    thing = Thing()
    for now, event in [(0, "LOCKED"), (1, "UNLOCKED"), (2, "LOCKED")]:
        thing.change(event, now)
    thing.until(12)
    assert thing.words == [(0, "LOCKED", 1)]
    assert (thing.state, thing.settled) == (None, 2)
    thing.change("UNLOCKED", 12.5)
    assert thing.words[1:] == [(12.5, "UNLOCKED", 1)]


def test_one_that_never_rests_is_told_again() -> None:
    # a change every 4 s: the first held one at 4 is told after 60 s, and the next summary counts from there
    thing = Thing()
    for number in range(41):
        thing.change("UNLOCKED" if number % 2 else "LOCKED", number * 4.0, number)
    assert thing.words == [(0, "LOCKED", 1), (64, "UNLOCKED", 15), (124, "LOCKED", 15)]


def test_a_clock_that_was_set_back_holds_nothing_for_long() -> None:
    thing = Thing()
    thing.change("LOCKED", 1000)
    thing.change("UNLOCKED", 1001)
    thing.until(500)
    assert thing.words == [(1000, "LOCKED", 1), (500, "UNLOCKED", 1)]


def test_kinds_of_state_are_things_of_their_own() -> None:
    keys = {event: thing_key(change(event)) for event in KINDS}
    assert keys["LOCKED"] == keys["UNLOCKED"] != keys["CREATED"] == keys["DELETED"]
    assert thing_key(change("HEALTH_FAILING")) is None


# ----------------------------------------------------------------------------------------------- laws

_steps = st.lists(st.tuples(st.sampled_from(["LOCKED", "UNLOCKED"]), st.integers(0, 25)), min_size=1, max_size=40)
_looks = st.lists(st.integers(0, 1000), max_size=20)


def played(steps: Sequence[tuple[str, int]], looks: Sequence[int], spec: FlapSpec) -> tuple[Thing, float]:
    """The changes, and looks of the timer at any times between them."""
    thing, now = Thing(spec), 0.0
    moments: list[tuple[float, int, str]] = []
    for number, (event, pause) in enumerate(steps):
        now += pause
        moments.append((now, number, event))
    for at, number, event in sorted([*moments, *((at, -1, "") for at in looks if at <= now)]):
        if event:
            thing.change(event, at, number)
        else:
            thing.until(at)
    return thing, now


@given(_steps, _looks, st.sampled_from([SPEC, FlapSpec(window=10.0, longest_hold=12.0)]))
def test_a_quiet_thing_was_told_as_it_is_and_every_change_is_counted_once(
    steps: list[tuple[str, int]], looks: list[int], spec: FlapSpec
) -> None:
    thing, now = played(steps, looks, spec)
    held = thing.state.held if thing.state else 0
    assert sum(told.changes for _, told in thing.told) + thing.settled + held == len(steps)

    thing.until(now + spec.window)

    assert thing.state is None
    assert thing.told[-1][1].event == steps[-1][0]
    assert sum(told.changes for _, told in thing.told) + thing.settled == len(steps)


@given(_steps, _looks)
def test_each_told_counts_the_changes_since_the_one_before_unless_they_led_back(
    steps: list[tuple[str, int]], looks: list[int]
) -> None:
    thing, now = played(steps, looks, SPEC)
    thing.until(now + SPEC.window)
    numbers = [int(told.id) for _, told in thing.told]
    assert numbers == sorted(set(numbers))
    since = [after - before for before, after in zip([-1, *numbers], numbers, strict=False)]
    counted = [told.changes for _, told in thing.told]
    assert all(changes <= gap for changes, gap in zip(counted, since, strict=True))
    if thing.settled == 0:
        assert counted == since


@given(_steps)
def test_nobody_is_disturbed_more_often_than_the_window_says(steps: list[tuple[str, int]]) -> None:
    """Without the longest hold: two told of one thing are a window apart, save a summary before the next first."""
    thing, _ = played(steps, [], FlapSpec(window=10.0, longest_hold=1e9))
    times = [now for now, _ in thing.told]
    assert all(third - first >= 10.0 for first, third in zip(times, times[2:], strict=False))
