"""Bring the database to the schema of this version, and tell whether it is there.

Two that migrate at once are safe: the second waits for an advisory lock and finds nothing left to do.
"""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from service.adapters.postgres.pool import CONNECT_WITHIN, open_connection, translating

APPLICATION: Final = "hindsight-migrate"
_LOCK: Final = 0x48494E44
"""Key of the advisory lock; the keys of `locks.py` are pairs, which Postgres keeps apart from single ones."""


class NotMigrated(Exception):
    """The database has another schema than this version needs."""


async def migrate(dsn: str) -> None:
    """Upgrade to the newest schema; nothing happens where it is there. Raises `Unavailable` or `NotAdmitted`."""
    with translating(), as_file(files(__package__).joinpath("migrations")) as scripts:
        engine = _engine(dsn)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_upgrade, scripts)
        except DBAPIError as error:
            raise _driver_fault(error) from error
        finally:
            await engine.dispose()


async def schema_revision(dsn: str) -> str | None:
    """Revision of the database's schema; None for a database that was never migrated."""
    async with open_connection(dsn, application_name=APPLICATION) as connection:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return revision


def head_revision() -> str:
    """Revision of the schema that this version needs."""
    with as_file(files(__package__).joinpath("migrations")) as scripts:
        head = ScriptDirectory(str(scripts)).get_current_head()
    if head is None:
        raise RuntimeError("there are no migrations in this installation")
    return head


async def assert_migrated(dsn: str) -> None:
    """Raises `NotMigrated` with what to do where the schema is not the one that this version needs."""
    found, needed = await schema_revision(dsn), head_revision()
    if found == needed:
        return
    if found is not None and not _is_known(found):
        raise NotMigrated(f"the database has schema {found}, which this version does not know: run a newer hindsight")
    raise NotMigrated(f"the database has {_named(found)}, this version needs {needed}; run: hindsight migrate")


def _engine(dsn: str) -> AsyncEngine:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, timeout=CONNECT_WITHIN, server_settings={"application_name": APPLICATION})

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


def _upgrade(connection: Connection, scripts: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
    connection.commit()
    command.upgrade(config, "head")
    connection.commit()


def _driver_fault(error: DBAPIError) -> BaseException:
    """What asyncpg raised, before SQLAlchemy wrapped it."""
    return (error.orig and error.orig.__cause__) or error


def _is_known(revision: str) -> bool:
    with as_file(files(__package__).joinpath("migrations")) as scripts:
        return revision in {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}


def _named(revision: str | None) -> str:
    return "no schema" if revision is None else f"schema {revision}"
