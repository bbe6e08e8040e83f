"""Data sets: files of rows that an organisation keeps here, each with its versions.

The file is kept first, then the version is noted, so a version that is listed can be read. The other way round with
deletions. What a process that dies in between leaves is a file without a version; `sweep` deletes those.

A token that is confined to deployments sees no data set: none is a part of one deployment.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from service.domain.errors import Conflict, Invalid, NotFound
from service.usecases.access import Principal
from service.usecases.files import Files
from service.usecases.object_ids import new_object_id
from service.usecases.tables import Outline, UnreadableTable, count_rows, outline

UNFINISHED_FOR: Final = timedelta(days=1)
"""Longer than any file takes to come in."""
_MAX_NAME: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set in one of its versions."""

    id: str
    version_id: str
    name: str
    table: Outline
    rows: int
    size_bytes: int
    created_at: datetime
    created_by: Mapping[str, str]

    @property
    def key(self) -> str:
        """Of its file."""
        return key_of(self.id, self.version_id)


class DataSets(Protocol):
    """Where data sets are noted. Every method may raise `Unavailable`."""

    async def add(self, data_set: DataSet, organisation: str, *, name: str | None) -> DataSet | None:
        """As a version of its data set, which is made where it is new, and takes this name where one is given.

        None where that data set was deleted, or is of another organisation.
        """

    async def find(self, organisation: str, data_set_id: str, version_id: str | None = None) -> DataSet | None:
        """In this version, or the newest."""

    async def listed(self, organisation: str, *, offset: int, limit: int) -> tuple[Sequence[DataSet], int]:
        """In their newest versions, the newest first, and how many there are in all."""

    async def delete(self, data_set_id: str) -> Sequence[str] | None:
        """IDs of its versions, which are gone. None, and nothing done, where a task that has not ended reads it."""

    async def note_reader(self, data_set_id: str, task_id: str) -> bool:
        """From now on this task, until it ends, keeps the data set from being deleted. False: it is gone."""

    async def known(self, keys: Sequence[str]) -> set[str]:
        """Those of the files' keys that belong to a version."""


def key_of(data_set_id: str, version_id: str) -> str:
    return f"data-sets/{data_set_id}/{version_id}"


async def upload(
    data_sets: DataSets,
    files: Files,
    principal: Principal,
    file: Path,
    *,
    file_name: str,
    name: str | None,
    data_set_id: str | None,
    now: datetime,
) -> DataSet:
    """Keep this file as a new data set, or as the newest version of one. Raises `Invalid`."""
    problems = [] if name is None else _name_problems(name)
    known = None if data_set_id is None else await data_sets.find(principal.organisation, data_set_id)
    if data_set_id is not None and known is None:
        problems.append("dataSet: is unknown")
    try:
        table, rows, size = await asyncio.to_thread(_read, file)
    except UnreadableTable as error:
        problems.append(f"file: {error}")
    if problems:
        raise Invalid("\n".join(problems))
    made = DataSet(
        id=known.id if known else new_object_id(),
        version_id=new_object_id(),
        name=name or (known.name if known else _plain(file_name)),
        table=table,
        rows=rows,
        size_bytes=size,
        created_at=now,
        created_by=principal.author,
    )
    await files.put(made.key, file)
    kept = await data_sets.add(made, principal.organisation, name=name)
    if kept is None:
        await files.delete(made.key)
        raise Invalid("dataSet: was deleted")
    return kept


async def find(
    data_sets: DataSets, principal: Principal, data_set_id: str, version_id: str | None = None
) -> DataSet | None:
    return (
        None
        if principal.deployments is not None
        else await data_sets.find(principal.organisation, data_set_id, version_id)
    )


async def page(data_sets: DataSets, principal: Principal, *, offset: int, limit: int) -> tuple[Sequence[DataSet], int]:
    """Those that this caller may see, the newest first, and how many there are in all."""
    if principal.deployments is not None:
        return [], 0
    return await data_sets.listed(principal.organisation, offset=offset, limit=limit)


async def delete(data_sets: DataSets, files: Files, principal: Principal, data_set_id: str) -> None:
    """All versions of it. Raises `NotFound`, `Forbidden`, or `Conflict` while it is read."""
    if await find(data_sets, principal, data_set_id) is None:
        raise NotFound(f"there is no data set {data_set_id[:128]!r}")
    principal.require_write()
    versions = await data_sets.delete(data_set_id)
    if versions is None:
        raise Conflict("a task that has not ended reads this data set")
    for version in versions:
        await files.delete(key_of(data_set_id, version))


async def sweep(data_sets: DataSets, files: Files, now: datetime) -> int:
    """Delete what uploads and deletions that were cut off have left, and say how many files it was."""
    before = now - UNFINISHED_FOR
    await files.remove_unfinished(before)
    keys = [key for key in await files.keys_before(before) if key.startswith("data-sets/")]
    left = sorted(set(keys) - await data_sets.known(keys))
    for key in left:
        await files.delete(key)
    return len(left)


def _read(file: Path) -> tuple[Outline, int, int]:
    """Its outline, rows and bytes."""
    table = outline(file)
    return table, count_rows(file, table), file.stat().st_size


def _name_problems(name: str) -> list[str]:
    return [] if 1 <= len(name) <= _MAX_NAME and "\0" not in name else ["name: must have 1 to 256 characters, none NUL"]


def _plain(file_name: str) -> str:
    """The last part of what a client calls its file."""
    last = file_name.replace("\\", "/").rsplit("/", 1)[-1].replace("\0", "")
    return last[:_MAX_NAME] or "data set"
