"""The client for code without an event loop, and for many threads.

One daemon thread with its own loop sends; callers only put rows into the buffer. What is still there when the
interpreter ends is sent then, for `close_timeout` seconds at most. After `os.fork` a client works on in the parent
alone: in the child it is closed, since threads and connections do not come along. Make one in each process, as in a
`post_fork` hook.
"""

import asyncio
import atexit
import logging
import os
import threading
import weakref
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, Unpack

from service.client.buffer import Counts, Lane, Limits, Signal
from service.client.inline_executor import InlineExecutor
from service.client.kafka_options import KafkaOptions
from service.client.parts import Parts
from service.client.rest_options import RestOptions
from service.client.values import ActualValue, AssociationId, Features, PredictionValue, ServiceFigures, When
from service.client.wording import Actual, Prediction

_log = logging.getLogger("service.client")
_GRACE_S: Final = 5.0
"""How much longer than asked for an end may take, letting go of connections included."""


class Client:
    """Ready when made, by `Client.over_kafka(...)` or `Client.over_http(...)`; `close` it, or use it with `with`.

    Calls refuse with False, and never raise; `counts` and the log `service.client` say why.
    """

    def __init__(self, parts: Parts, *, close_timeout: float = 5.0) -> None:
        self._parts = parts
        self._close_timeout = close_timeout
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(InlineExecutor())
        self._pid = os.getpid()
        parts.buffer.open(_signal(self._loop, parts))
        self._thread = threading.Thread(target=_serve, args=(self._loop, parts), name="hindsight client", daemon=True)
        self._thread.start()
        _open_clients.add(self)
        weakref.finalize(self, _ask_to_close, self._loop, parts, close_timeout, self._pid).atexit = False

    @classmethod
    def over_kafka(cls, *, limits: Limits | None = None, **options: Unpack[KafkaOptions]) -> Self:
        """Raises `ValueError` for wrong options, `OSError` for a certificate that can not be read."""
        return cls(Parts.over_kafka(limits or Limits(), options))

    @classmethod
    def over_http(cls, *, limits: Limits | None = None, **options: Unpack[RestOptions]) -> Self:
        """Raises `ValueError` for wrong options, `OSError` for a certificate that can not be read."""
        return cls(Parts.over_http(limits or Limits(), options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log_prediction(
        self,
        deployment_id: str,
        prediction: PredictionValue,
        *,
        association_id: AssociationId | None = None,
        timestamp: When | None = None,
        features: Features | None = None,
        model_id: str | None = None,
        batch_id: str | None = None,
        batch_name: str | None = None,
        service: ServiceFigures | None = None,
    ) -> bool:
        """Whether it was taken. `timestamp` is by default the instant of this call.

        A batch can be named by `batch_name` over Kafka only.
        """
        called_at = self._parts.intake.now()
        given = (
            deployment_id,
            prediction,
            association_id,
            timestamp,
            features,
            model_id,
            batch_id,
            batch_name,
            service,
        )
        return self._log(Prediction(called_at, *given))

    def log_actual(
        self,
        deployment_id: str,
        association_id: AssociationId,
        actual: ActualValue,
        *,
        timestamp: When | None = None,
        was_acted_on: bool | None = None,
        keep_without_prediction: bool | None = None,
    ) -> bool:
        """Whether it was taken. None as `actual` withdraws an earlier one, over Kafka only."""
        given = (deployment_id, association_id, actual, timestamp, was_acted_on, keep_without_prediction)
        return self._log(Actual(self._parts.intake.now(), *given))

    def _log(self, given: Prediction | Actual) -> bool:
        parts = self._parts
        row = parts.intake.row(given)
        return row is not None and parts.intake.told(parts.buffer.put(row, parts.limits.wait_when_full))

    @property
    def counts(self) -> Counts:
        """A snapshot of what became of all rows so far."""
        return self._parts.intake.counts

    def flush(self, timeout: float = 10.0) -> bool:
        """Whether all that was taken before is out; False: after `timeout` some still waits, or some failed."""
        if self._parts.buffer.closed:
            return not self._parts.intake.counts.failed
        flushing = asyncio.run_coroutine_threadsafe(self._parts.dispatcher.flush(timeout), self._loop)
        try:
            return flushing.result(timeout + _GRACE_S)
        except (TimeoutError, asyncio.CancelledError):
            return False

    def close(self, timeout: float | None = None) -> None:
        """Take no more, and send what is there for up to `timeout` seconds; the rest is given up, and counted."""
        if os.getpid() != self._pid:
            return
        patience = self._close_timeout if timeout is None else timeout
        self._parts.buffer.close()
        _ask_to_close(self._loop, self._parts, patience, self._pid)
        self._thread.join(patience + _GRACE_S)
        _open_clients.discard(self)

    def forget(self) -> None:
        """Be closed and empty without sending anything: what becomes of it in a child after a fork."""
        self._parts.buffer.forget()


_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _signal(loop: asyncio.AbstractEventLoop, parts: Parts) -> Signal:
    """The buffer's signal, from any thread."""

    def signal(lane: Lane, full: bool) -> None:
        with suppress(RuntimeError):  # the loop has been closed meanwhile, and the row counted as given up
            loop.call_soon_threadsafe(parts.dispatcher.notice, lane, full)

    return signal


def _ask_to_close(loop: asyncio.AbstractEventLoop, parts: Parts, patience: float, pid: int) -> None:
    """Also what happens to a client that is let go of without being closed, in whatever thread: it takes no lock."""
    if os.getpid() == pid:
        with suppress(RuntimeError):  # it is closed already
            loop.call_soon_threadsafe(parts.dispatcher.ask_to_close, patience)


def _serve(loop: asyncio.AbstractEventLoop, parts: Parts) -> None:
    """The thread. It knows the parts, not the client, so that the client can be let go of."""
    try:
        loop.run_until_complete(parts.dispatcher.run())
    except Exception:
        _log.exception("the client has failed and takes no more rows")
    finally:
        _end(loop)


def _end(loop: asyncio.AbstractEventLoop) -> None:
    if left := asyncio.all_tasks(loop):
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.wait(left, timeout=_GRACE_S))
    loop.close()


@atexit.register
def _close_all() -> None:
    for client in list(_open_clients):
        client.close()


def _forget_all() -> None:
    for client in list(_open_clients):
        client.forget()
    _open_clients.clear()


os.register_at_fork(after_in_child=_forget_all)
