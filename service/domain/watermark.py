"""Stream time and watermark of one deployment on one task: values that never go back.

Rules
-----
1. Each input (predictions, actuals) has a clock: the greatest event time of its records. It also remembers at which
   wall instant it stood there.
2. An input that is silent moves on at the pace of the wall clock, from where it stood, never to the time of the other
   input. Silent: nothing came for `idle_timeout`, and nothing more waits in its partition. So a stopped service gains
   no time: what passed while it was away counts once, when its partition has been read to the end; where a backlog
   came meanwhile, the input goes on from the newest event of that.
3. An input that was never heard stands at the first event time of the other from the moment that one was heard.
4. Watermark = smaller clock minus the allowed lateness. Where records of the deployment came to foreign partitions, it
   is also held by the clocks of the tasks that may still have some to forward.

All instants are microseconds since 1970.
"""

from dataclasses import dataclass, replace

NEVER = -(1 << 62)
"""The watermark before anything was heard: earlier than any event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputClock:
    """The clock of one input."""

    at: int
    """Event time at which it stands."""
    stood_at: int
    """Wall instant at which it came there."""
    silent_since: int
    """Wall instant of the last record; of the other input's first one where none was heard."""

    def heard(self, event_at: int, wall: int) -> "InputClock":
        """After records, the greatest of this event time."""
        return InputClock(at=max(self.at, event_at), stood_at=max(self.stood_at, wall), silent_since=wall)

    def paced(self, wall: int, idle_timeout: int) -> "InputClock":
        """After a look at an empty partition: rule 2."""
        if wall - self.silent_since < idle_timeout or wall <= self.stood_at:
            return self
        return replace(self, at=self.at + wall - self.stood_at, stood_at=wall)


@dataclass(frozen=True, slots=True)
class Heard:
    """Event times of some records of one input: the least and the greatest."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentClock:
    """Both inputs' clocks, None before anything was heard, and the watermark made of them."""

    predictions: InputClock | None = None
    actuals: InputClock | None = None
    watermark: int = NEVER

    @property
    def stream_time(self) -> int | None:
        """The smaller of the two clocks."""
        if self.predictions is None or self.actuals is None:
            return None
        return min(self.predictions.at, self.actuals.at)

    @property
    def newest(self) -> int:
        """The greater of the two clocks; the watermark where nothing was heard."""
        return max((clock.at for clock in (self.predictions, self.actuals) if clock), default=self.watermark)

    def heard(self, predictions: Heard | None, actuals: Heard | None, wall: int) -> "DeploymentClock":
        """The clocks after these records (None: none of that input); the watermark stays until `risen`."""
        firsts = [input.first for input in (predictions, actuals) if input is not None]
        if not firsts:
            return self
        return replace(
            self,
            predictions=_heard(self.predictions, predictions, min(firsts), wall),
            actuals=_heard(self.actuals, actuals, min(firsts), wall),
        )

    def paced(self, *, predictions: bool, actuals: bool, wall: int, idle_timeout: int) -> "DeploymentClock":
        """The clocks after a look at the partitions; the flags tell of which input nothing more waits."""
        if self.predictions is None or self.actuals is None:
            return self
        return replace(
            self,
            predictions=self.predictions.paced(wall, idle_timeout) if predictions else self.predictions,
            actuals=self.actuals.paced(wall, idle_timeout) if actuals else self.actuals,
        )

    def risen(self, allowed_lateness: int, held_at: int | None = None) -> "DeploymentClock":
        """With the watermark where the clocks allow it to be; `held_at` is the least clock of the other tasks."""
        reached = self.stream_time
        if reached is None:
            return self
        if held_at is not None:
            reached = min(reached, held_at)
        return replace(self, watermark=max(self.watermark, reached - allowed_lateness))


def _heard(clock: InputClock | None, records: Heard | None, first: int, wall: int) -> InputClock:
    if clock is None:
        return InputClock(at=first if records is None else records.last, stood_at=wall, silent_since=wall)
    return clock if records is None else clock.heard(records.last, wall)
