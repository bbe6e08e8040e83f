"""`hindsight verify`: are the numbers in Postgres what was published?"""

import sys
from datetime import datetime
from time import monotonic
from typing import Annotated, Final

import typer

from service import verify_commands
from service.cli_output import FAILED, WRONG, AsJson, instant, print_rows, run_command
from service.rendering.verification import COLUMNS, difference_rows, summary_lines
from service.usecases.verification import Asked, Progress, Verified, encode_verified

_QUIET_S: Final = 2.0
_EVERY_S: Final = 0.5
_LINE_EVERY_S: Final = 10.0
"""Where standard error is no terminal."""


def verify(
    deployment: Annotated[str | None, typer.Option(metavar="ID", help="Only figures of this deployment.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this task.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(parser=instant, metavar="INSTANT", help="Only hours from this one on; reads less."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Work the statistics out again from the status topic, and compare.

    Exit codes: 0 equal, as far as could be checked; 1 something differs; 2 it could not be done.
    """
    start = None if since is None else round(since.timestamp() * 1_000_000)
    asked = Asked(deployment_id=deployment, partition=partition, since=start)
    found = _found(asked)
    if as_json:
        typer.echo(encode_verified(found).decode())
    else:
        if rows := difference_rows(found):
            print_rows(rows, COLUMNS, as_json=False)
        for line in summary_lines(found):
            typer.echo(line)
    if not found.equal:
        raise typer.Exit(FAILED)


def _found(asked: Asked) -> Verified:
    try:
        return run_command(lambda settings: verify_commands.verify(settings, asked, _progress()))
    except typer.Exit:
        raise typer.Exit(WRONG) from None  # 1 says that something differs


def _progress() -> Progress:
    """Tells how much was read, once it takes a while."""
    started = told = monotonic()

    def progress(task: int, done: int, total: int) -> None:
        nonlocal told
        now, terminal = monotonic(), sys.stderr.isatty()
        if now - started < _QUIET_S or now - told < (_EVERY_S if terminal else _LINE_EVERY_S):
            return
        told = now
        line = f"task {task}: {done:,} of {total:,} offsets read"
        end = "" if done < total else "\n"
        sys.stderr.write(f"\r{line:<60}{end}" if terminal else f"{line}\n")
        sys.stderr.flush()

    return progress
