"""Around every command: it runs, what it was asked for goes to standard output, and faults are told and given a code.

Exit codes and the manner of telling stand on top of `cli.py`.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from service.adapters.postgres.pool import NotAdmitted, UnsafeSession
from service.adapters.postgres.schema import NotMigrated
from service.config import Settings, SettingsError, settings_from_environment
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


def run_command(command: Callable[[Settings], Coroutine[Any, Any, Result]]) -> Result:
    """Run a short command under the settings of the environment, expected faults told and turned into exit codes."""
    for library in ("aiokafka", "asyncio"):  # what they would say, of futures too, is told once, at the end
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with reporting():
        return asyncio.run(command(settings_from_environment()))


@contextmanager
def reporting() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        _tell(error.problems)
        raise typer.Exit(WRONG) from None
    except BrokenPipeError:  # whoever read standard output has gone, which the command may call a good end
        raise
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


def exit_with(problems: Sequence[str]) -> None:
    if problems:
        _tell(problems)
        raise typer.Exit(FAILED)


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(f"error: {line}", err=True)


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    table = Table(*(Column(name, overflow="fold") for name in columns), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("" if row[column] is None else str(row[column])) for column in columns))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else UNBOUND_WIDTH).print(table)


def print_json(value: object) -> None:
    typer.echo(orjson.dumps(value).decode())


def instant(text: str) -> datetime:
    """An argument that is an instant; without an offset it would mean another one on another machine."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} must be an instant with its offset, such as 2026-05-01T00:00Z")
    return at
