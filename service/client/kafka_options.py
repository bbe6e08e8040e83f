"""How to reach Kafka; names and rules are those of the service's own settings (`config.py`), checked without them."""

import re
import ssl
from collections.abc import Iterator
from typing import Any, Final, Literal, Required, TypedDict, get_args

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Compression = Literal["none", "lz4", "zstd"]


class KafkaOptions(TypedDict, total=False):
    """Arguments of `over_kafka`; all but the first have the defaults of the service's settings."""

    bootstrap_servers: Required[str]
    topic_prefix: str
    security_protocol: SecurityProtocol
    sasl_mechanism: SaslMechanism | None
    sasl_username: str | None
    sasl_password: str | None
    ssl_cafile: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_key_password: str | None
    compression: Compression


DEFAULT_PREFIX: Final = "monitoring"
_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]/]+):\d{1,5}")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
_SASL: Final = ("sasl_mechanism", "sasl_username", "sasl_password")
_SSL: Final = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password")
_KNOWN: Final = KafkaOptions.__required_keys__ | KafkaOptions.__optional_keys__


def check(options: KafkaOptions) -> None:
    """Raise `ValueError` with every rule that is broken; passwords are not shown."""
    if problems := [*_unknown(options), *_basic(options), *_security(options)]:
        raise ValueError("; ".join(problems))


def _unknown(options: KafkaOptions) -> Iterator[str]:
    for name in sorted(options.keys() - _KNOWN):
        yield f"{name}: no such option"


def _basic(options: KafkaOptions) -> Iterator[str]:
    servers = options.get("bootstrap_servers")
    if not isinstance(servers, str) or not all(_SERVER.fullmatch(server) for server in servers.split(",")):
        yield "bootstrap_servers: must be a comma-separated list of host:port"
    if not _PREFIX.fullmatch(options.get("topic_prefix", DEFAULT_PREFIX)):
        yield "topic_prefix: must be 1 to 200 of the characters A-Z a-z 0-9 . _ -"
    choices: tuple[tuple[str, Any], ...] = (
        ("security_protocol", SecurityProtocol),
        ("sasl_mechanism", SaslMechanism),
        ("compression", Compression),
    )
    for name, choice in choices:
        given = options.get(name)
        if given is not None and given not in get_args(choice):
            yield f"{name}: must be one of {', '.join(get_args(choice))}"


def _security(options: KafkaOptions) -> Iterator[str]:
    protocol = options.get("security_protocol", "PLAINTEXT")
    if protocol.startswith("SASL_"):
        yield from (f"{name}: required with {protocol}" for name in _SASL if options.get(name) is None)
    else:
        yield from _unused(options, _SASL, "SASL_PLAINTEXT or SASL_SSL")
    if not protocol.endswith("SSL"):
        yield from _unused(options, _SSL, "SSL or SASL_SSL")
    elif (options.get("ssl_certfile") is None) != (options.get("ssl_keyfile") is None):
        yield "ssl_certfile and ssl_keyfile need each other"
    elif options.get("ssl_key_password") is not None and options.get("ssl_keyfile") is None:
        yield "ssl_key_password: needs ssl_keyfile"


def _unused(options: KafkaOptions, names: tuple[str, ...], wanted: str) -> Iterator[str]:
    for name in names:
        if options.get(name) is not None:
            yield f"{name}: needs security_protocol {wanted}"


def producer_options(options: KafkaOptions) -> dict[str, Any]:
    """Keyword arguments of the driver. Reads certificates: raises `OSError` for a file that can not be read."""
    protocol = options.get("security_protocol", "PLAINTEXT")
    compression = options.get("compression", "none")
    given: dict[str, Any] = {
        "bootstrap_servers": options["bootstrap_servers"],
        "security_protocol": protocol,
        "compression_type": None if compression == "none" else compression,
    }
    if protocol.startswith("SASL_"):
        given |= {
            "sasl_mechanism": options.get("sasl_mechanism"),
            "sasl_plain_username": options.get("sasl_username"),
            "sasl_plain_password": options.get("sasl_password"),
        }
    if protocol.endswith("SSL"):
        given["ssl_context"] = _ssl_context(options)
    return given


def _ssl_context(options: KafkaOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_cafile"))
    if certificate := options.get("ssl_certfile"):
        context.load_cert_chain(certificate, options.get("ssl_keyfile"), options.get("ssl_key_password"))
    return context
