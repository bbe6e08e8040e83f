"""The command line. Standard output holds what was asked for, standard error everything else.

Exit codes: 0 done; 1 it could not be done (the other side is down, an object is not there); 2 the question was wrong
(arguments, settings, a description). Of `verify`, 1 says that figures differ, and 2 everything else. An expected fault
is told in lines that name what to do, never by a traceback.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import yaml

from service import cli_access, cli_alerts, cli_dlq, cli_rows, cli_verify, commands
from service.cli_output import (
    AsJson,
    DeploymentArgument,
    exit_with,
    instant,
    print_json,
    print_rows,
    reporting,
    run_command,
)
from service.config import describe, settings_from_environment
from service.usecases.drift import BaselineKind, DriftQuestion
from service.usecases.statistics import Grouping

ModelOption = Annotated[str | None, typer.Option(metavar="MODEL", help="Model ID; else the current one.")]
FROM = typer.Option("--from", parser=instant, metavar="INSTANT", help="First hour, such as 2026-05-01T00:00Z.")
TO = typer.Option("--to", parser=instant, metavar="INSTANT", help="The hour after the last.")
BatchArgument = Annotated[str, typer.Argument(metavar="BATCH", help="Monitoring batch ID.")]

DRIFT_COLUMNS = (
    "bucket", "feature", "n", "m", "psi", "klDivergence", "jsDivergence", "hellinger", "dissimilarity", "wasserstein",
    "energy",
)  # fmt: skip

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
app.command()(cli_alerts.alerts)
app.command()(cli_rows.tail)
app.command()(cli_rows.explain)
app.command()(cli_verify.verify)
app.add_typer(cli_dlq.app, name="dlq")
app.add_typer(cli_access.users_app, name="users")
app.add_typer(cli_access.tokens_app, name="tokens")


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

    with reporting():
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

    with reporting():
        run_worker(settings_from_environment(), stay=stay)


@app.command()
def api() -> None:
    """Serve HTTP, until told to stop."""
    from service.bootstrap_api import run_api  # noqa: PLC0415

    with reporting():
        run_api(settings_from_environment())


# ------------------------------------------------------------------------------------------- the short ones


@app.command()
def resume(
    partition: Annotated[int | None, typer.Option(min=0, help="Only this one; else all that are paused.")] = None,
) -> None:
    """Let partitions go on that a flood of undecodable records has paused."""
    resumed = run_command(lambda settings: commands.resume(settings.postgres, partition))
    for task, flood in sorted(resumed.items()):
        typer.echo(f"partition {task} goes on after {flood.records:,} undecodable records on {flood.paused_by}")
    if not resumed:
        typer.echo("no partition is paused")


@app.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    migrated = run_command(lambda settings: commands.migrate_database(settings.postgres))
    if migrated.before == migrated.after:
        typer.echo(f"schema {migrated.after} is there already")
    else:
        typer.echo(f"schema {migrated.before or '(none)'} -> {migrated.after}")


@app.command()
def config(as_json: AsJson = False) -> None:
    """The settings in effect, passwords masked."""
    with reporting():
        shown = describe(settings_from_environment())
    if as_json:
        print_json(shown)
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
    creation = run_command(
        lambda settings: commands.create_topics(
            settings.kafka, partitions=partitions, replication_factor=replication_factor, min_insync=min_insync
        )
    )
    for name in creation.created:
        typer.echo(f"{name} created")
    exit_with(creation.problems)
    if not creation.created:
        typer.echo("all topics are there already, and as they must be")


@topics_app.command("check")
def topics_check(
    partitions: Annotated[int | None, typer.Option(min=1, help="Partitions that there must be.")] = None,
) -> None:
    """Tell what is wrong with the topics, and what mends it."""
    exit_with(run_command(lambda settings: commands.check_topics(settings.kafka, partitions=partitions)))
    typer.echo("all topics are as they must be")


@deployments_app.command("apply")
def deployments_apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The deployment's description.")],
) -> None:
    """Register a deployment, or make the one of that ID what the file describes."""
    applied = run_command(lambda settings: commands.apply_deployment(settings.postgres, file))
    done = "created" if applied.created else "changed"
    typer.echo(f"deployment {applied.deployment_id} {done}, version {applied.version}")


@deployments_app.command("list")
def deployments_list(as_json: AsJson = False) -> None:
    """Every deployment."""
    found = run_command(lambda settings: commands.list_deployments(settings.postgres))
    print_rows(found, ("id", "label", "targetType", "modelId", "batches", "version", "origin"), as_json=as_json)


@deployments_app.command("show")
def deployments_show(deployment: DeploymentArgument, as_json: AsJson = False) -> None:
    """One deployment, in the words of its description."""
    shown = run_command(lambda settings: commands.show_deployment(settings.postgres, deployment))
    if as_json:
        print_json(shown)
    else:
        plain = orjson.loads(orjson.dumps(shown))
        typer.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False)


@deployments_app.command("baseline")
def deployments_baseline(
    deployment: DeploymentArgument,
    start: Annotated[datetime, FROM],
    end: Annotated[datetime, TO],
    model: ModelOption = None,
) -> None:
    """Make a period of live data a baseline of its model, in the place of an earlier such one."""
    fixed = run_command(
        lambda settings: commands.fix_baseline(settings.postgres, deployment, start=start, end=end, model_id=model)
    )
    typer.echo(f"baseline {fixed.kind} of model {fixed.model_id}: {fixed.counted.rows:,} rows, version {fixed.version}")


@app.command()
def drift(  # noqa: PLR0913
    deployment: DeploymentArgument,
    by: Annotated[Grouping, typer.Option(help="A table of its own for each.")] = Grouping.ALL,
    start: Annotated[datetime | None, FROM] = None,
    end: Annotated[datetime | None, TO] = None,
    batch: Annotated[str | None, typer.Option(metavar="BATCH", help="Rows of this monitoring batch only.")] = None,
    model: ModelOption = None,
    baseline: Annotated[BaselineKind, typer.Option(help="What to compare with.")] = BaselineKind.TRAINING,
    as_json: AsJson = False,
) -> None:
    """How far each feature has moved from the baseline, the worst first."""
    asked = DriftQuestion(
        deployment_id=deployment, model_id=model, start=start, end=end, by=by, batch_id=batch, baseline=baseline
    )
    found = run_command(lambda settings: commands.show_drift(settings.postgres, asked))
    if as_json:
        print_json(found)
        return
    print_rows(list(_drift_rows(found)), DRIFT_COLUMNS[by is Grouping.ALL :], as_json=False)


@batches_app.command("list")
def batches_list(deployment: DeploymentArgument, as_json: AsJson = False) -> None:
    """Every monitoring batch of a deployment, oldest first."""
    found = run_command(lambda settings: commands.list_batches(settings.postgres, deployment))
    columns = ("id", "batchName", "isLocked", "predictionsCount", "earliestPredictionTimestamp", "origin")
    print_rows(found, columns, as_json=as_json)


@batches_app.command("lock")
def batches_lock(deployment: DeploymentArgument, batch: BatchArgument) -> None:
    """Let no further row join."""
    run_command(lambda settings: commands.lock_batch(settings.postgres, deployment, batch))
    typer.echo(f"batch {batch} is locked")


@batches_app.command("unlock")
def batches_unlock(deployment: DeploymentArgument, batch: BatchArgument) -> None:
    """Let rows join again."""
    run_command(lambda settings: commands.unlock_batch(settings.postgres, deployment, batch))
    typer.echo(f"batch {batch} is unlocked")


@batches_app.command("delete")
def batches_delete(deployment: DeploymentArgument, batch: BatchArgument) -> None:
    """Delete a batch and the statistics of its rows."""
    run_command(lambda settings: commands.delete_batch(settings.postgres, deployment, batch))
    typer.echo(f"batch {batch} is deleted")


def _drift_rows(drift: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for bucket in drift["buckets"]:
        for feature in bucket["features"]:
            figures = {name: f"{value:.4f}" for name, value in feature.items() if isinstance(value, float)}
            yield {"bucket": bucket["bucket"]} | feature | figures
