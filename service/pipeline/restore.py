"""Bring the store of a task to the ledger's version: from its disk, and from what the status topic holds beyond it.

With millions of rows this takes minutes. It runs in a thread, tells how far it is, and can be ended: what it has read
by then stays on the disk, and the next restore goes on from there.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from service.domain.row import decode_row
from service.domain.timers import packed_timers, waiting_rows
from service.ports import Checkpoint, Clock, StateStore, StatusLog, StorePosition

_log = structlog.get_logger(__name__)
TRUST_DISK_FOR = timedelta(days=3, hours=12)
"""Half of the status topic's `delete.retention.ms`: an older disk may have missed tombstones that are gone by now."""
_SAY_EVERY_S = 5.0
_UNFINISHED = -1
"""Version of a store whose restore has not come to its end."""


class RestoreEnded(Exception):
    """The restore was told to end before it was complete."""


class Restoring:
    """How far the restore of a task is. One thread restores, another asks, or ends it."""

    def __init__(self, task: int, monotonic: Callable[[], float], left: Callable[[int], None]) -> None:
        """`left` is told the number of offsets that remain, from the thread that restores."""
        self._task = task
        self._monotonic = monotonic
        self._left = left
        self._ending = threading.Event()
        self.begin()

    def begin(self) -> None:
        """Nothing has been read."""
        self._began_at = self._said_at = self._monotonic()
        self._read = self._all = 0

    def end(self) -> None:
        """For good, as soon as a chunk is written."""
        self._ending.set()

    def advance(self, read: int, of: int) -> None:
        """So many offsets of all have been read and written. Raises `RestoreEnded` when told to end."""
        self._read, self._all = read, of
        self._left(of - read)
        if self._ending.is_set():
            raise RestoreEnded(f"task {self._task}: the restore ended after {read:,} of {of:,} offsets")
        now = self._monotonic()
        if now - self._said_at >= _SAY_EVERY_S:
            self._said_at = now
            _log.info("store is being restored", task=self._task, read=read, of=of, per_second=round(self._rate()))

    def _rate(self) -> float:
        """Offsets a second, so far."""
        return self._read / max(self._monotonic() - self._began_at, 1e-3)

    def text(self) -> str:
        """For people; empty where nothing is being read."""
        if self._read >= self._all:
            return ""
        rate = self._rate()
        left = f", {(self._all - self._read) / rate:,.0f} s left" if rate else ""
        return f"the store is being restored: {self._read:,} of {self._all:,} offsets, {rate:,.0f} a second{left}"


async def restore_store(
    log: StatusLog, clock: Clock, store: StateStore, checkpoint: Checkpoint, at_least: int, restoring: Restoring
) -> int:
    """Returns the status offset that the store has seen; at least that which the caller's publish has returned.

    Cancelled or told to end, it returns once the thread has written its chunk: the store can be closed then.
    """
    restoring.begin()
    loop = asyncio.get_running_loop()
    running = loop.run_in_executor(None, _restore, log, clock, store, checkpoint, at_least, restoring)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        restoring.end()
        await asyncio.wait([running])
        raise


def _restore(
    log: StatusLog, clock: Clock, store: StateStore, checkpoint: Checkpoint, at_least: int, restoring: Restoring
) -> int:
    position = store.position
    if position is not None and not _trusted(log, clock, position, checkpoint):
        store.wipe()
        position = None
    if position is not None and position.version == checkpoint.version:
        _log.info("store is as the ledger has it", task=checkpoint.task, version=checkpoint.version)
        return position.status_offset
    start = position.status_offset if position else 0
    now = clock.now().timestamp()
    saved_at = position.saved_at if position else now  # in part it is as old as what it went on from
    begin: int | None = None

    def apply(rows: Sequence[tuple[bytes, bytes | None]], offset: int, end: int) -> None:
        nonlocal begin
        begin = max(start, offset - len(rows)) if begin is None else begin
        states = {key: state or None for key, state in rows}
        stamp = b"o" + offset.to_bytes(8, "big")
        timers = packed_timers(waiting_rows((key, decode_row(state)) for key, state in states.items() if state), stamp)
        store.apply(states, timers, StorePosition(checkpoint.incarnation, _UNFINISHED, offset, saved_at))
        restoring.advance(offset - begin, end - begin)

    end = log.replay(checkpoint.task, start, at_least, apply)
    _log.info("store restored", task=checkpoint.task, kept=position is not None, start=start, end=end)
    store.apply({}, (), StorePosition(checkpoint.incarnation, checkpoint.version, end, now))
    return end


def _trusted(log: StatusLog, clock: Clock, position: StorePosition, checkpoint: Checkpoint) -> bool:
    """Whether what this disk holds can be brought up to date by what the status topic still holds."""
    return (
        position.incarnation == checkpoint.incarnation
        and position.version <= checkpoint.version
        and position.status_offset >= log.begin(checkpoint.task)
        and clock.now().timestamp() - position.saved_at <= TRUST_DISK_FOR.total_seconds()
    )
