"""The schema from nothing to head, on a real Postgres."""

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import NotAdmitted
from service.adapters.postgres.schema import NotMigrated, assert_migrated, head_revision, schema_revision
from service.ports import Unavailable

TABLES = {
    "accuracy_cells", "alembic_version", "baselines", "clocks", "deletions", "deployments", "ledger", "ledger_identity",
    "models", "monitoring_batches", "outbox", "outbox_slots", "prediction_cells", "submission_counts", "submissions",
}  # fmt: skip


async def fetch(dsn: str, query: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_from_nothing_and_a_second_time(database: str) -> None:
    assert await schema_revision(database) is None

    await migrate(database)
    await migrate(database)

    assert await schema_revision(database) == head_revision()
    assert TABLES <= set(await fetch(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    await assert_migrated(database)


async def test_several_at_once(database: str) -> None:
    await asyncio.gather(*(migrate(database) for _ in range(4)))
    await assert_migrated(database)


async def test_an_empty_database_is_refused_with_what_mends_it(database: str) -> None:
    with pytest.raises(NotMigrated, match=f"no schema, this version needs {head_revision()}; run: hindsight migrate"):
        await assert_migrated(database)


async def test_a_newer_schema_is_refused(database: str) -> None:
    await migrate(database)
    await fetch(database, "UPDATE alembic_version SET version_num = '9999' RETURNING version_num")
    with pytest.raises(NotMigrated, match="9999, which this version does not know"):
        await assert_migrated(database)


async def test_no_server_no_database_no_password(database: str) -> None:
    refused = database.rsplit("/", 1)[0]
    with pytest.raises(NotAdmitted, match="does not exist"):
        await migrate(f"{refused}/nothing")
    with pytest.raises(NotAdmitted, match="does not exist"):
        await assert_migrated(f"{refused}/nothing")
    with pytest.raises(Unavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/nothing")


async def test_works_from_an_installed_package_outside_the_checkout(database: str, tmp_path: Path) -> None:
    """Built and installed as a wheel's files would be, imported from there, in another directory."""
    wheel = tmp_path / "installed"
    await _copy_package(wheel)
    script = (
        "import asyncio, sys, service; from service.adapters.postgres.migrate import migrate\n"
        "from service.adapters.postgres.schema import assert_migrated\n"
        f"assert service.__file__.startswith({str(wheel)!r}), service.__file__\n"
        "asyncio.run(migrate(sys.argv[1])); asyncio.run(assert_migrated(sys.argv[1]))"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, database],
        cwd=tmp_path,
        env={"PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def _copy_package(target: Path) -> None:
    """Every file of the package that a wheel carries, as a zip-safe copy."""
    import shutil

    import service

    source = Path(str(service.__file__)).parent
    await asyncio.to_thread(shutil.copytree, source, target / "service", ignore=shutil.ignore_patterns("__pycache__"))
