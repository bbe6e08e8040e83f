"""The command line. Standard output holds what was asked for, standard error everything else.

Exit codes: 0 done; 1 it could not be done (the other side is down, an object is not there); 2 the question was wrong
(arguments, settings, a description). An expected fault is told in lines that name what to do, never by a traceback.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer
import yaml
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from service import commands
from service.adapters.postgres.migrate import NotMigrated
from service.adapters.postgres.pool import NotAdmitted, UnsafeSession
from service.config import Settings, SettingsError, describe, settings_from_environment
from service.devstack.errors import DevStackError
from service.domain.errors import DomainError, Invalid
from service.ports import LedgerMismatch, Unavailable

FAILED = 1
WRONG = 2
UNBOUND_WIDTH = 1_000
"""Of a table that goes into a pipe or a file, where lines must not be folded."""
_FAULTS = (Unavailable, NotAdmitted, UnsafeSession, NotMigrated, LedgerMismatch, DevStackError, DomainError, OSError)

Result = TypeVar("Result")
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
DeploymentArgument = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Deployment ID.")]
BatchArgument = Annotated[str, typer.Argument(metavar="BATCH", help="Monitoring batch ID.")]

app = typer.Typer(
    name="hindsight",
    help="What a model's predictions were worth, once the truth arrives.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
deployments_app = typer.Typer(help="The deployments that are monitored.", no_args_is_help=True)
batches_app = typer.Typer(help="Monitoring batches.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(deployments_app, name="deployments")
app.add_typer(batches_app, name="batches")


def main() -> None:
    """Entry point of `hindsight`."""
    app()


# -------------------------------------------------------------------------------------------- the long ones


class Broker(StrEnum):
    AUTO = "auto"
    KAFKA = "kafka"
    TANSU = "tansu"


class Demo(StrEnum):
    FLIGHTS = "flights"


@app.command()
def up(
    demo: Annotated[Demo | None, typer.Option(help="Replay these events as if they happened now.")] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Replay only so many rows.")] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds of the demo in one of ours; else all at once.")
    ] = None,
    exit_when_done: Annotated[bool, typer.Option("--exit-when-done", help="End after the last status.")] = False,
    as_json: AsJson = False,
    data_dir: Annotated[Path, typer.Option(help="Where the servers keep their data.")] = Path(".hindsight"),
    broker: Annotated[Broker, typer.Option(help="Which broker to start.")] = Broker.AUTO,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
) -> None:
    """Everything on this machine: broker, database, workers and API, for a first look."""
    from service.devstack.up import run  # noqa: PLC0415

    with _reporting():
        run(
            demo=demo.value if demo else None,
            rows=rows,
            speed=speed,
            exit_when_done=exit_when_done,
            json=as_json,
            data_dir=data_dir,
            broker=broker.value,
            workers=workers,
        )


@app.command()
def worker(
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep the place in the group on exit, for a quick restart.")
    ] = False,
) -> None:
    """Join, count and publish, until told to stop."""
    from service.bootstrap import run_worker  # noqa: PLC0415

    with _reporting():
        run_worker(settings_from_environment(), stay=stay)


@app.command()
def api() -> None:
    """Serve HTTP, until told to stop."""
    from service.bootstrap import run_api  # noqa: PLC0415

    with _reporting():
        run_api(settings_from_environment())


# ------------------------------------------------------------------------------------------- the short ones


@app.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    migrated = _run(lambda settings: commands.migrate_database(settings.postgres))
    if migrated.before == migrated.after:
        typer.echo(f"schema {migrated.after} is there already")
    else:
        typer.echo(f"schema {migrated.before or '(none)'} -> {migrated.after}")


@app.command()
def config(as_json: AsJson = False) -> None:
    """The settings in effect, passwords masked."""
    with _reporting():
        shown = describe(settings_from_environment())
    if as_json:
        _print_json(shown)
        return
    for name, value in shown.items():
        typer.echo(f"{name}={'' if value is None else value}")


@topics_app.command("create")
def topics_create(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each topic; not to be changed later.")],
    replication_factor: Annotated[
        int | None, typer.Option(min=1, help="Copies; three where there are three brokers.")
    ] = None,
    min_insync: Annotated[
        int | None, typer.Option(min=1, help="Copies that must have a record; else one less.")
    ] = None,
) -> None:
    """Create the topics that are missing, and check the others."""
    creation = _run(
        lambda settings: commands.create_topics(
            settings.kafka, partitions=partitions, replication_factor=replication_factor, min_insync=min_insync
        )
    )
    for name in creation.created:
        typer.echo(f"{name} created")
    _exit_with(creation.problems)
    if not creation.created:
        typer.echo("all topics are there already, and as they must be")


@topics_app.command("check")
def topics_check(
    partitions: Annotated[int | None, typer.Option(min=1, help="Partitions that there must be.")] = None,
) -> None:
    """Tell what is wrong with the topics, and what mends it."""
    _exit_with(_run(lambda settings: commands.check_topics(settings.kafka, partitions=partitions)))
    typer.echo("all topics are as they must be")


@deployments_app.command("apply")
def deployments_apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The deployment's description.")],
) -> None:
    """Register a deployment, or make the one of that ID what the file describes."""
    applied = _run(lambda settings: commands.apply_deployment(settings.postgres, file))
    done = "created" if applied.created else "changed"
    typer.echo(f"deployment {applied.deployment_id} {done}, version {applied.version}")


@deployments_app.command("list")
def deployments_list(as_json: AsJson = False) -> None:
    """Every deployment."""
    found = _run(lambda settings: commands.list_deployments(settings.postgres))
    _print_rows(found, ("id", "label", "targetType", "modelId", "batches", "version", "origin"), as_json=as_json)


@deployments_app.command("show")
def deployments_show(deployment: DeploymentArgument, as_json: AsJson = False) -> None:
    """One deployment, in the words of its description."""
    shown = _run(lambda settings: commands.show_deployment(settings.postgres, deployment))
    if as_json:
        _print_json(shown)
    else:
        plain = orjson.loads(orjson.dumps(shown))
        typer.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


@batches_app.command("list")
def batches_list(deployment: DeploymentArgument, as_json: AsJson = False) -> None:
    """Every monitoring batch of a deployment, oldest first."""
    found = _run(lambda settings: commands.list_batches(settings.postgres, deployment))
    columns = ("id", "batchName", "isLocked", "predictionsCount", "earliestPredictionTimestamp", "origin")
    _print_rows(found, columns, as_json=as_json)


@batches_app.command("lock")
def batches_lock(deployment: DeploymentArgument, batch: BatchArgument) -> None:
    """Let no further row join."""
    _run(lambda settings: commands.lock_batch(settings.postgres, deployment, batch))
    typer.echo(f"batch {batch} is locked")


@batches_app.command("unlock")
def batches_unlock(deployment: DeploymentArgument, batch: BatchArgument) -> None:
    """Let rows join again."""
    _run(lambda settings: commands.unlock_batch(settings.postgres, deployment, batch))
    typer.echo(f"batch {batch} is unlocked")


@batches_app.command("delete")
def batches_delete(deployment: DeploymentArgument, batch: BatchArgument) -> None:
    """Delete a batch and the statistics of its rows."""
    _run(lambda settings: commands.delete_batch(settings.postgres, deployment, batch))
    typer.echo(f"batch {batch} is deleted")


# ------------------------------------------------------------------------------------------------- plumbing


def _run(command: Callable[[Settings], Coroutine[Any, Any, Result]]) -> Result:
    """Run a short command under the settings of the environment, expected faults told and turned into exit codes."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is told once, at the end
    with _reporting():
        return asyncio.run(command(settings_from_environment()))


@contextmanager
def _reporting() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        _tell(error.problems)
        raise typer.Exit(WRONG) from None
    except _FAULTS as error:
        _tell(_lines(error))
        raise typer.Exit(WRONG if isinstance(error, Invalid) else FAILED) from None
    except ExceptionGroup as group:  # of tasks that failed together
        _, unexpected = group.split(_FAULTS)
        if unexpected is not None:
            raise
        _tell(list(dict.fromkeys(line for fault in _leaves(group) for line in _lines(fault))))
        raise typer.Exit(FAILED) from None


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for fault in group.exceptions:
        if isinstance(fault, ExceptionGroup):
            yield from _leaves(fault)
        else:
            yield fault


def _lines(fault: Exception) -> list[str]:
    return str(fault).splitlines() or [type(fault).__name__]


def _exit_with(problems: Sequence[str]) -> None:
    if problems:
        _tell(problems)
        raise typer.Exit(FAILED)


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(f"error: {line}", err=True)


def _print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    table = Table(*(Column(name, overflow="fold") for name in columns), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if row[column] is None else str(row[column])) for column in columns))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNBOUND_WIDTH).print(table)


def _print_json(value: object) -> None:
    typer.echo(orjson.dumps(value).decode())
