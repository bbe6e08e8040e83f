"""The settings: what they are called, what they may be, what they are by default.

This is the only reader of the environment. A variable is `HINDSIGHT_<GROUP>__<NAME>`; a secret may instead be given
as `..._FILE`, the path of a file that holds it (one line end at its end is dropped). A variable set to nothing counts
as not set; one that nobody knows is an error, so that a typing mistake never silently means "the default".

Not here: anything built from settings (`bootstrap`), and the settings of a deployment (rows in Postgres).
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX: Final = "HINDSIGHT_"
MASK: Final = "********"

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]/]+):\d{1,5}")
_WEBHOOK = re.compile(r"https?://[^\s/]+[^\s]*")
_PASSWORD_IN_DSN = re.compile(r"^(\w+://[^:@]*):.*@", re.DOTALL)
_PASSWORD_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&]*")
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)")

SettingValue: TypeAlias = str | int | bool | None


class SettingsError(ValueError):
    """The settings are wrong; `problems` says for each which variable, and which rule it breaks."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def _servers(value: str) -> str:
    if not all(_SERVER.fullmatch(server) for server in value.split(",")):
        raise PydanticCustomError("servers", "must be a comma-separated list of host:port")
    return value


def _dsn(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise PydanticCustomError("dsn", "must look like postgresql://user:password@host:5432/database")
    return value


def _networks(value: str) -> str:
    try:
        networks(value)
    except ValueError:
        raise PydanticCustomError("networks", "must be a comma-separated list of networks such as 10.0.0.0/8") from None
    return value


def networks(value: str) -> list[IPv4Network | IPv6Network]:
    """The networks that a comma-separated list names."""
    return [ip_network(part.strip()) for part in value.split(",") if part.strip()]


def _webhook(value: SecretStr | None) -> SecretStr | None:
    if value is not None and not _WEBHOOK.fullmatch(value.get_secret_value()):
        raise PydanticCustomError("webhook", "must look like https://host/path")
    return value


def _words(value: str | None) -> str | None:
    if value is not None and not all(word.strip() for word in value.split(",")):
        raise PydanticCustomError("words", "must be a comma-separated list of words")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Port = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]


class _Group(BaseModel):
    """A group of settings: cannot change, knows no other names, and explains each by the text below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


class KafkaSettings(_Group):
    """How to reach Kafka, and under which names."""

    bootstrap_servers: Annotated[str, AfterValidator(_servers)] = "localhost:9092"
    """Comma-separated host:port list."""
    group_id: Name = "hindsight"
    """Consumer group of the workers; also the stem of their transactional IDs."""
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "monitoring"
    """First part of every topic's name."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Encryption and log-in of the connections."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """Way of logging in."""
    sasl_username: str | None = None
    """Name to log in with."""
    sasl_password: SecretStr | None = None
    """Password to log in with."""
    ssl_cafile: FilePath | None = None
    """PEM file of the authorities to trust; without it, those of the system."""
    ssl_certfile: FilePath | None = None
    """PEM file of the client certificate."""
    ssl_keyfile: FilePath | None = None
    """PEM file of the client key."""
    ssl_key_password: SecretStr | None = None
    """Password of the client key."""
    session_timeout_ms: Annotated[int, Field(ge=6_000, le=1_800_000)] = 10_000
    """A silent worker loses its partitions after this long."""
    transactions: bool = True
    """Publish in Kafka transactions; false only for a broker that has none."""
    compression: Literal["none", "lz4", "zstd"] = "zstd"
    """Compression of published records. The ledger keeps them as they are sent: `lz4` takes less CPU, and more room
    there (`HINDSIGHT_PIPELINE__SLOT_LIMIT_BYTES`); what is sent uncompressed it keeps with zstd."""

    @property
    def compression_type(self) -> str | None:
        """As the client library names it."""
        return None if self.compression == "none" else self.compression

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        problems = [*self._sasl_problems(), *self._ssl_problems()]
        if problems:
            raise PydanticCustomError("security", "{problems}", {"problems": "; ".join(problems)})
        return self

    def _sasl_problems(self) -> Iterator[str]:
        credentials = ("sasl_mechanism", "sasl_username", "sasl_password")
        if self.security_protocol.startswith("SASL_"):
            for name in credentials:
                if getattr(self, name) is None:
                    yield f"{variable('kafka', name)} is required with SECURITY_PROTOCOL={self.security_protocol}"
        else:
            yield from self._unused(credentials, "SASL_PLAINTEXT or SASL_SSL")

    def _ssl_problems(self) -> Iterator[str]:
        if not self.security_protocol.endswith("SSL"):
            yield from self._unused(
                ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_key_password"), "SSL or SASL_SSL"
            )
        elif (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            yield f"{variable('kafka', 'ssl_certfile')} and {variable('kafka', 'ssl_keyfile')} need each other"
        elif self.ssl_key_password is not None and self.ssl_keyfile is None:
            yield f"{variable('kafka', 'ssl_key_password')} needs {variable('kafka', 'ssl_keyfile')}"

    def _unused(self, names: Iterable[str], wanted: str) -> Iterator[str]:
        for name in names:
            if getattr(self, name) is not None:
                yield f"{variable('kafka', name)} needs SECURITY_PROTOCOL {wanted}, not {self.security_protocol}"


class PostgresSettings(_Group):
    """How to reach Postgres."""

    dsn: Annotated[SecretStr, AfterValidator(_dsn)] = SecretStr(
        "postgresql://hindsight:hindsight@localhost:5432/hindsight"
    )
    """Address, name, password and database; what is special in a password is percent-encoded."""
    pool_size: Annotated[int, Field(ge=2, le=200)] = 8
    """Greatest number of connections of one process."""


class WorkerSettings(_Group):
    """One worker process."""

    state_dir: Path = Path(".hindsight/state")
    """Directory of the state stores: a cache, but one that saves the restore. Never shared by two workers."""
    metrics_host: str = "127.0.0.1"
    """Address on which probes and metrics answer; they ask for no password, so others may come only where it is set."""
    metrics_port: Port = 9404
    """Port of probes and metrics; 0 takes a free one."""
    instance_id: Name | None = None
    """Lasting name of this worker in the group; without it, one kept in the state directory."""
    memory_mb: Annotated[int, Field(ge=32)] = 256
    """Memory of the state stores' caches and write buffers, all tasks of the process together."""


class ApiSettings(_Group):
    """The HTTP process."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on; 0 takes a free one."""
    public_origin: Annotated[str, Field(pattern=r"^https?://[^/\s]+$")] | None = None
    """Scheme, host and port under which clients know the API, such as https://monitoring.example.org; without it, those
    of each request."""
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    """Comma-separated networks whose proxies are believed what they say of scheme and host, such as 10.0.0.0/8."""
    rows_per_hour: Annotated[int, Field(ge=1)] = 10_000_000
    """Predictions, and actuals, that a deployment takes over HTTP in a clock hour; of several classes, an actual counts
    once for each."""


class FilesSettings(_Group):
    """Where data sets are kept, and files while they come in."""

    url: Annotated[str, Field(min_length=1)] = ".hindsight/files"
    """Directory, or address of a bucket such as s3://bucket/path, az://container/path or gs://bucket/path, shared by
    all processes. The key to a bucket is taken from where its own tools take it, such as AWS_ACCESS_KEY_ID."""
    spool_dir: Path = Path(".hindsight/spool")
    """Directory on this machine for files while they come in or are read from a bucket; not one in memory."""
    max_bytes: Annotated[int, Field(ge=1, le=1 << 40)] = 5 << 30
    """Greatest size of one file that is sent."""


class PipelineSettings(_Group):
    """What a micro-batch may be."""

    auto_create_deployments: bool = False
    """Create a deployment when its first prediction comes; otherwise events without one are dead letters."""
    max_records: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Greatest number of records of one micro-batch."""
    slot_limit_bytes: Annotated[int, Field(ge=65_536, le=16_777_216)] = 1_048_576
    """Greatest size of the outgoing records that one transaction keeps, compressed."""
    cell_cache: Annotated[int, Field(ge=1)] = 20_000
    """Statistics cells that one task keeps in memory."""
    hourly_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    """Statistics older than so many days before a deployment's watermark are kept by the day."""
    kept_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Statistics older than so many days before a deployment's watermark are dropped; empty: never."""
    flood_limit: Annotated[int, Field(ge=1)] = 5_000
    """A run of more records that do not decode, on one partition, pauses its task until `hindsight resume`."""


class AlertsSettings(_Group):
    """The process that tells changes of monitoring batches to a webhook."""

    webhook_url: Annotated[SecretStr | None, AfterValidator(_webhook)] = None
    """Address that notifications are posted to; `hindsight alerts` requires it. Treated as a secret."""
    bearer_token: SecretStr | None = None
    """Token sent as `Authorization: Bearer`."""
    signing_key: SecretStr | None = None
    """Key of the HMAC-SHA256 of the body, sent as `X-Hindsight-Signature: sha256=...`."""
    events: Annotated[str | None, AfterValidator(_words)] = None
    """Comma-separated words of the events that are told, such as LOCKED,UNLOCKED; empty: all."""
    window_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Changes of a thing that follow one another within so many seconds are told together, once it is quiet."""
    longest_hold_s: Annotated[int, Field(ge=1, le=604_800)] = 3_600
    """A thing that never comes to rest is told again after so many seconds."""
    timeout_s: Annotated[int, Field(ge=1, le=20)] = 10
    """Seconds that the receiver has for an answer."""
    longest_pause_s: Annotated[int, Field(ge=1, le=3_600)] = 60
    """Greatest pause between two attempts, in seconds, unless the receiver asks for a longer one."""
    give_up_after_s: Annotated[int, Field(ge=1, le=604_800)] = 900
    """Seconds after which a notification that was not accepted becomes a dead letter."""
    group_id: Name = "hindsight-alerts"
    """Consumer group."""
    metrics_host: str = "127.0.0.1"
    """Address on which probes and metrics answer."""
    metrics_port: Port = 9406
    """Port of probes and metrics; 0 takes a free one."""

    @property
    def wanted(self) -> frozenset[str] | None:
        """The words of `events`; None for all."""
        return None if self.events is None else frozenset(word.strip() for word in self.events.split(","))


class LogSettings(_Group):
    """The log on standard error."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    """Least level that is written."""
    format: Literal["json", "text"] = "json"
    """One JSON object a line, or text for people."""


class Settings(BaseSettings):
    """All settings of one process. Constructing it reads nothing; `settings_from_environment` does."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", hide_input_in_errors=True
    )

    kafka: KafkaSettings = KafkaSettings()
    postgres: PostgresSettings = PostgresSettings()
    worker: WorkerSettings = WorkerSettings()
    api: ApiSettings = ApiSettings()
    files: FilesSettings = FilesSettings()
    pipeline: PipelineSettings = PipelineSettings()
    alerts: AlertsSettings = AlertsSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


_GROUPS: Final[Mapping[str, type[_Group]]] = {
    "kafka": KafkaSettings,
    "postgres": PostgresSettings,
    "worker": WorkerSettings,
    "api": ApiSettings,
    "files": FilesSettings,
    "pipeline": PipelineSettings,
    "alerts": AlertsSettings,
    "log": LogSettings,
}


class _Variables(EnvSettingsSource):
    """Reads a mapping given to it in place of the process's environment."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = {name.lower(): value for name, value in variables.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


def variable(group: str, name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{group}__{name}".upper()


def variables() -> dict[str, str]:
    """Every variable there is, and what it means."""
    meanings = {
        variable(group, name): _GROUPS[group].model_fields[name].description or "" for group, name in _settings()
    }
    return meanings | {f"{name}_FILE": f"Path of a file that holds {name}." for name in _secrets()}


def settings_from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings these variables give; raises `SettingsError` with every problem found."""
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and value}
    known = variables()
    problems = [_unknown(name, value, known) for name, value in given.items() if name not in known]
    values = {variable(*setting): given[variable(*setting)] for setting in _settings() if variable(*setting) in given}
    for name in _secrets():
        try:
            values |= _from_file(name, given)
        except SettingsError as error:
            problems += error.problems
    try:
        settings = Settings.model_validate(_Variables(values)())
    except ValidationError as error:
        raise SettingsError([*problems, *(_problem(details, values) for details in error.errors())]) from None
    if problems:
        raise SettingsError(problems)
    return settings


def describe(settings: Settings) -> dict[str, SettingValue]:
    """Variable -> value in effect, passwords masked: what `hindsight config` prints."""
    shown = {variable(group, name): _shown(getattr(getattr(settings, group), name)) for group, name in _settings()}
    return shown | {variable("postgres", "dsn"): masked_dsn(settings.postgres.dsn.get_secret_value())}


def masked_dsn(dsn: str) -> str:
    """The address without its passwords, for people and logs."""
    return _PASSWORD_IN_QUERY.sub(rf"\1{MASK}", _PASSWORD_IN_DSN.sub(rf"\1:{MASK}@", dsn))


def _settings() -> Iterator[tuple[str, str]]:
    return ((group, name) for group, model in _GROUPS.items() for name in model.model_fields)


def _secrets() -> list[str]:
    return [variable(group, name) for group, name in _settings() if _is_secret(group, name)]


def _is_secret(group: str, name: str) -> bool:
    annotation = _GROUPS[group].model_fields[name].annotation
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _unknown(name: str, value: str, known: Iterable[str]) -> str:
    closest = difflib.get_close_matches(name.upper(), known, n=1)
    meant = f"; did you mean {closest[0]}?" if closest else ""
    linked = _SERVICE_LINK.search(name) or value.startswith("tcp://")
    cure = " (Kubernetes sets such names for a Service: give the pod enableServiceLinks: false)" if linked else ""
    return f"{name}: no such setting{meant}{cure}"


def _from_file(name: str, given: Mapping[str, str]) -> dict[str, str]:
    path = given.get(f"{name}_FILE")
    if path is None:
        return {}
    if name in given:
        raise SettingsError([f"{name}: given twice, also by {name}_FILE"])
    try:
        value = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise SettingsError([f"{name}_FILE: cannot read {path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{name}_FILE: {path} is not UTF-8 text"]) from None
    if not value:
        raise SettingsError([f"{name}_FILE: {path} is empty"])
    return {name: value}


def _problem(details: ErrorDetails, values: Mapping[str, str]) -> str:
    group, *rest = (str(part) for part in details["loc"])
    if not rest:  # a check across settings, which names them itself
        return details["msg"]
    name = variable(group, rest[0])
    shown = "" if _is_secret(group, rest[0]) or name not in values else f" (it is {values[name]!r})"
    return f"{name}: {details['msg']}{shown}"


def _shown(value: SettingValue | Path | SecretStr) -> SettingValue:
    match value:
        case SecretStr():
            return MASK
        case Path():
            return str(value)
        case _:
            return value
