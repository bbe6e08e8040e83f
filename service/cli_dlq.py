"""`hindsight dlq`: what was refused, and how it is sent again. Letters are shown as they are read."""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any

import orjson
import typer

from service import commands
from service.adapters.clock import SystemClock
from service.cli_output import FAILED, AsJson, print_json, run_command
from service.config import Settings
from service.domain.errors import Invalid
from service.rendering.plain import plain
from service.usecases import dead_letters as cases
from service.usecases.dead_letters import Letter, Progress, Wanted
from service.usecases.replay import Replay, Replayed

_TELL_EVERY_S = 2.0
_COLUMNS = "{:<14} {:<24} {:<22} {:<8} {:>8}  {:<44} {}"
_HEADINGS = ("place", "time", "reason", "replayed", "size", "source", "detail")

app = typer.Typer(help="Dead letters: the records that were refused.", no_args_is_help=True)

PartitionOption = Annotated[int | None, typer.Option(min=0, help="Only of this partition.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only those refused for this reason.")]
DeploymentOption = Annotated[str | None, typer.Option(help="Only those whose value names this deployment.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="INSTANT", help="Only records whose own Kafka timestamp is not before this.")
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="At most so many, oldest first in each partition.")]


@app.command("ls")
def ls(
    partition: PartitionOption = None,
    reason: ReasonOption = None,
    deployment: DeploymentOption = None,
    since: SinceOption = None,
    limit: LimitOption = None,
    as_json: AsJson = False,
) -> None:
    """The dead letters that are there now."""
    filters = partial(
        cases.wanted, (), partition=partition, reason=reason, deployment=deployment, since=since, limit=limit
    )
    shown = _JsonArray() if as_json else _Table()
    run_command(
        lambda settings: commands.list_dead_letters(settings.kafka, filters(), tell=shown.add, progress=_progress())
    )
    shown.end()


@app.command("show")
def show(
    place: Annotated[str, typer.Argument(metavar="PARTITION/OFFSET", help="Where it lies, as `ls` says.")],
    as_json: AsJson = False,
) -> None:
    """One dead letter, with everything that it holds."""
    found = run_command(
        lambda settings: commands.show_dead_letter(settings.kafka, cases.parse_place(place), _progress())
    )
    if as_json:
        print_json(cases.describe_whole(found))
    else:
        for line in _whole(cases.describe_whole(found)):
            typer.echo(line)


@app.command("replay")
def replay(
    places: Annotated[list[str] | None, typer.Argument(metavar="[PARTITION/OFFSET]...", help="These letters.")] = None,
    partition: PartitionOption = None,
    reason: ReasonOption = None,
    deployment: DeploymentOption = None,
    since: SinceOption = None,
    limit: LimitOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All that there are.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
) -> None:
    """Send dead letters again to where they came in, each once however often this is run."""
    filters = partial(
        cases.wanted, places or (), partition=partition, reason=reason, deployment=deployment, since=since, limit=limit
    )

    async def replayed(settings: Settings) -> Replayed:
        which = _some(filters(), everything)
        if not settings.kafka.transactions and not dry_run:
            typer.echo(f"warning: {commands.MAY_REPEAT}", err=True)
        return await commands.replay_dead_letters(
            settings.kafka, which, dry_run=dry_run, tell=partial(_tell, dry_run=dry_run), progress=_progress()
        )

    done = run_command(replayed)
    sent = "would be sent" if dry_run else "sent"
    typer.echo(f"{done.sent} {sent}, {done.before} were sent before, {done.refused} can not be sent")
    if places and done.refused:
        raise typer.Exit(FAILED)


def _some(which: Wanted, everything: bool) -> Wanted:
    """Nothing is sent by leaving something out."""
    if which.is_everything != everything:
        given = "--all stands alone" if everything else "nothing is named"
        raise Invalid(f"{given}: name places (PARTITION/OFFSET), or filters, or --all")
    return which


def _tell(one: Replay, *, dry_run: bool) -> None:
    if one.obstacle:
        typer.echo(f"{one.place} can not be sent: {plain(one.obstacle)}", err=True)
    elif dry_run:
        typer.echo(f"{one.place} would be sent to {one.topic}, partition {one.partition} ({one.size} bytes)")


class _Table:
    def __init__(self) -> None:
        self._is_begun = False

    def add(self, found: Letter) -> None:
        shown = cases.describe(found)
        source = "{topic}/{partition}/{offset}".format(**shown["source"])
        row = (shown["place"], _short(shown["timestamp"]), shown["reason"], _yes(shown["replayed"]), str(shown["size"]))
        if not self._is_begun:
            typer.echo(_COLUMNS.format(*_HEADINGS))
        self._is_begun = True
        typer.echo(_COLUMNS.format(*row, plain(source), plain(shown["detail"])))

    def end(self) -> None:
        if not self._is_begun:
            typer.echo("there are no such dead letters", err=True)


class _JsonArray:
    """One array, an element a line."""

    def __init__(self) -> None:
        self._before = "["

    def add(self, found: Letter) -> None:
        typer.echo(f"{self._before}{orjson.dumps(cases.describe(found)).decode()}", nl=False)
        self._before = ",\n"

    def end(self) -> None:
        typer.echo("[]" if self._before == "[" else "]")


def _whole(shown: Mapping[str, Any]) -> Iterator[str]:
    for name in ("place", "timestamp", "reason", "detail", "deploymentId", "size", "truncated"):
        if shown[name] is not None:
            yield f"{name}: {plain(str(shown[name]))}"
    yield "source: {topic}, partition {partition}, offset {offset}".format(**shown["source"])
    yield f"replayed: {_yes(shown['replayed'])}"
    for header in shown["headers"]:
        yield f"header {plain(header['name'])}: {plain(_content(header))}"
    yield f"key: {plain(_content(shown['key']))}"
    yield "value:"
    yield from map(plain, _content(shown["value"]).split("\n"))


def _content(shown: Mapping[str, str | None]) -> str:
    if "hex" in shown:
        return f"(hex) {shown['hex']}"
    return "(null)" if shown["text"] is None else shown["text"]


def _short(instant: str) -> str:
    """To the millisecond, which is all that Kafka has."""
    return f"{instant[:-4]}Z"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _progress() -> Progress:
    """Tells on standard error how far it is, when that takes long."""
    clock = SystemClock()
    told_at = clock.monotonic()
    end = "\r" if sys.stderr.isatty() else "\n"

    def tell(read: int, total: int) -> None:
        nonlocal told_at
        if clock.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = clock.monotonic()
            typer.echo(f"read {read:,} of {total:,} records{end}", err=True, nl=False)

    return tell
