"""Settings to client options, and which of Kafka's faults pass by themselves."""

import ssl

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, TopicAuthorizationFailedError
from pydantic import SecretStr

from service.adapters.kafka.connection import client_options, translating
from service.config import KafkaSettings
from service.ports import Unavailable


def test_plain() -> None:
    assert client_options(KafkaSettings()) == {"bootstrap_servers": "localhost:9092", "security_protocol": "PLAINTEXT"}


def test_log_in_and_encryption() -> None:
    options = client_options(
        KafkaSettings(
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="hindsight",
            sasl_password=SecretStr("secret"),
        )
    )
    assert isinstance(options.pop("ssl_context"), ssl.SSLContext)
    assert options == {
        "bootstrap_servers": "localhost:9092",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "hindsight",
        "sasl_plain_password": "secret",
    }


@pytest.mark.parametrize("fault", [KafkaConnectionError("x"), KafkaTimeoutError("x"), TimeoutError(), OSError("x")])
def test_what_may_pass(fault: Exception) -> None:
    with pytest.raises(Unavailable, match="Kafka: "), translating():
        raise fault


def wrapped(fault: KafkaError) -> KafkaError:
    """As the library tells what befell the look-up of a coordinator."""
    error = KafkaError(repr(fault))
    error.__cause__ = fault
    return error


def test_what_is_wrapped_passes_as_what_it_wraps() -> None:
    with pytest.raises(Unavailable, match="Kafka: "), translating():
        raise wrapped(KafkaConnectionError("closed"))
    with pytest.raises(KafkaError), translating():
        raise wrapped(TopicAuthorizationFailedError("x"))


def test_an_answer_that_the_library_does_not_expect_may_pass() -> None:
    with pytest.raises(Unavailable, match="GroupLoadInProgress"), translating():
        raise KafkaError("GroupLoadInProgressError()")  # as it tells of a group that is joined while it is loaded


def test_what_does_not_pass() -> None:
    with pytest.raises(TopicAuthorizationFailedError), translating():
        raise TopicAuthorizationFailedError("x")
