"""The life of the role: start, one step after the other, stop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError

from service.alerts.app import AlertsApp
from service.alerts.teller import Record, Teller
from service.alerts.webhook import Interrupted
from service.ports import Unavailable
from service.telemetry import Telemetry
from service.wire.notification import Source

_log = structlog.get_logger(__name__)
_LOOK_EVERY_S: Final = 0.25
_LAG_EVERY_S: Final = 2.0


class AlertsRole:
    """Runs once."""

    def __init__(self, app: AlertsApp, teller: Teller, telemetry: Telemetry) -> None:
        self._app = app
        self._teller = teller
        self._telemetry = telemetry
        self._stop = asyncio.Event()
        self._shown: set[int] = set()
        self.started = False
        app.faust.agent(app.source, name="alerts")(self._agent)

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Let the step under way end, commit, leave the group."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`. Raises what broke it; then nothing is committed that was not done."""
        faust = self._app.faust
        chores = [
            asyncio.create_task(self._chore(chore, pause), name=chore.__name__)
            for chore, pause in ((self._look, _LOOK_EVERY_S), (self._show_lag, _LAG_EVERY_S))
        ]
        running = asyncio.create_task(self._faust(faust), name="faust")
        stopping = asyncio.create_task(self._stop.wait())
        ending: set[asyncio.Future[Any]] = {running, stopping, self._app.failed}
        try:
            await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            await self._app.gate.close(self._app.generation, for_good=True)
        finally:
            for task in (*chores, stopping):
                task.cancel()
            await faust.stop()
            if not running.done() and not self._app.failed.done():
                await running
            running.cancel()
        for ended in (self._app.failed, running):
            if ended.done() and not ended.cancelled():
                ended.result()

    async def _faust(self, faust: Any) -> None:
        """Returns when it was stopped."""
        try:
            await faust.start()
        except KafkaError as error:
            raise Unavailable(f"Kafka: {error}") from error
        self.started = True
        _log.info("alerts have started", partitions=len(self._app.partitions))
        await faust.wait_until_stopped()
        if faust.crashed and not self.stopping:
            raise faust.crash_reason or RuntimeError("the stream has ended; the log says why")

    async def _agent(self, stream: Any) -> None:
        try:
            async for event in stream.noack().events():
                if await self._step(event.message):
                    event.ack()
        except Exception as error:
            self._app.fail(error)
            raise

    async def _step(self, message: Any) -> bool:
        """Whether the record is done. If not, it comes again: to whoever gets its partition."""
        source = Source(message.topic, message.partition, message.offset, round(message.timestamp * 1000))
        try:
            async with self._app.gate.turn() as closing:
                if message.generation_id != self._app.generation:
                    return False
                await self._teller.take(Record(source, message.key, message.value), closing)
        except Interrupted:
            return False
        return True

    async def _chore(self, chore: Callable[[], Awaitable[None]], pause: float) -> None:
        try:
            while True:
                await asyncio.sleep(pause)
                await chore()
        except Exception as error:
            self._app.fail(error)

    async def _look(self) -> None:
        """Things that have come to rest."""
        if not self._app.settled:
            return
        for thing in self._teller.due():
            try:
                async with self._app.gate.turn() as closing:
                    await self._teller.look(thing, closing)
            except Interrupted:
                return

    async def _show_lag(self) -> None:
        if not self._app.settled:
            return
        try:
            lag = await self._app.lag()
        except KafkaError as error:
            _log.debug("lag is not known", error=str(error))
            return
        gauge, topic = self._telemetry.consumer_lag_records, self._app.source.get_topic_name()
        for partition in self._shown - lag.keys():
            gauge.remove(topic, str(partition))
        self._shown = set(lag)
        for partition, records in lag.items():
            gauge.labels(topic, str(partition)).set(records)
