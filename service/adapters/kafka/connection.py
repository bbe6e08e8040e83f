"""How every client of ours reaches Kafka, and which of its faults pass by themselves."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    BrokerNotAvailableError,
    KafkaError,
    KafkaTimeoutError,
    KafkaUnavailableError,
    ReplicaNotAvailableError,
)
from aiokafka.helpers import create_ssl_context

from service.config import KafkaSettings
from service.ports import Unavailable

_MAY_PASS = (BrokerNotAvailableError, KafkaTimeoutError, KafkaUnavailableError, ReplicaNotAvailableError)
"""Besides those that the library calls retriable."""


def client_options(settings: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments of any aiokafka client: where Kafka is, and how to be let in."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": settings.security_protocol,
    }
    if settings.sasl_mechanism is not None and settings.sasl_password is not None:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password.get_secret_value(),
        }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = create_ssl_context(
            cafile=settings.ssl_cafile,
            certfile=settings.ssl_certfile,
            keyfile=settings.ssl_keyfile,
            password=settings.ssl_key_password.get_secret_value() if settings.ssl_key_password else None,
        )
    return options


@contextmanager
def translating() -> Iterator[None]:
    """Inside, faults that may pass by themselves are raised as `Unavailable`."""
    try:
        yield
    except KafkaError as error:
        if not _may_pass(error):
            raise
        raise Unavailable(f"Kafka: {error}") from error
    except OSError as error:  # time-outs too
        raise Unavailable(f"Kafka: {str(error) or type(error).__name__}") from error


def _may_pass(error: KafkaError) -> bool:
    """A plain `KafkaError` is the library's wrapping of another, as of what befell the look-up of a coordinator.

    Where it does not say of which, the library did not expect an answer, such as that of a coordinator that is loading.
    """
    cause = error.__cause__
    fault = cause if type(error) is KafkaError and isinstance(cause, KafkaError) else error
    return bool(fault.retriable) or type(fault) is KafkaError or isinstance(fault, _MAY_PASS)


@asynccontextmanager
async def open_admin(options: dict[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for topics, connected. Faults inside are translated, too."""
    admin = AIOKafkaAdminClient(**options)
    with translating():
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()


@asynccontextmanager
async def open_client(options: dict[str, Any]) -> AsyncIterator[AIOKafkaClient]:
    """A client for requests of our own, connected. Faults inside are translated, too."""
    client = AIOKafkaClient(**options)
    with translating():
        try:
            await client.bootstrap()
            yield client
        finally:
            await client.close()
