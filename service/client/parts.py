"""Puts the parts of a client together. Drivers are imported here, by who asks for them, and nowhere before."""

from dataclasses import dataclass
from typing import Self

from service.client.buffer import Buffer, Limits
from service.client.complaints import Complaints
from service.client.dispatcher import Dispatcher
from service.client.intake import Intake
from service.client.kafka_options import KafkaOptions
from service.client.rest_options import RestOptions
from service.client.rows import Transport
from service.client.wording import EventWording, RestWording, Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Of one client, closed and not running yet."""

    limits: Limits
    buffer: Buffer
    intake: Intake
    dispatcher: Dispatcher

    @classmethod
    def over(cls, transport: Transport, wording: Wording, limits: Limits, complaints: Complaints) -> Self:
        buffer = Buffer(limits)
        return cls(
            limits=limits,
            buffer=buffer,
            intake=Intake(wording, buffer, complaints),
            dispatcher=Dispatcher(buffer, transport, complaints, linger=limits.linger),
        )

    @classmethod
    def over_kafka(cls, limits: Limits, options: KafkaOptions) -> Self:
        from service.client.kafka import KafkaTransport  # noqa: PLC0415

        complaints = Complaints()
        return cls.over(KafkaTransport(options, complaints), EventWording(), limits, complaints)

    @classmethod
    def over_http(cls, limits: Limits, options: RestOptions) -> Self:
        from service.client.rest import RestTransport  # noqa: PLC0415

        complaints = Complaints()
        return cls.over(RestTransport(options, complaints), RestWording(), limits, complaints)
