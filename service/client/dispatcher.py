"""Takes rows from the buffer to the transport, in one event loop.

A lane is with one worker at a time, so the rows of a group go in order; a lane that has to pause holds up no other.
Whatever the transport does, each row of a parcel is counted once or sent again.
"""

import asyncio
import random
from typing import Final

from service.client.buffer import Buffer, Lane
from service.client.complaints import Complaints
from service.client.rows import Outcome, Parcel, Transport

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


def pause_s(tries: int, share: float) -> float:
    """Longer each time up to a cap, and scattered by `share` (0 to 1) so that clients do not come back together."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries, 20)) * (0.5 + 0.5 * share)


class Dispatcher:
    """`run` does the work until `ask_to_close`; all but the constructor belongs to its loop."""

    def __init__(self, buffer: Buffer, transport: Transport, complaints: Complaints, *, linger: float) -> None:
        self._buffer = buffer
        self._transport = transport
        self._complaints = complaints
        self._linger = linger
        self._random = random.Random()
        self._ready: asyncio.Queue[Lane] = asyncio.Queue()
        self._watchers: list[asyncio.Future[None]] = []
        self._hurries = 0
        self._close_asked = asyncio.Event()
        self._patience = 0.0

    async def run(self) -> None:
        """Ends after `ask_to_close`; what is not out by then is counted as failed."""
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._work()) for _ in range(self._transport.at_once)]
                await self._close_asked.wait()
                await self.flush(self._patience)
                for worker in workers:
                    worker.cancel()
        finally:
            self._buffer.close()
            if left := self._buffer.abandon():
                self._complaints.tell("closed", f"{left:,} rows were not known to be out and are given up", rows=left)
            self._wake_watchers()
            await self._transport.close()

    def ask_to_close(self, patience: float) -> None:
        """Take no more rows, and send those that are there for up to `patience` seconds."""
        self._buffer.close()
        self._patience = patience
        self._close_asked.set()

    def notice(self, lane: Lane, full: bool) -> None:
        """The buffer's signal."""
        if full or self._hurries or self._linger == 0:
            self._put_in_hand(lane)
        else:
            asyncio.get_running_loop().call_later(self._linger, self._put_in_hand, lane)

    def _put_in_hand(self, lane: Lane) -> None:
        if self._buffer.claim(lane):
            self._ready.put_nowait(lane)

    async def flush(self, patience: float) -> bool:
        """Whether all that was taken before is out; False: some still waits, or failed meanwhile."""
        marks = [(lane, lane.put) for lane in self._buffer.lanes()]
        failed = self._buffer.counts.failed
        self._hurries += 1
        try:
            for lane, _ in marks:
                self._put_in_hand(lane)
            async with asyncio.timeout(patience):
                while any(lane.settled < mark for lane, mark in marks) and self._buffer.counts.buffered:
                    await self.change()
        except TimeoutError:
            return False
        finally:
            self._hurries -= 1
        return self._buffer.counts.failed == failed

    async def change(self) -> None:
        """Until something was settled."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        try:
            await watcher
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def _wake_watchers(self) -> None:
        woken, self._watchers = self._watchers, []
        for watcher in woken:
            if not watcher.done():
                watcher.set_result(None)

    async def _work(self) -> None:
        while True:
            lane = await self._ready.get()
            parcel = lane.again.popleft() if lane.again else self._buffer.take(lane)
            outcome = await self._sent(parcel)
            self._settle(lane, parcel, outcome)

    async def _sent(self, parcel: Parcel) -> Outcome:
        try:
            return await self._transport.send(parcel)
        except Exception as error:  # a defect of ours must not end the sending of all that comes after
            rows = len(parcel.rows)
            self._complaints.tell("unforeseen", f"{rows:,} rows are given up: {error!r:.200}", rows=rows)
            return Outcome(failed=rows)

    def _settle(self, lane: Lane, parcel: Parcel, outcome: Outcome) -> None:
        left = sum(one.bytes for one in outcome.again)
        self._buffer.settle(lane, outcome, parcel.bytes - left)
        self._wake_watchers()
        lane.again.extendleft(reversed(outcome.again))
        if not outcome.again:
            lane.tries = 0
            self._go_on(lane)
            return
        pause = pause_s(lane.tries, self._random.random()) if outcome.pause_s is None else outcome.pause_s
        lane.tries += outcome.pause_s is None
        asyncio.get_running_loop().call_later(pause, self._ready.put_nowait, lane)

    def _go_on(self, lane: Lane) -> None:
        if lane.again or self._buffer.release(lane):
            self._ready.put_nowait(lane)
