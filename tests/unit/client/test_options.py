"""Only constructors raise, and they say what is wrong with which argument."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.client import AsyncClient, Client, Limits
from service.client.kafka_options import KafkaOptions
from service.config import KafkaSettings

SASL = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_username": "u",
    "sasl_password": "geheim",
}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"bootstrap_servers": "nowhere"}, "bootstrap_servers: must be a comma-separated list of host:port"),
    ({"topic_prefix": "a b"}, "topic_prefix: must be"),
    ({"security_protocol": "TLS"}, "security_protocol: must be one of PLAINTEXT, SSL"),
    ({"sasl_username": "u"}, "sasl_username: needs security_protocol SASL_PLAINTEXT or SASL_SSL"),
    ({"ssl_cafile": __file__}, "ssl_cafile: needs security_protocol SSL or SASL_SSL"),
    ({"security_protocol": "SASL_SSL"}, "sasl_mechanism: required with SASL_SSL; sasl_username: required"),
    (SASL | {"sasl_mechanism": "GSSAPI"}, "sasl_mechanism: must be one of PLAIN"),
    ({"security_protocol": "SSL", "ssl_certfile": __file__}, "ssl_certfile and ssl_keyfile need each other"),
    ({"security_protocol": "SSL", "ssl_key_password": "geheim"}, "ssl_key_password: needs ssl_keyfile"),
    ({"compression": "gzip"}, "compression: must be one of none, lz4, zstd"),
]


@pytest.mark.parametrize(("options", "problem"), WRONG)
def test_kafka_options_that_are_wrong(options: dict[str, Any], problem: str) -> None:
    """The service's own settings refuse the same."""
    with pytest.raises(ValueError) as refused:
        Client.over_kafka(**({"bootstrap_servers": "localhost:9092"} | options))
    assert problem in str(refused.value) and "geheim" not in str(refused.value)
    with pytest.raises(ValidationError):
        KafkaSettings.model_validate(options)


def test_the_names_are_those_of_the_settings() -> None:
    others = {"group_id", "session_timeout_ms", "transactions"}
    assert set(KafkaOptions.__annotations__) == set(KafkaSettings.model_fields) - others


def test_an_unknown_option() -> None:
    with pytest.raises(ValueError, match="^sasl_user: no such option$"):
        Client.over_kafka(bootstrap_servers="localhost:9092", sasl_user="u")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="^verify: no such option$"):
        Client.over_http(url="http://localhost", token="t", verify=False)  # type: ignore[call-arg]


@pytest.mark.parametrize("options", [{}, SASL, {"security_protocol": "SSL"}, {"compression": "zstd"}])
async def test_kafka_options_that_are_right(options: Mapping[str, Any]) -> None:
    AsyncClient.over_kafka(bootstrap_servers="localhost:9092,[::1]:9093", **options)


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Client.over_kafka(
            bootstrap_servers="localhost:9092", security_protocol="SSL", ssl_cafile=str(tmp_path / "none.pem")
        )


@pytest.mark.parametrize(
    "url", ["localhost:8080", "ftp://localhost", "http://", "http://h/api", "http://u@h", "http://h?q", "http://h:0", 1]
)
def test_a_url_that_is_wrong(url: Any) -> None:
    with pytest.raises(ValueError, match=r"^url: must be http"):
        Client.over_http(url=url, token="t")


@pytest.mark.parametrize("token", ["", "a b", "a\n", "ä", None])
def test_a_token_that_is_wrong(token: Any) -> None:
    with pytest.raises(ValueError, match="^token: must be text of visible ASCII characters$"):
        Client.over_http(url="https://hindsight.example.com/", token=token)


@pytest.mark.parametrize(
    "bound", [{"batch_rows": 0}, {"batch_rows": 10_001}, {"linger": -1}, {"buffer_rows": 0}, {"wait_when_full": -1}]
)
def test_limits_that_are_wrong(bound: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(bound))}: must be "):
        Limits(**bound)
