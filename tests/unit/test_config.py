"""Settings: names, rules, secrets, and what an error says."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.config import (
    KafkaSettings,
    Settings,
    SettingsError,
    describe,
    masked_dsn,
    settings_from_environment,
    variables,
)

SASL = {
    "HINDSIGHT_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "HINDSIGHT_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
    "HINDSIGHT_KAFKA__SASL_USERNAME": "hindsight",
    "HINDSIGHT_KAFKA__SASL_PASSWORD": "open sesame",
}


def problems(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        settings_from_environment({f"HINDSIGHT_{name}": value for name, value in environ.items()})
    return caught.value.problems


def test_nothing_given_means_the_defaults() -> None:
    assert settings_from_environment({}) == Settings()


def test_what_is_given_is_taken_and_typed() -> None:
    settings = settings_from_environment(
        {
            "HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS": "a:1,[::1]:9092",
            "HINDSIGHT_KAFKA__TRANSACTIONS": "false",
            "HINDSIGHT_WORKER__STATE_DIR": "somewhere/else",
            "HINDSIGHT_PIPELINE__MAX_RECORDS": "40000",
            "HINDSIGHT_LOG__LEVEL": "debug",
            "PATH": "not ours",
        }
    )
    assert settings.kafka.bootstrap_servers == "a:1,[::1]:9092"
    assert settings.kafka.transactions is False
    assert settings.worker.state_dir == Path("somewhere/else")
    assert settings.pipeline.max_records == 40_000
    assert settings.log.level == "DEBUG"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDSIGHT_API__PORT", "1234")
    assert settings_from_environment().api.port == 1234
    assert Settings().api.port == 8080


def test_a_variable_set_to_nothing_counts_as_not_set() -> None:
    assert settings_from_environment({"HINDSIGHT_WORKER__INSTANCE_ID": ""}).worker.instance_id is None


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().kafka.group_id = "other"  # type: ignore[misc]


def test_every_setting_says_what_it_means() -> None:
    assert all(variables().values())


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("KAFKA__TOPIK_PREFIX", "HINDSIGHT_KAFKA__TOPIC_PREFIX"),
        ("KAFKA_GROUP_ID", "HINDSIGHT_KAFKA__GROUP_ID"),
        ("kafka__group_id", "HINDSIGHT_KAFKA__GROUP_ID"),
        ("POSTGRES__DSN_FIL", "HINDSIGHT_POSTGRES__DSN_FILE"),
    ],
)
def test_an_unknown_name_is_an_error_that_names_the_closest(name: str, closest: str) -> None:
    assert problems(**{name: "x"}) == (f"HINDSIGHT_{name}: no such setting; did you mean {closest}?",)


def test_a_whole_group_as_json_is_unknown_too() -> None:
    assert problems(KAFKA='{"group_id": "x"}')[0].startswith("HINDSIGHT_KAFKA: no such setting")


def test_an_unknown_name_of_a_kubernetes_service_says_how_to_lose_it() -> None:
    assert "enableServiceLinks: false" in problems(API_PORT="tcp://10.0.0.1:80")[0]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("KAFKA__SESSION_TIMEOUT_MS", "5999", "greater than or equal to 6000 (it is '5999')"),
        ("KAFKA__BOOTSTRAP_SERVERS", "localhost", "must be a comma-separated list of host:port (it is 'localhost')"),
        ("KAFKA__SECURITY_PROTOCOL", "TLS", "'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL' (it is 'TLS')"),
        ("KAFKA__COMPRESSION", "gzip", "'none', 'lz4' or 'zstd' (it is 'gzip')"),
        ("KAFKA__SSL_CAFILE", "no/such.pem", "Path does not point to a file (it is 'no/such.pem')"),
        ("KAFKA__TRANSACTIONS", "perhaps", "valid boolean"),
        ("WORKER__METRICS_PORT", "70000", "less than or equal to 65535 (it is '70000')"),
        ("WORKER__INSTANCE_ID", "a b", "match pattern"),
        ("PIPELINE__MAX_RECORDS", "0", "greater than or equal to 1 (it is '0')"),
        ("LOG__LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    ],
)
def test_an_error_names_the_variable_the_rule_and_the_value(name: str, value: str, rule: str) -> None:
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"HINDSIGHT_{name}: ")
    assert rule in problem


def test_every_problem_is_told_at_once() -> None:
    found = problems(API__PORT="x", LOG__FORMAT="xml", LOG__LEVLE="INFO", POSTGRES__DSN_FILE="no/such/file")
    assert [problem.split(":")[0] for problem in found] == [
        "HINDSIGHT_LOG__LEVLE",
        "HINDSIGHT_POSTGRES__DSN_FILE",
        "HINDSIGHT_API__PORT",
        "HINDSIGHT_LOG__FORMAT",
    ]


def test_a_wrong_secret_is_not_repeated() -> None:
    (problem,) = problems(POSTGRES__DSN="mysql://me:hunter2@host/db")
    assert problem == "HINDSIGHT_POSTGRES__DSN: must look like postgresql://user:password@host:5432/database"


@pytest.mark.parametrize("name", ["MECHANISM", "USERNAME", "PASSWORD"])
def test_sasl_needs_mechanism_and_credentials(name: str) -> None:
    with pytest.raises(SettingsError, match=f"HINDSIGHT_KAFKA__SASL_{name} is required"):
        settings_from_environment({key: value for key, value in SASL.items() if not key.endswith(name)})


def test_sasl_with_all_it_needs() -> None:
    kafka = settings_from_environment(SASL).kafka
    assert kafka.sasl_password is not None
    assert kafka.sasl_password.get_secret_value() == "open sesame"


@pytest.mark.parametrize("name", ["SASL_USERNAME", "SASL_PASSWORD", "SSL_KEY_PASSWORD"])
def test_credentials_that_the_protocol_does_not_use_are_an_error(name: str) -> None:
    (problem,) = problems(**{f"KAFKA__{name}": "x"})
    assert problem.startswith(f"HINDSIGHT_KAFKA__{name} needs SECURITY_PROTOCOL")


def test_a_client_certificate_needs_its_key(tmp_path: Path) -> None:
    certificate = tmp_path / "client.pem"
    certificate.write_text("certificate")
    (problem,) = problems(KAFKA__SECURITY_PROTOCOL="SSL", KAFKA__SSL_CERTFILE=str(certificate))
    assert problem == "HINDSIGHT_KAFKA__SSL_CERTFILE and HINDSIGHT_KAFKA__SSL_KEYFILE need each other"


def test_a_key_password_needs_a_key() -> None:
    (problem,) = problems(KAFKA__SECURITY_PROTOCOL="SSL", KAFKA__SSL_KEY_PASSWORD="x")
    assert problem == "HINDSIGHT_KAFKA__SSL_KEY_PASSWORD needs HINDSIGHT_KAFKA__SSL_KEYFILE"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_may_come_from_a_file(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(b" sp ace " + ending.encode())
    given = {name: value for name, value in SASL.items() if not name.endswith("PASSWORD")}
    kafka = settings_from_environment(given | {"HINDSIGHT_KAFKA__SASL_PASSWORD_FILE": str(file)}).kafka
    assert kafka.sasl_password is not None
    assert kafka.sasl_password.get_secret_value() == " sp ace "


def test_secrets_and_no_others_may_come_from_files() -> None:
    assert {name for name in variables() if name.endswith("_FILE")} == {
        "HINDSIGHT_ALERTS__BEARER_TOKEN_FILE",
        "HINDSIGHT_ALERTS__SIGNING_KEY_FILE",
        "HINDSIGHT_ALERTS__WEBHOOK_URL_FILE",
        "HINDSIGHT_KAFKA__SASL_PASSWORD_FILE",
        "HINDSIGHT_KAFKA__SSL_KEY_PASSWORD_FILE",
        "HINDSIGHT_POSTGRES__DSN_FILE",
    }


def test_a_secret_given_twice_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text("postgresql://a:b@c/d")
    (problem,) = problems(POSTGRES__DSN="postgresql://a:b@c/d", POSTGRES__DSN_FILE=str(file))
    assert problem == "HINDSIGHT_POSTGRES__DSN: given twice, also by HINDSIGHT_POSTGRES__DSN_FILE"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8 text")]
)
def test_a_file_without_a_usable_secret_is_an_error(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "dsn"
    file.write_bytes(content)
    (problem,) = problems(POSTGRES__DSN_FILE=str(file))
    assert problem == f"HINDSIGHT_POSTGRES__DSN_FILE: {file} {reason}"


def test_no_secret_is_shown() -> None:
    settings = settings_from_environment(
        SASL | {"HINDSIGHT_POSTGRES__DSN": "postgresql://me:hunter2@db:5432/hindsight"}
    )
    shown = describe(settings)
    assert shown["HINDSIGHT_POSTGRES__DSN"] == "postgresql://me:********@db:5432/hindsight"
    assert shown["HINDSIGHT_KAFKA__SASL_PASSWORD"] == "********"
    everything = f"{shown} {settings!r} {settings} {settings.model_dump_json()}"
    assert "hunter2" not in everything
    assert "open sesame" not in everything


def test_the_description_names_every_variable_that_holds_a_value() -> None:
    assert set(describe(Settings())) == {name for name in variables() if not name.endswith("_FILE")}


def test_a_password_that_looks_like_an_address_is_masked_whole() -> None:
    settings = settings_from_environment(SASL | {"HINDSIGHT_KAFKA__SASL_PASSWORD": "a://b"})
    assert describe(settings)["HINDSIGHT_KAFKA__SASL_PASSWORD"] == "********"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql://me:a@b:c/d@host:5432/db", "postgresql://me:********@host:5432/db"),
        (
            "postgres://h/d?user=me&password=x&sslpassword=y&port=1",
            "postgres://h/d?user=me&password=********&sslpassword=********&port=1",
        ),
    ],
)
def test_a_dsn_is_shown_without_its_passwords(dsn: str, shown: str) -> None:
    assert masked_dsn(dsn) == shown


def test_a_group_knows_no_other_names() -> None:
    with pytest.raises(ValidationError):
        KafkaSettings(group="x")  # type: ignore[call-arg]


# --- alerts ---


def test_the_wanted_events() -> None:
    assert settings_from_environment({}).alerts.wanted is None
    named = settings_from_environment({"HINDSIGHT_ALERTS__EVENTS": "LOCKED, DELETED"})
    assert named.alerts.wanted == frozenset({"LOCKED", "DELETED"})


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("WEBHOOK_URL", "ftp://somewhere/secret", "must look like https://host/path"),
        ("WEBHOOK_URL", "https:///secret", "must look like https://host/path"),
        ("EVENTS", "LOCKED,,DELETED", "must be a comma-separated list of words"),
        ("WINDOW_S", "0", "greater than or equal to 1"),
    ],
)
def test_what_alerts_can_not_work_with(name: str, value: str, rule: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_from_environment({f"HINDSIGHT_ALERTS__{name}": value})
    (problem,) = refused.value.problems
    assert problem.startswith(f"HINDSIGHT_ALERTS__{name}: ") and rule in problem
    assert "secret" not in problem


def test_the_webhook_is_masked() -> None:
    settings = settings_from_environment({"HINDSIGHT_ALERTS__WEBHOOK_URL": "https://host/secret"})
    assert describe(settings)["HINDSIGHT_ALERTS__WEBHOOK_URL"] == "********"
