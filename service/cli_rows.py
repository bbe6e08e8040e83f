"""The commands that look at single rows: `tail` and `explain`."""

import os
import sys
from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Annotated, Final

import typer
from rich.console import Console

from service import row_commands
from service.cli_output import AsJson, DeploymentArgument, instant, reporting, run_command
from service.domain.errors import Invalid
from service.rendering.row_life import life_lines
from service.rendering.status_line import gap_line, status_line
from service.usecases.row_life import encode_life
from service.usecases.status_stream import Gap, Told, Wanted, checked_words, document

_QUIET_S: Final = 2.0
_EVERY_S: Final = 0.5


def tail(
    deployment: Annotated[str | None, typer.Option(metavar="ID", help="Only of this deployment.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(metavar="STATUS", help="Only this one, such as MATCHED; may be repeated.")
    ] = None,
    row: Annotated[str | None, typer.Option(metavar="ROW_ID", help="Only of this row.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only of this partition.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Everything that the topic holds, too.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(parser=instant, metavar="INSTANT", help="From this processing time on."),
    ] = None,
    as_json: AsJson = False,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many.")] = None,
) -> None:
    """Show row statuses as they are published, until Ctrl-C."""
    with reporting():
        wanted = Wanted(
            deployment_id=deployment,
            row_id=row,
            words=checked_words(status or ()),
            partition=partition,
            since_ms=_start(from_beginning, since),
            limit=limit,
        )
    show = _shown_as_json if as_json else _shown_as_line()
    _until_nobody_listens(
        lambda: run_command(lambda settings: row_commands.tail(settings.kafka, wanted, show, sys.stdout.flush))
    )


def explain(
    deployment: DeploymentArgument,
    row: Annotated[str, typer.Argument(metavar="ROW_ID", help="Association ID, or a whole row ID such as job:j1:7.")],
    worker: Annotated[str | None, typer.Option(metavar="URL", help="Ask this worker, too, how the row stands.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the life of one row: what came, what it counted for, and what will become of it."""
    asked = row_commands.Asked(deployment_id=deployment, row_id=row, worker=worker)
    life = run_command(lambda settings: row_commands.explain(settings, asked, _progress_on_terminal()))
    if as_json:
        typer.echo(encode_life(life).decode())
        return
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for line in life_lines(life):
        console.print(line)


def _progress_on_terminal() -> Callable[[int, int], None]:
    """Tells on a terminal how much was read, once it takes a while."""
    started = told = monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        now = monotonic()
        if not sys.stderr.isatty() or now - started < _QUIET_S:
            return
        if now - told >= _EVERY_S or done == total:
            told = now
            end = "\n" if done == total else ""
            sys.stderr.write(f"\r{done:,} of {total:,} offsets read{end}")
            sys.stderr.flush()

    return progress


def _start(from_beginning: bool, since: datetime | None) -> int | None:
    if since is None:
        return 0 if from_beginning else None
    if from_beginning:
        raise Invalid("since: can not be given together with --from-beginning")
    return max(1, round(since.timestamp() * 1000))


def _shown_as_json(one: Told | Gap) -> None:
    if isinstance(one, Gap):
        _err().print(gap_line(one))
    else:
        sys.stdout.write(f"{document(one)}\n")


def _shown_as_line() -> Callable[[Told | Gap], None]:
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def show(one: Told | Gap) -> None:
        if isinstance(one, Gap):
            _err().print(gap_line(one))
        else:
            console.print(status_line(one))

    return show


def _err() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _until_nobody_listens(work: Callable[[], None]) -> None:
    """Ctrl-C and a reader that has gone (`| head`) are both a good end."""
    try:
        work()
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
