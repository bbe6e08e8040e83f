"""Files by key, below a directory or in a bucket (S3, Azure, Google), by one library.

A write is seen whole or not at all. What a killed process leaves of one is, in a directory, a file whose name ends in
`#` and a number, which `remove_unfinished` takes away; in a bucket, parts that a lifecycle rule of it must expire.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from service.ports import Unavailable
from service.usecases.files import Spool, path_of

_PART_BYTES: Final = 8 << 20
_PARTS_AT_ONCE: Final = 2
_UNFINISHED: Final = re.compile(r".+#\d+")
_LOCAL: Final = "file://"


class ObjectFiles:
    """`service.usecases.files.Files`. Copies of remote files are made in `spool`."""

    def __init__(self, store: ObjectStore | None, directory: Path, spool: Spool) -> None:
        """`store`: a bucket; without one, the files are below `directory`, which is made when it is needed."""
        self._bucket = store
        self._directory = directory
        self._spool = spool

    @property
    def _store(self) -> ObjectStore:
        return self._bucket or LocalStore(self._directory, mkdir=True)

    async def put(self, key: str, file: Path) -> None:
        with _translating(), file.open("rb") as source:
            await obstore.put_async(
                self._store, key, source, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE, use_multipart=True
            )

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Path]:
        if self._bucket is None:
            yield self._directory / key
            return
        with self._spool.file() as copy:
            with _translating():
                await self._fetch(key, copy)
            yield path_of(copy)

    async def _fetch(self, key: str, copy: IO[bytes]) -> None:
        found = await obstore.get_async(self._store, key)
        async for part in found.stream(min_chunk_size=_PART_BYTES):
            await asyncio.to_thread(copy.write, part)
        await asyncio.to_thread(copy.flush)

    async def delete(self, key: str) -> None:
        with _translating():
            try:
                await obstore.delete_async(self._store, key)
            except FileNotFoundError:
                return

    async def keys_before(self, at: datetime) -> list[str]:
        if self._bucket is None and not self._directory.exists():
            return []
        with _translating():
            found = []
            async for page in obstore.list(self._store):
                found += [one["path"] for one in page if one["last_modified"] < at]
            return found

    async def remove_unfinished(self, before: datetime) -> None:
        if self._bucket is None:
            with _translating():
                await asyncio.to_thread(_remove_unfinished, self._directory, before.timestamp())


def open_files(url: str, spool: Spool) -> ObjectFiles:
    """Files at this URL or below this directory. Raises `Unavailable` for a URL that means nothing."""
    if "://" in url and not url.startswith(_LOCAL):
        with _translating():
            return ObjectFiles(from_url(url), Path(), spool)
    return ObjectFiles(None, Path(url.removeprefix(_LOCAL)).absolute(), spool)


def _remove_unfinished(directory: Path, before: float) -> None:
    for file in directory.rglob("*#*"):
        if _UNFINISHED.fullmatch(file.name) and file.is_file() and file.stat().st_mtime < before:
            file.unlink(missing_ok=True)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unavailable(f"files: {what}") from error
