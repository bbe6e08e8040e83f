"""An event loop whose time is made of nothing but waiting: when every task waits for a timer, time jumps to it.

So pauses, time-outs and back-offs of the code under test cost no real time, and the same test always runs the same
way. Threads are not started either: what is handed to one runs at once, in place.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Asked to wait for a timer, it moves the time there instead."""

    def __init__(self, on_jump: Callable[[float], None]) -> None:
        super().__init__()
        self.now = 0.0
        self._on_jump = on_jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits, and none for a timer: nothing will ever happen again")
        if timeout > 0:
            self.now += timeout
            self._on_jump(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`on_jump` is told how many seconds each jump takes."""

    def __init__(self, on_jump: Callable[[float], None]) -> None:
        self._jumping = _JumpingSelector(on_jump)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future
