"""The Faust app: one agent on the topic of batches, one table, one step at a time.

Faust gives the group, the restored table and the stream. Its command line, worker, web server, and its ways of
configuring itself from the environment are not used. Offsets are acknowledged here and not by the stream, which would
do so for a record whose step was cancelled or failed.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import faust
import structlog
from aiokafka.errors import KafkaError, KafkaTimeoutError
from faust.exceptions import ProducerSendError
from mode import get_logger
from mode.utils.queues import FlowControlEvent

from service.alerts.memory import TableMemory
from service.alerts.transport import Transport
from service.alerts.webhook import Interrupted

_log = structlog.get_logger(__name__)
_BUFFERED_RECORDS: Final = 64
"""Records of the stream that wait for a slow receiver; above it Kafka is not asked for more."""
_DAY_S: Final = 86_400.0
_PAUSE_S: Final = 1.0
_RAW: Final[Mapping[str, Any]] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """What the app is called, what it reads and writes, and how it reaches Kafka."""

    group_id: str
    source_topic: str
    changelog_topic: str
    dead_letter_topic: str
    client_options: Mapping[str, Any]
    session_timeout: float
    """Seconds."""
    directory: Path
    """Faust wants one; nothing is kept in it."""


class _Flow(FlowControlEvent):  # type: ignore[misc]
    """Between the consumer and the stream.

    Faust resumes it a second time once the table is restored, and each time drops what waits in the stream's queue. By
    then records may be there that were fetched since, and would not come again before the next rebalance.
    """

    def resume(self) -> None:
        if not self.is_active():
            super().resume()


class _App(faust.App):  # type: ignore[misc]
    logger = get_logger("faust")

    @cached_property
    def flow_control(self) -> _Flow:
        return _Flow(loop=self.loop)

    def __init__(self, spec: AppSpec) -> None:
        self._client_options, self._source_topic = spec.client_options, spec.source_topic
        super().__init__(
            spec.group_id,
            env={},  # HINDSIGHT_ variables only
            broker="kafka://",
            broker_client_id="hindsight-alerts",
            broker_session_timeout=spec.session_timeout,
            broker_heartbeat_interval=spec.session_timeout / 3,
            broker_request_timeout=max(90.0, 2 * spec.session_timeout),
            broker_commit_interval=1.0,
            # a receiver that is away blocks the stream for as long as it takes: no reason to leave the group
            broker_max_poll_interval=_DAY_S,
            stream_processing_timeout=_DAY_S,
            stream_buffer_maxsize=_BUFFERED_RECORDS,
            consumer_auto_offset_reset="earliest",
            producer_request_timeout=30.0,
            producer_max_request_size=2 << 20,
            store="memory://",
            table_standby_replicas=0,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            autodiscover=False,
            datadir=str(spec.directory),
        )

    def _new_transport(self) -> Transport:
        return Transport(self._client_options, self._source_topic, self, asyncio.get_running_loop())

    def _new_producer_transport(self) -> Transport:
        return cast(Transport, self.transport)


class Gate:
    """Lets one step after the other through, and none while partitions move or the process ends."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.closed.set()
        self._turn = asyncio.Lock()
        self._closed_in: int | None = None
        self._for_good = False

    async def close(self, generation: int, *, for_good: bool = False) -> None:
        """Returns when the step under way has ended."""
        self._closed_in, self._for_good = generation, self._for_good or for_good
        self.closed.set()
        async with self._turn:
            pass

    def open(self, generation: int) -> None:
        """Unless it was closed within this generation: then its partitions are about to move again."""
        if not self._for_good and generation != self._closed_in:
            self.closed.clear()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[asyncio.Event]:
        """What is set when the step should stop. Raises `Interrupted`."""
        async with self._turn:
            if self.closed.is_set():
                raise Interrupted
            yield self.closed


class KafkaDeadLetters:
    def __init__(self, app: "AlertsApp", topic: str) -> None:
        self._app = app
        self._topic = topic

    async def put(
        self, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], stop: asyncio.Event
    ) -> None:
        await self._app.write(self._topic, key=key, value=value, headers=headers, stop=stop)


class AlertsApp:
    """Faust, as far as the others know it. Made within a running event loop."""

    def __init__(self, spec: AppSpec) -> None:
        self._app = _App(spec)
        self._topic = spec.source_topic
        self.gate = Gate()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.source = self._app.topic(spec.source_topic, allow_empty=True, **_RAW)
        changelog = self._app.topic(spec.changelog_topic, acks=False, internal=True, allow_empty=True, **_RAW)
        table = self._app.Table("flaps", key_type=bytes, value_type=bytes, changelog_topic=changelog)
        self.memory = TableMemory(table, self.write)
        self.dead_letters = KafkaDeadLetters(self, spec.dead_letter_topic)
        table.on_recover(self._on_recover)
        self._app.on_partitions_revoked.connect(self._on_revoked)

    @property
    def faust(self) -> Any:
        return self._app

    @property
    def generation(self) -> int:
        return int(self._app.consumer_generation_id)

    @property
    def settled(self) -> bool:
        """Whether partitions are assigned, or none by design, and the table restored."""
        return not self.gate.closed.is_set() and bool(self._app.tables.actives_ready)

    @property
    def partitions(self) -> frozenset[int]:
        """Those of the source that are assigned."""
        return frozenset(tp.partition for tp in self._app.consumer.assignment() if tp.topic == self._topic)

    async def write(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        stop: asyncio.Event,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Returns when all copies have it. While Kafka is away it waits; raises `Interrupted`."""
        while True:
            try:
                await self._app.producer.send_and_wait(topic, key, value, partition, None, list(headers))
                return
            except (KafkaError, ProducerSendError) as error:
                cause = error.__cause__ if isinstance(error, ProducerSendError) else error
                if not (isinstance(cause, KafkaTimeoutError) or getattr(cause, "retriable", False)):
                    raise
                _log.warning("Kafka does not take a record; it is sent again", topic=topic, error=str(error))
            try:
                async with asyncio.timeout(_PAUSE_S):
                    await stop.wait()
            except TimeoutError:
                continue
            raise Interrupted

    async def lag(self) -> dict[int, int]:
        """Records of each partition that are not done. Raises `KafkaError`.

        Markers of transactions are counted, too, but never alone.
        """
        consumer = self._app.consumer
        found = {}
        for tp in [tp for tp in consumer.assignment() if tp.topic == self._topic]:
            end = (await consumer.highwaters(tp)).get(tp) or 0
            position = await consumer.position(tp)
            oldest = min(consumer.under_way[tp.partition], default=end if position is None else position)
            found[tp.partition] = max(0, end - oldest)
        return found

    def fail(self, error: BaseException) -> None:
        """Ends the role. Faust would log the error and go on."""
        if not self.failed.done():
            self.failed.set_exception(error)

    async def _on_recover(self) -> None:
        try:
            self.memory.load(self.partitions)
        except Exception as error:
            self.fail(error)
            raise
        self.gate.open(self.generation)

    async def _on_revoked(self, *_: object, **__: object) -> None:
        await self.gate.close(self.generation)
