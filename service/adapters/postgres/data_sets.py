"""Data sets on Postgres. Whoever deletes one holds its row, and so does whoever begins to read it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg

from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.usecases.data_sets import DataSet, key_of
from service.usecases.tables import Format, Outline

_ADD: Final = statement("data_set_add")
_ADD_VERSION: Final = statement("data_set_add_version")
_FIND: Final = statement("data_set_find")
_LIST: Final = statement("data_set_list")
_COUNT: Final = statement("data_set_count")
_HOLD: Final = statement("data_set_hold")
_IS_READ: Final = statement("data_set_is_read")
_DELETE: Final = statement("data_set_delete")
_NOTE_READER: Final = statement("data_set_note_reader")
_VERSIONS: Final = statement("data_set_versions_known")


class PostgresDataSets:
    """`service.usecases.data_sets.DataSets` on Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def add(self, data_set: DataSet, organisation: str, *, name: str | None) -> DataSet | None:
        table = data_set.table
        version = (data_set.version_id, table.format, data_set.rows, list(table.columns), data_set.size_bytes)
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                made = (data_set.id, organisation, data_set.name, data_set.created_at, name)
                if await connection.fetchval(_ADD, *made) is None:
                    return None
                await connection.execute(
                    _ADD_VERSION, data_set.id, *version, data_set.created_at, dict(data_set.created_by)
                )
                return _data_set(await connection.fetchrow(_FIND, organisation, data_set.id, data_set.version_id))

    async def find(self, organisation: str, data_set_id: str, version_id: str | None = None) -> DataSet | None:
        if "\0" in data_set_id + (version_id or ""):
            return None
        with translating():
            row = await self._pool.fetchrow(_FIND, organisation, data_set_id, version_id)
        return None if row is None else _data_set(row)

    async def listed(self, organisation: str, *, offset: int, limit: int) -> tuple[Sequence[DataSet], int]:
        with translating():
            async with self._pool.acquire() as connection:
                rows = await connection.fetch(_LIST, organisation, offset, limit)
                total: int = await connection.fetchval(_COUNT, organisation)
        return [_data_set(row) for row in rows], total

    async def delete(self, data_set_id: str) -> Sequence[str] | None:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.fetchval(_HOLD, data_set_id)
                if await connection.fetchval(_IS_READ, data_set_id):
                    return None
                return [row["id"] for row in await connection.fetch(_DELETE, data_set_id)]

    async def note_reader(self, data_set_id: str, task_id: str) -> bool:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(_HOLD, data_set_id) is None:
                    return False
                await connection.execute(_NOTE_READER, data_set_id, task_id)
                return True

    async def known(self, keys: Sequence[str]) -> set[str]:
        pairs = {key: key.split("/")[1:] for key in keys if key.count("/") == 2}
        with translating():
            rows = await self._pool.fetch(
                _VERSIONS, [pair[0] for pair in pairs.values()], [pair[1] for pair in pairs.values()]
            )
        return {key_of(row["data_set_id"], row["id"]) for row in rows}


def _data_set(row: Mapping[str, Any]) -> DataSet:
    return DataSet(
        id=row["data_set_id"],
        version_id=row["id"],
        name=row["name"],
        table=Outline(format=Format(row["format"]), columns=tuple(row["columns"])),
        rows=row["rows"],
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
        created_by=row["created_by"],
    )
