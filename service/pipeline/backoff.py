"""Waiting between tries: longer each time, up to a cap."""

import asyncio

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0


class Backoff:
    """Waits 0.1 s, then twice as long each time, at most 5 s."""

    def __init__(self) -> None:
        self._next = FIRST_WAIT_S

    async def wait(self) -> None:
        delay, self._next = self._next, min(self._next * 2, LONGEST_WAIT_S)
        await asyncio.sleep(delay)

    def reset(self) -> None:
        self._next = FIRST_WAIT_S
