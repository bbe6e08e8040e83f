"""How Faust reaches Kafka here. Its own driver reads uncommitted records, creates topics, and knows few settings.

Changed is only that:

- The consumer reads committed records. Faust's does so only where it writes in transactions itself.
- Consumer and producer get the options of every client of ours: addresses, log-in, encryption.
- The producer is idempotent and waits for all copies, so that a retry changes neither content nor order of the
  changelog.
- No topic is created: `hindsight topics create` does that.
- An acknowledgement of a former generation is dropped. Faust acknowledges by itself what it skips after a rebalance,
  and would commit beyond a record that has just been given out anew.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, cast

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers import aiokafka as driver


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """The thread in which the consumer lives."""

    logger = driver.logger

    def _create_worker_consumer(self, transport: "Transport") -> AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = self.app.assignor
        return AIOKafkaConsumer(
            **transport.client_options,
            client_id=conf.broker_client_id,
            group_id=conf.id,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            partition_assignment_strategy=[self._assignor],
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
        )


class Consumer(driver.Consumer):  # type: ignore[misc]
    logger = driver.logger

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.under_way: defaultdict[int, set[int]] = defaultdict(set)
        """Offsets of the source, by partition, that were given out and are not acknowledged."""
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: Any, record: Any) -> Any:
        if tp.topic == cast(Transport, self.transport).source_topic:
            self.under_way[tp.partition].add(record.offset)
        return super()._to_message(tp, record)

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        await super().on_partitions_revoked(revoked)
        self.under_way.clear()

    def ack(self, message: Any) -> bool:
        if message.generation_id != self.app.consumer_generation_id:
            return False
        if message.topic == cast(Transport, self.transport).source_topic:
            self.under_way[message.partition].discard(message.offset)
        return bool(super().ack(message))


class Producer(driver.Producer):  # type: ignore[misc]
    logger = driver.logger

    def _settings_default(self) -> Mapping[str, Any]:
        known = super()._settings_default()
        kept = ("client_id", "linger_ms", "max_request_size", "request_timeout_ms", "partitioner")
        return {name: known[name] for name in kept}

    def _settings_auth(self) -> Mapping[str, Any]:
        return cast(Transport, self.transport).client_options

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class Transport(driver.Transport):  # type: ignore[misc]
    """Set as an app's transport before it starts; `client_options` are those of any client of ours."""

    Consumer = Consumer
    Producer = Producer

    def __init__(
        self, client_options: Mapping[str, Any], source_topic: str, app: Any, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(app.conf.broker, app, loop=loop)
        self.client_options = client_options
        self.source_topic = source_topic

    async def _create_topic(self, *_: Any, **__: Any) -> None:
        """None is created."""
