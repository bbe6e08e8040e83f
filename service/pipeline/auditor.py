"""When the rows of a store are counted: see `audit`."""

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import takewhile

import structlog

from service.pipeline.audit import audit
from service.pipeline.owned import OwnedTask, World
from service.ports import ClockRow
from service.telemetry import Telemetry

_log = structlog.get_logger(__name__)
_EVERY_S = 30.0
_AT_ONCE, _REST_S = 500, 0.02
_IDLE_RESTS = 20
_BUSY_RESTS = 50
"""After an audit comes a rest of so many times the time that it has worked."""


class Auditor:
    """Counts the rows of the store beside the stream: soon after the input came to rest, seldom while it flows.

    No record waits for it.
    """

    def __init__(self, world: World, owned: OwnedTask, telemetry: Telemetry) -> None:
        self._world = world
        self._owned = owned
        self._telemetry = telemetry
        self._audited = -1
        self._ended_at = -_EVERY_S
        self._took = 0.0
        self._running: asyncio.Task[None] | None = None
        self._ending = threading.Event()

    def audit_if_due(self, *, idle: bool) -> None:
        """Start an audit of the store as it stands after the last commit. Raises what the one before raised."""
        if self._running is not None and self._running.done():
            self._running.result()
            self._running = None
        rest = self._took * _IDLE_RESTS if idle else max(_EVERY_S, self._took * _BUSY_RESTS)
        due = self._world.clock.monotonic() - self._ended_at >= rest
        if due and self._running is None and self._audited != self._owned.version:
            version, clocks = self._owned.version, dict(self._owned.clocks)
            self._running = asyncio.create_task(self._audit(self._owned.store.rows(), clocks, version, idle))

    async def finish(self) -> None:
        """Give up an audit that is under way, so that the store can be closed."""
        self._ending.set()
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)

    async def _audit(
        self, rows: Iterator[tuple[bytes, bytes]], clocks: Mapping[str, ClockRow], version: int, idle: bool
    ) -> None:
        started, gentle = self._world.clock.monotonic(), _Gentle(rows, 0.0 if idle else _REST_S)
        counted = takewhile(lambda _: not self._ending.is_set(), gentle)
        result = await asyncio.to_thread(audit, counted, clocks)
        if self._ending.is_set():
            return
        self._ended_at = self._world.clock.monotonic()
        self._took = self._ended_at - started - gentle.rested_s
        self._audited = version
        task, telemetry = self._owned.task, self._telemetry
        telemetry.conservation_error.labels(task).set(result.error)
        telemetry.audited_version.labels(task).set(version)
        telemetry.rows_open.labels(task).set(result.rows_open)
        telemetry.rows_parked.labels(task).set(result.rows_parked)
        telemetry.state_store_bytes.labels(task).set(self._owned.store.size_bytes())
        if result.error:
            _log.error("conservation is broken", task=task, version=version, records=result.error)


class _Gentle(Iterator[tuple[bytes, bytes]]):
    """Rows for a thread beside a stream, which would wait up to 5 ms each time it has let go of the interpreter."""

    def __init__(self, rows: Iterator[tuple[bytes, bytes]], rest_s: float) -> None:
        self._rows = rows
        self._rest_s = rest_s
        self._number = 0
        self.rested_s = 0.0

    def __next__(self) -> tuple[bytes, bytes]:
        self._number += 1
        if self._number % _AT_ONCE == 0:
            time.sleep(self._rest_s)
            self.rested_s += self._rest_s
        return next(self._rows)
