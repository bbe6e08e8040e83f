"""The command line: exit codes, what goes where, and no traceback for an expected fault."""

import json
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service import commands
from service.adapters.kafka.topics import Creation
from service.cli import app
from service.config import KafkaSettings, PostgresSettings, Settings
from service.devstack.errors import MissingSoftware
from service.domain.errors import Conflict
from service.domain.flood import Flood
from service.ports import Unavailable
from service.usecases.deployments import Applied

NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS", NOBODY)
    monkeypatch.setenv("HINDSIGHT_POSTGRES__DSN", f"postgresql://somebody:hidden@{NOBODY}/hindsight")


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert "Traceback" not in result.output
    return result


def module(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Any) -> None:
    """Put another module in the place of one that starts servers."""
    stand_in = ModuleType(name)
    stand_in.__dict__.update(functions)
    monkeypatch.setitem(sys.modules, name, stand_in)


def answer(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    async def stand_in(*_: object, **__: object) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(commands, name, stand_in)


def test_help_names_every_command() -> None:
    shown = run("--help").output
    names = (
        "up",
        "worker",
        "api",
        "migrate",
        "config",
        "topics",
        "deployments",
        "batches",
        "drift",
        "tail",
        "explain",
        "verify",
        "dlq",
        "resume",
    )
    for command in names:
        assert f" {command} " in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",), ("topics", "create"), ("up", "--broker", "rabbit"), ("up", "--rows", "0"),
        ("deployments", "baseline", "d"), ("deployments", "baseline", "d", "--from", "2026-01-01T00:00Z"),
        ("drift", "d", "--by", "year"), ("drift", "d", "--from", "2026-01-01"), ("drift", "d", "--to", "now"),
        ("drift", "d", "--baseline", "target"),
    ],
)  # fmt: skip
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate",), ("topics", "check"), ("topics", "create", "--partitions", "4"), ("deployments", "list"),
        ("deployments", "show", "d"), ("batches", "list", "d"), ("batches", "lock", "d", "b"),
        ("batches", "unlock", "d", "b"), ("batches", "delete", "d", "b"), ("drift", "d"),
        ("tail",), ("explain", "d", "r"),
        ("deployments", "baseline", "d", "--from", "2026-01-01T00:00Z", "--to", "2026-02-01T00:00Z"),
    ],
)  # fmt: skip
def test_the_other_side_is_down(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(("error: Postgres: ", "error: Kafka: "))


def test_wrong_settings_are_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDSIGHT_KAFKA__GROUP", "x")
    monkeypatch.setenv("HINDSIGHT_API__PORT", "x")
    for arguments in (("config",), ("topics", "check"), ("worker",), ("api",)):
        module(monkeypatch, "service.bootstrap", run_worker=None)
        module(monkeypatch, "service.bootstrap_api", run_api=None)
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert [line.split(":")[1].strip() for line in result.stderr.splitlines()] == [
            "HINDSIGHT_KAFKA__GROUP",
            "HINDSIGHT_API__PORT",
        ]


def test_config_masks_passwords() -> None:
    shown = run("config").stdout
    assert f"HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS={NOBODY}" in shown
    assert "hidden" not in shown
    assert json.loads(run("config", "--json").stdout)["HINDSIGHT_KAFKA__BOOTSTRAP_SERVERS"] == NOBODY


def test_migrate_says_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "migrate_database", commands.Migrated(before=None, after="0001"))
    assert run("migrate").stdout == "schema (none) -> 0001\n"
    answer(monkeypatch, "migrate_database", commands.Migrated(before="0001", after="0001"))
    assert run("migrate").stdout == "schema 0001 is there already\n"


def test_topics_create(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "create_topics", Creation(created=("a", "b"), problems=()))
    assert run("topics", "create", "--partitions", "4").stdout == "a created\nb created\n"
    answer(monkeypatch, "create_topics", Creation(created=(), problems=("c is wrong: mend it",)))
    result = run("topics", "create", "--partitions", "4")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "error: c is wrong: mend it\n")


def test_topics_check(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "check_topics", [])
    assert run("topics", "check").exit_code == 0
    answer(monkeypatch, "check_topics", ["one", "two"])
    result = run("topics", "check")
    assert (result.exit_code, result.stderr) == (1, "error: one\nerror: two\n")


def test_apply_tells_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("id: a b\nlabel: x\ntargetType: Regression\n")
    result = run("deployments", "apply", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.split(":")[1].strip() for line in result.stderr.splitlines()] == ["id", "model"]
    missing = run("deployments", "apply", str(tmp_path / "missing.yaml"))
    assert (missing.exit_code, "No such file" in missing.stderr) == (2, True)


def test_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "apply_deployment", Applied(deployment_id="d", version=3, created=False))
    assert run("deployments", "apply", "d.yaml").stdout == "deployment d changed, version 3\n"


ROW: dict[str, Any] = {
    "id": "d" * 128, "label": "[red]x", "origin": "events", "targetType": None, "modelId": "m", "version": 1,
    "createdAt": "2026-01-01T00:00:00+00:00", "batches": 0,
}  # fmt: skip


def test_lists_for_people_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "list_deployments", [ROW])
    assert json.loads(run("deployments", "list", "--json").stdout) == [ROW]
    shown = run("deployments", "list").stdout.splitlines()
    assert len(shown) == 2
    assert ROW["id"] in shown[1] and "[red]x" in shown[1]


def test_show_for_people_and_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "show_deployment", {"id": "d", "classNames": ["a"]})
    assert run("deployments", "show", "d").stdout == "id: d\nclassNames:\n- a\n"
    assert json.loads(run("deployments", "show", "d", "--json").stdout) == {"id": "d", "classNames": ["a"]}


def test_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    flood = Flood(runs={"actuals": 5_001, "predictions": 1}, paused_by="actuals")
    answer(monkeypatch, "resume", {3: flood, 1: flood})
    assert run("resume").stdout.splitlines() == [
        "partition 1 goes on after 5,001 undecodable records on actuals",
        "partition 3 goes on after 5,001 undecodable records on actuals",
    ]
    answer(monkeypatch, "resume", {})
    assert run("resume").stdout == "no partition is paused\n"
    answer(monkeypatch, "resume", Conflict("partition 2 is not paused"))
    result = run("resume", "--partition", "2")
    assert (result.exit_code, result.stderr) == (1, "error: partition 2 is not paused\n")


def test_wrong_places_and_filters_of_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (
        ("dlq", "show", "one"),
        ("dlq", "ls", "--reason", "no_reason"),
        ("dlq", "ls", "--since", "yesterday"),
        ("dlq", "replay"),
        ("dlq", "replay", "--limit", "3"),
        ("dlq", "replay", "0/1", "--partition", "0"),
        ("dlq", "replay", "0/1", "--all"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (2, ""), arguments
        assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1


def test_worker_and_api_are_handed_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    module(
        monkeypatch,
        "service.bootstrap",
        run_worker=lambda settings, *, stay: seen.append((settings, stay)),
    )
    module(monkeypatch, "service.bootstrap_api", run_api=seen.append)
    assert [run("worker").exit_code, run("worker", "--stay").exit_code, run("api").exit_code] == [0, 0, 0]
    (one, leaves), (other, stays), third = seen
    assert isinstance(one, Settings) and one == other == third
    assert (leaves, stays) == (False, True)


def test_a_worker_that_can_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(settings: Settings, *, stay: bool) -> None:
        raise Unavailable("Kafka: gone")

    module(monkeypatch, "service.bootstrap", run_worker=refuse)
    result = run("worker")
    assert (result.exit_code, result.stderr) == (1, "error: Kafka: gone\n")


def test_tasks_that_fail_together_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: Settings, *, stay: bool) -> None:
        raise ExceptionGroup(
            "tasks", [Unavailable("one"), ExceptionGroup("inner", [Unavailable("one"), OSError("two")])]
        )

    module(monkeypatch, "service.bootstrap", run_worker=fail)
    result = run("worker")
    assert (result.exit_code, result.stderr) == (1, "error: one\nerror: two\n")


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(settings: Settings, *, stay: bool) -> None:
        raise ExceptionGroup("tasks", [Unavailable("one"), KeyError("two")])

    module(monkeypatch, "service.bootstrap", run_worker=fail)
    assert isinstance(run("worker").exception, ExceptionGroup)


def test_up_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    module(monkeypatch, "service.devstack.up", run=lambda **options: seen.append(options))
    arguments = "--demo flights --rows 10 --speed 2.5 --exit-when-done --json --broker tansu --workers 2"
    assert run("up", *arguments.split(), "--data-dir", str(tmp_path)).exit_code == 0
    assert run("up").exit_code == 0
    assert seen[0] == {
        "demo": "flights", "rows": 10, "speed": 2.5, "exit_when_done": True, "json": True, "data_dir": tmp_path,
        "broker": "tansu", "workers": 2,
    }  # fmt: skip
    assert (seen[1]["demo"], seen[1]["broker"], seen[1]["workers"]) == (None, "auto", 1)


def test_up_without_the_software(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise MissingSoftware("Postgres is not installed: pip install it")

    module(monkeypatch, "service.devstack.up", run=refuse)
    result = run("up")
    assert (result.exit_code, result.stderr) == (1, "error: Postgres is not installed: pip install it\n")


async def test_the_short_commands_on_real_servers(database: str, tmp_path: Path) -> None:
    settings = PostgresSettings.model_validate({"dsn": database})
    demo = tmp_path / "flights.yaml"
    text = files("service.devstack.demo").joinpath("flights.yaml").read_text(encoding="utf-8")
    demo.write_text("\n".join(line for line in text.splitlines() if not line.startswith("baseline")))

    migrated = await commands.migrate_database(settings)
    applied = await commands.apply_deployment(settings, demo)

    assert migrated.before is None and migrated.after is not None
    assert (applied.deployment_id, applied.created) == ("flights", True)
    assert [one["id"] for one in await commands.list_deployments(settings)] == ["flights"]
    assert (await commands.show_deployment(settings, "flights"))["positiveClass"] == "late"
    assert await commands.list_batches(settings, "flights") == []


async def test_topics_of_nobody() -> None:
    with pytest.raises(Unavailable):
        await commands.check_topics(KafkaSettings(bootstrap_servers=NOBODY), partitions=None)
