"""What is deployed agrees with what is built: variables, ports, entry point, start order, metric names, alerts."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.config import Settings, settings_from_environment, variables
from service.telemetry import Telemetry

ROOT: Final = Path(__file__).parents[2]
DOCKERFILE: Final = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT: Final = (ROOT / "compose.yaml").read_text(encoding="utf-8")
MONITORING: Final = ROOT / "deploy" / "monitoring"
ONE_SHOT: Final = {"migrate", "topics"}
ALERTS: Final = {
    "HindsightLag",
    "HindsightConservation",
    "HindsightDeadLetters",
    "HindsightPartitionPaused",
    "HindsightFlood",
    "HindsightDatabaseDown",
    "HindsightInputsApart",
}

Service = dict[str, Any]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    parsed = yaml.safe_load(COMPOSE_TEXT)["services"]
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def ours(services: dict[str, Service]) -> dict[str, Service]:
    return {name: service for name, service in services.items() if "build" in service}


def interpolated(value: str) -> str:
    """As compose does with nothing set in the shell: every variable by its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def environment(service: Service) -> dict[str, str]:
    return {name: interpolated(str(value)) for name, value in service["environment"].items()}


def settings_of(service: Service) -> Settings:
    in_image = dict(re.findall(r"(HINDSIGHT_\w+)=(\S+)", DOCKERFILE))
    return settings_from_environment(in_image | environment(service))


def container_ports(service: Service) -> set[int]:
    return {int(port.rsplit(":", 1)[1]) for port in service.get("ports", [])}


def probed_ports(service: Service) -> set[int]:
    return {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)/readyz", str(service.get("healthcheck")))}


def server_port(settings: Settings) -> int:
    return int(settings.kafka.bootstrap_servers.rsplit(":", 1)[1])


# --- variables and ports ---


@pytest.mark.parametrize("path", ["compose.yaml", "deploy/Dockerfile", "deploy/monitoring/README.md"])
def test_every_variable_named_is_a_setting(path: str) -> None:
    named = set(re.findall(r"HINDSIGHT_\w+", (ROOT / path).read_text(encoding="utf-8")))
    assert named
    assert named <= set(variables())


def test_every_service_of_ours_starts_with_settings_that_are_right(services: dict[str, Service]) -> None:
    assert set(ours(services)) == {"migrate", "topics", "worker-1", "worker-2", "api", "alerts"}
    for service in ours(services).values():
        settings = settings_of(service)
        assert settings.kafka.bootstrap_servers == "kafka:19092"
        assert settings.postgres.dsn.get_secret_value() == "postgresql://hindsight:hindsight@postgres:5432/hindsight"


def test_published_and_probed_ports_are_those_of_the_settings(services: dict[str, Service]) -> None:
    for name in ("worker-1", "worker-2"):
        worker = settings_of(services[name]).worker
        assert container_ports(services[name]) == probed_ports(services[name]) == {worker.metrics_port}
        assert worker.metrics_host == "0.0.0.0"
    api = settings_of(services["api"]).api
    assert container_ports(services["api"]) == probed_ports(services["api"]) == {api.port}
    assert api.host == "0.0.0.0"
    alerts = settings_of(services["alerts"]).alerts
    assert container_ports(services["alerts"]) == probed_ports(services["alerts"]) == {alerts.metrics_port}
    assert alerts.metrics_host == "0.0.0.0"


def test_alerts_start_where_somebody_is_to_be_told(services: dict[str, Service]) -> None:
    alerts = services["alerts"]
    assert alerts["profiles"] == ["alerts"]
    assert alerts["environment"]["HINDSIGHT_ALERTS__WEBHOOK_URL"] == "${ALERTS_WEBHOOK_URL:-}"
    assert set(alerts["depends_on"]) == {"kafka", "topics"}


def test_the_image_holds_what_alerts_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [name.split(">")[0] for name in extras["alerts"]] == ["faust-streaming"]
    assert "--extra alerts" in DOCKERFILE
    assert "\nfaust-streaming==" in (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_the_image_exposes_the_ports_of_the_settings() -> None:
    (exposed,) = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    defaults = Settings()
    ports = {defaults.worker.metrics_port, defaults.alerts.metrics_port, defaults.api.port}
    assert {int(port) for port in exposed.split()} == ports


def test_the_default_settings_reach_what_compose_publishes(services: dict[str, Service]) -> None:
    kafka, postgres, defaults = services["kafka"], services["postgres"], Settings()
    assert container_ports(kafka) == {server_port(defaults)}
    assert f"OUTSIDE://{defaults.kafka.bootstrap_servers}" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    given = environment(postgres)
    address = f"{given['POSTGRES_USER']}:{given['POSTGRES_PASSWORD']}@localhost:5432/{given['POSTGRES_DB']}"
    assert defaults.postgres.dsn.get_secret_value() == f"postgresql://{address}"
    assert container_ports(postgres) == {5432}


def test_workers_listen_inside_the_broker_where_it_advertises(services: dict[str, Service]) -> None:
    servers = settings_of(services["worker-1"]).kafka.bootstrap_servers
    assert f"INSIDE://{servers}" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]


def test_ports_are_published_to_this_machine_only(services: dict[str, Service]) -> None:
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_published_ports_do_not_collide(services: dict[str, Service]) -> None:
    published = [port.split(":")[1] for service in services.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published))


# --- image ---


def test_the_entry_point_of_the_image_is_the_script_of_the_package() -> None:
    assert re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE) == ['["hindsight"]']
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"]["hindsight"] == "service.cli:main"


def test_the_image_does_not_run_as_root() -> None:
    user = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert user and user[-1] != "0"
    assert DOCKERFILE.rindex("\nUSER ") > DOCKERFILE.rindex("\nFROM ")


def test_what_the_image_copies_exists() -> None:
    copied = [
        name for names in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in names.split()
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    allowed = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} == {line for line in allowed if line.startswith("!")}


# --- start order ---


def test_who_is_waited_for_exists_and_can_be_waited_for(services: dict[str, Service]) -> None:
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] == ("service_completed_successfully" if name in ONE_SHOT else "service_healthy")
            assert name in ONE_SHOT or "healthcheck" in services[name]


def test_every_service_is_checked_or_ends_by_itself(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert ("healthcheck" in service) != (name in ONE_SHOT)
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")


@pytest.mark.parametrize("name", ["worker-1", "worker-2", "api"])
def test_a_process_starts_when_all_is_prepared(services: dict[str, Service], name: str) -> None:
    assert set(services[name]["depends_on"]) == {"kafka", "postgres", "migrate", "topics"}


def test_each_worker_has_its_own_name_and_state(services: dict[str, Service]) -> None:
    workers = [service for service in ours(services).values() if service["command"] == ["worker"]]
    assert len({settings_of(worker).worker.instance_id for worker in workers}) == len(workers) == 2
    volumes = {volume for worker in workers for volume in worker["volumes"]}
    assert len(volumes) == 2
    assert {volume.split(":")[1] for volume in volumes} == {str(settings_of(workers[0]).worker.state_dir)}


def test_the_api_keeps_its_files_on_a_volume(services: dict[str, Service]) -> None:
    (volume,) = services["api"]["volumes"]
    files = settings_of(services["api"]).files
    for path in (Path(files.url), files.spool_dir):
        assert path.is_relative_to(volume.split(":")[1])


def test_every_volume_used_is_declared(services: dict[str, Service]) -> None:
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert used == set(yaml.safe_load(COMPOSE_TEXT)["volumes"])


# --- alerts ---


def metric_names() -> Iterator[str]:
    for family in Telemetry(CollectorRegistry()).registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count", ""], "info": ["_info"]}
        yield from (family.name + suffix for suffix in suffixes.get(family.type, [""]))


@pytest.mark.parametrize("path", ["alerts.yaml", "alerts_test.yaml", "README.md"])
def test_every_metric_named_exists(path: str) -> None:
    named = set(re.findall(r"\bhindsight_\w+", (MONITORING / path).read_text(encoding="utf-8")))
    assert named
    assert named <= set(metric_names())


def test_there_are_seven_alerts_and_the_page_knows_them(rules: list[dict[str, Any]]) -> None:
    assert {rule["alert"] for rule in rules} == ALERTS
    page = (MONITORING / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE)) == ALERTS


def test_every_alert_says_how_bad_what_and_which_command(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]
        assert re.search(r"`hindsight [a-z]+", rule["annotations"]["runbook"]), rule["alert"]


def test_every_alert_is_tested_firing_and_silent() -> None:
    cases = [
        case
        for test in yaml.safe_load((MONITORING / "alerts_test.yaml").read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == ALERTS
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == ALERTS


@pytest.fixture
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("promtool is missing; .ci/run installs it")
    if path is None:
        pytest.skip("promtool is not on PATH (Debian: package prometheus)")
    return path


@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]])
def test_promtool_agrees(promtool: str, arguments: list[str]) -> None:
    ran = subprocess.run(
        [promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
