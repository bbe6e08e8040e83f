"""Bring the database to the schema of this version.

Two that migrate at once are safe: the second waits for an advisory lock and finds nothing left to do.
"""

from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from service.adapters.postgres.pool import CONNECT_WITHIN, translating
from service.adapters.postgres.schema import APPLICATION, SCRIPTS

_LOCK: Final = 0x48494E44
"""Key of the advisory lock; the keys of `locks.py` are pairs, which Postgres keeps apart from single ones."""


async def migrate(dsn: str) -> None:
    """Upgrade to the newest schema; nothing happens where it is there. Raises `Unavailable` or `NotAdmitted`."""
    with translating(), as_file(files(__package__).joinpath(SCRIPTS)) as scripts:
        engine = _engine(dsn)
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_upgrade, scripts)
        except DBAPIError as error:
            raise _driver_fault(error) from error
        finally:
            await engine.dispose()


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
