"""The client for code that runs in an event loop."""

import asyncio
from types import TracebackType
from typing import Self, Unpack

from service.client.buffer import Counts, Limits, Put
from service.client.kafka_options import KafkaOptions
from service.client.parts import Parts
from service.client.rest_options import RestOptions
from service.client.values import ActualValue, AssociationId, Features, PredictionValue, ServiceFigures, When
from service.client.wording import Actual, Prediction


class AsyncClient:
    """`async with AsyncClient.over_kafka(...) as client`; it belongs to the loop in which it was entered.

    Calls refuse with False, and never raise; `counts` and the log `service.client` say why.
    """

    def __init__(self, parts: Parts, *, close_timeout: float = 5.0) -> None:
        self._parts = parts
        self._close_timeout = close_timeout
        self._running: list[asyncio.Task[None]] = []

    @classmethod
    def over_kafka(cls, *, limits: Limits | None = None, **options: Unpack[KafkaOptions]) -> Self:
        """Raises `ValueError` for wrong options, `OSError` for a certificate that can not be read."""
        return cls(Parts.over_kafka(limits or Limits(), options))

    @classmethod
    def over_http(cls, *, limits: Limits | None = None, **options: Unpack[RestOptions]) -> Self:
        """Raises `ValueError` for wrong options, `OSError` for a certificate that can not be read."""
        return cls(Parts.over_http(limits or Limits(), options))

    async def __aenter__(self) -> Self:
        if self._running:
            raise RuntimeError("a client is entered once")
        self._parts.buffer.open(self._parts.dispatcher.notice)
        self._running.append(asyncio.create_task(self._parts.dispatcher.run(), name="hindsight client"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def log_prediction(
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
        """As `Client.log_prediction`. Pauses only where there is no room and `wait_when_full` allows it."""
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
        return await self._log(Prediction(called_at, *given))

    async def log_actual(
        self,
        deployment_id: str,
        association_id: AssociationId,
        actual: ActualValue,
        *,
        timestamp: When | None = None,
        was_acted_on: bool | None = None,
        keep_without_prediction: bool | None = None,
    ) -> bool:
        """As `Client.log_actual`. Pauses only where there is no room and `wait_when_full` allows it."""
        given = (deployment_id, association_id, actual, timestamp, was_acted_on, keep_without_prediction)
        return await self._log(Actual(self._parts.intake.now(), *given))

    async def _log(self, given: Prediction | Actual) -> bool:
        parts = self._parts
        row = parts.intake.row(given)
        if row is None:
            return False
        put = parts.buffer.put(row)
        if put is Put.FULL and parts.limits.wait_when_full:
            try:
                async with asyncio.timeout(parts.limits.wait_when_full):
                    while put is Put.FULL:
                        await parts.dispatcher.change()
                        put = parts.buffer.put(row)
            except TimeoutError:
                pass
        return parts.intake.told(put)

    @property
    def counts(self) -> Counts:
        """A snapshot of what became of all rows so far."""
        return self._parts.intake.counts

    async def flush(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109 it tells whether it was in time
        """Whether all that was taken before is out; False: after `timeout` some still waits, or some failed."""
        return await self._parts.dispatcher.flush(timeout)

    async def close(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 as in `Client`
        """Take no more, and send what is there for up to `timeout` seconds; the rest is given up, and counted."""
        if self._running and not self._running[0].done():
            self._parts.dispatcher.ask_to_close(self._close_timeout if timeout is None else timeout)
            await asyncio.wait(self._running)
