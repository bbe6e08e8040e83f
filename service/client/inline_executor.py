"""An executor that runs what it is given at once, in the thread that gives it.

The client's own loop looks up addresses through its executor. One with threads refuses work while the interpreter
ends, which is when the last rows are sent; waiting in a thread that only sends harms nobody.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class InlineExecutor(ThreadPoolExecutor):
    """It has no threads; a loop takes no other kind."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done
