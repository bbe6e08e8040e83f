"""A replay: recorded events in order of event time, sent as fast as possible or at a chosen multiple of real time.

The events are columns. An index into them is a place in the stream: `play` starts at one and tells the next one after
every acknowledged batch, so whoever remembers the last one told can go on where the first run stopped. A batch that was
cut in the middle is sent again, which the service counts once.

Nothing here knows Kafka, and the clock and the sleep are handed in.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

PREDICTION: Final = 0
ACTUAL: Final = 1

TICK_S: Final = 0.1

Send = Callable[[int, list[bytes], list[bytes]], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]
Monotonic = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Parallel columns, one entry an event; `flights` is the rank of the event's flight by departure."""

    topics: npt.NDArray[np.int8]
    event_at_us: npt.NDArray[np.int64]
    flights: npt.NDArray[np.uint32]
    keys: list[bytes]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.keys)

    def head(self, rows: int) -> "Replay":
        """The first flights by departure: their predictions and the actuals of those, still in order."""
        kept = np.flatnonzero(self.flights < rows)
        return Replay(
            topics=self.topics[kept],
            event_at_us=self.event_at_us[kept],
            flights=self.flights[kept],
            keys=[self.keys[i] for i in kept],
            values=[self.values[i] for i in kept],
        )

    def count(self, topic: int, end: int | None = None) -> int:
        """How many events of this topic stand before that index."""
        return int(np.count_nonzero(self.topics[:end] == topic))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Events that are due, from `begin` to before `end`; none are while `wait_s` has not passed."""

    begin: int
    end: int
    wait_s: float = 0.0


def paced(replay: Replay, *, speed: float | None, now: Monotonic, start: int = 0, batch: int = 5000) -> Iterator[Span]:
    """When to send what: `speed` is seconds of event time per second of `now`, and None does not wait at all.

    The event at `start` is due at once. A pause lasts at least one tick, so that a slow replay sends small batches
    rather than single events.
    """
    if start >= len(replay):
        return
    began_s, first_us = now(), int(replay.event_at_us[start])
    while start < len(replay):
        reached_us = None if speed is None else first_us + (now() - began_s) * speed * 1e6
        end = min(start + batch, _due_before(replay, reached_us))
        if end > start:
            yield Span(begin=start, end=end)
            start = end
        elif speed is not None and reached_us is not None:
            ahead_s = (int(replay.event_at_us[start]) - reached_us) / 1e6 / speed
            yield Span(begin=start, end=start, wait_s=max(TICK_S, ahead_s))


def _due_before(replay: Replay, reached_us: float | None) -> int:
    if reached_us is None:
        return len(replay)
    return int(np.searchsorted(replay.event_at_us, int(reached_us), side="right"))


async def play(
    replay: Replay,
    send: Send,
    *,
    sleep: Sleep,
    now: Monotonic,
    speed: float | None = None,
    start: int = 0,
    batch: int = 5000,
    reached: Callable[[int], None] = lambda _: None,
) -> None:
    """Send the events from `start` on; `reached` hears the index to resume at after every batch that `send` took.

    `send` is called once per topic and batch, predictions first, never twice at a time.
    """
    for span in paced(replay, speed=speed, now=now, start=start, batch=batch):
        if span.wait_s > 0:
            await sleep(span.wait_s)
            continue
        for topic in (PREDICTION, ACTUAL):
            chosen = (np.flatnonzero(replay.topics[span.begin : span.end] == topic) + span.begin).tolist()
            if chosen:
                await send(topic, [replay.keys[i] for i in chosen], [replay.values[i] for i in chosen])
        reached(span.end)
