"""Rows that were taken and are not out yet, bounded in number and bytes, and the count of all that ever came.

Rows lie in lanes, one for each group that can go together. A lane lingers, so that more rows join, until it is
claimed; then it is in the dispatcher's hands until `release`. Rows under way count as held until they are settled,
so the bounds are those of the memory. Safe from any thread; the lock is never held while anything waits.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from service.client.rows import Outcome, Parcel, Row, size_of

GREATEST_BATCH_ROWS: Final = 10_000
GREATEST_BATCH_BYTES: Final = 16 << 20
LEAST_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much is held and sent at a time. Every bound is checked when this is made."""

    batch_rows: int = 10_000
    """Most rows of one request or parcel."""
    batch_bytes: int = 900_000
    """Most bytes of one request or parcel."""
    linger: float = 0.05
    """Seconds that a first row waits for others to go with."""
    buffer_rows: int = 100_000
    """Most rows held at a time, those under way included."""
    buffer_bytes: int = 64 << 20
    """Most bytes held at a time."""
    wait_when_full: float = 0.0
    """Seconds that a call may wait for room; 0 drops at once, which a request path wants."""

    def __post_init__(self) -> None:
        bounds = {
            "batch_rows": (1, GREATEST_BATCH_ROWS),
            "batch_bytes": (1, GREATEST_BATCH_BYTES),
            "linger": (0, 60),
            "buffer_rows": (1, 1 << 31),
            "buffer_bytes": (LEAST_BUFFER_BYTES, 1 << 40),
            "wait_when_full": (0, 86_400),
        }
        for name, (least, most) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: must be {least:,} to {most:,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A snapshot. `taken` is the sum of `sent`, `refused_by_service`, `failed` and `buffered`."""

    taken: int = 0
    """Rows for which a call returned True."""
    sent: int = 0
    """Acknowledged by Kafka, or accepted by the API."""
    refused_by_service: int = 0
    """Refused by the API for what they say."""
    failed: int = 0
    """Given up: not let in, unknown deployment, or not out when the client was closed."""
    buffered: int = 0
    """Taken and not decided yet, those under way included."""
    dropped_full: int = 0
    """Not taken: no room."""
    refused_bad: int = 0
    """Not taken: a value breaks a rule."""
    refused_closed: int = 0
    """Not taken: the client was closed, or not opened."""


class Put(Enum):
    TAKEN = auto()
    FULL = auto()
    CLOSED = auto()


@dataclass(slots=True, eq=False)
class Lane:
    """The rows of one group. `put` and `settled` count its rows for as long as it lives."""

    group: Hashable
    rows: deque[Row] = field(default_factory=deque)
    bytes: int = 0
    lingers: bool = True
    hurried: bool = False
    put: int = 0
    settled: int = 0
    again: deque[Parcel] = field(default_factory=deque)
    """Parcels to be sent again before other rows; the dispatcher's, as is the next."""
    tries: int = 0


Signal = Callable[[Lane, bool], None]


class Buffer:
    """Closed until `open`, and after `close`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._signal: Signal = lambda lane, full: None
        self._closed = True
        self._lanes: dict[Hashable, Lane] = {}
        self._bytes = 0
        self._taken = self._sent = self._refused = self._failed = self._held = 0
        self._dropped = self._bad = self._late = 0

    def open(self, signal: Signal) -> None:
        """From here on take rows. `signal` is told of a lane that begins to linger, and of one that is full."""
        self._signal = signal
        self._closed = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._room.notify_all()

    def forget(self) -> None:
        """Be empty and closed, with new locks: in a child after fork, the rows are the parent's."""
        self._reset()

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, row: Row, wait: float = 0.0) -> Put:
        """Take the row, or say why not. Only TAKEN is counted here: the others may be tried again."""
        size = size_of(row)
        with self._lock:
            if wait and not self._closed and not self._fits(size):
                self._room.wait_for(lambda: self._closed or self._fits(size), wait)
            if self._closed:
                return Put.CLOSED
            if not self._fits(size):
                return Put.FULL
            begins, full, lane = self._add(row, size)
        if begins or full:
            self._signal(lane, full)
        return Put.TAKEN

    def _fits(self, size: int) -> bool:
        return self._held < self._limits.buffer_rows and self._bytes + size <= self._limits.buffer_bytes

    def _add(self, row: Row, size: int) -> tuple[bool, bool, Lane]:
        lane = self._lanes.get(row.group)
        begins = lane is None
        if lane is None:
            lane = self._lanes[row.group] = Lane(row.group)
        lane.rows.append(row)
        lane.bytes += size
        lane.put += 1
        self._bytes += size
        self._taken += 1
        self._held += 1
        full = lane.lingers and not lane.hurried and self._is_full(lane)
        lane.hurried |= full
        return begins, full, lane

    def _is_full(self, lane: Lane) -> bool:
        return len(lane.rows) >= self._limits.batch_rows or lane.bytes >= self._limits.batch_bytes

    def count_dropped(self) -> None:
        with self._lock:
            self._dropped += 1

    def count_bad(self) -> None:
        with self._lock:
            self._bad += 1

    def count_closed(self) -> None:
        with self._lock:
            self._late += 1

    def lanes(self) -> list[Lane]:
        with self._lock:
            return list(self._lanes.values())

    def claim(self, lane: Lane) -> bool:
        """Take a lingering lane in hand; False where it is in hand already, or gone."""
        with self._lock:
            claimed = lane.lingers
            lane.lingers = False
            return claimed

    def take(self, lane: Lane) -> Parcel:
        """Rows of a lane in hand: as many as go at a time, at least one.

        Nobody else takes rows away, and a deque may grow meanwhile, so callers do not wait for this.
        """
        rows: list[Row] = []
        total = 0
        while lane.rows and len(rows) < self._limits.batch_rows:
            size = size_of(lane.rows[0])
            if rows and total + size > self._limits.batch_bytes:
                break
            rows.append(lane.rows.popleft())
            total += size
        with self._lock:
            lane.bytes -= total
        return Parcel(rows)

    def settle(self, lane: Lane, outcome: Outcome, size: int) -> None:
        """Count what is decided of a parcel; `size` is of the rows that are."""
        decided = outcome.sent + outcome.refused + outcome.failed
        with self._lock:
            self._sent += outcome.sent
            self._refused += outcome.refused
            self._failed += outcome.failed
            self._held -= decided
            self._bytes -= size
            lane.settled += decided
            self._room.notify_all()

    def release(self, lane: Lane) -> bool:
        """Let a lane in hand linger, or go where it is empty. True: it is full and stays in hand."""
        with self._lock:
            if not lane.rows:
                del self._lanes[lane.group]
                return False
            if self._is_full(lane):
                return True
            lane.lingers, lane.hurried = True, False
        self._signal(lane, False)
        return False

    def abandon(self) -> int:
        """Count whatever is still held as failed; how many that were. The last thing to happen."""
        with self._lock:
            left = self._held
            self._failed += left
            self._held = self._bytes = 0
            self._lanes.clear()
            return left

    @property
    def counts(self) -> Counts:
        with self._lock:
            return Counts(
                taken=self._taken,
                sent=self._sent,
                refused_by_service=self._refused,
                failed=self._failed,
                buffered=self._held,
                dropped_full=self._dropped,
                refused_bad=self._bad,
                refused_closed=self._late,
            )
