"""Where files are kept that all processes share, and where they lie while they come in."""

import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol


class Files(Protocol):
    """Files by key. Every method may raise `Unavailable`."""

    async def put(self, key: str, file: Path) -> None:
        """Keep a copy of this file. It is there whole, or not at all."""

    def open(self, key: str) -> AbstractAsyncContextManager[Path]:
        """The file to read, until the block is left."""

    async def delete(self, key: str) -> None:
        """Nothing where there is none."""

    async def keys_before(self, at: datetime) -> list[str]:
        """Of the files that were last written before then."""

    async def remove_unfinished(self, before: datetime) -> None:
        """Remove what writes have left that were begun before then and never ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """Where a file lies while it comes in; it has no name there, so a process that is killed leaves nothing."""

    directory: Path
    max_bytes: int
    """Of one file that is sent."""

    def file(self) -> IO[bytes]:
        """A new one, until it is closed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self.directory)


def path_of(file: IO[bytes]) -> Path:
    """A path to an open file that has no name. Whoever opens it has the file for longer."""
    return Path(f"/proc/self/fd/{file.fileno()}")
