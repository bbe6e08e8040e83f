"""Which schema the database has, and whether it is the one of this version.

Apart from `migrate`, whose libraries take a third of a second to load: a worker that restarts needs none of them.
"""

from importlib.resources import files
from typing import Final

from service.adapters.postgres.pool import open_connection

APPLICATION: Final = "hindsight-migrate"
SCRIPTS: Final = "migrations"


class NotMigrated(Exception):
    """The database has another schema than this version needs."""


def revisions() -> list[str]:
    """Of the schemas that this version knows, oldest first: what the names of the migrations begin with."""
    names = [script.name for script in files(__package__).joinpath(SCRIPTS, "versions").iterdir()]
    return sorted(name.partition("_")[0] for name in names if name[0].isdigit() and name.endswith(".py"))


def head_revision() -> str:
    """Of the schema that this version needs."""
    return revisions()[-1]


async def schema_revision(dsn: str) -> str | None:
    """Revision of the database's schema; None for a database that was never migrated."""
    async with open_connection(dsn, application_name=APPLICATION) as connection:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return revision


async def assert_migrated(dsn: str) -> None:
    """Raises `NotMigrated` with what to do where the schema is not the one that this version needs."""
    found, needed = await schema_revision(dsn), head_revision()
    if found == needed:
        return
    if found is not None and found not in revisions():
        raise NotMigrated(f"the database has schema {found}, which this version does not know: run a newer hindsight")
    named = "no schema" if found is None else f"schema {found}"
    raise NotMigrated(f"the database has {named}, this version needs {needed}; run: hindsight migrate")
