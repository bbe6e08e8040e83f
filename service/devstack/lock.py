"""One stack per data directory.

The lock is an flock on an open file. The servers inherit the descriptor, so the directory stays locked until the last
process over it is gone, also when their parent was killed; and a lock file that merely lies there locks nothing.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from service.devstack.errors import DirectoryInUse

_PATIENCE = 15.0
_PAUSE = 0.05


@asynccontextmanager
async def locked(directory: Path) -> AsyncIterator[int]:
    """Hold the directory; yields the descriptor for the servers to hold, too.

    Raises DirectoryInUse at once where the holder lives. Where only the servers of a killed holder are left, waits
    for them to go, for a while.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        await _acquire(descriptor, directory)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


async def _acquire(descriptor: int, directory: Path) -> None:
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    while not _try_lock(descriptor):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace")
        if _lives(holder):
            raise DirectoryInUse(directory, f"process {holder}")
        if asyncio.get_running_loop().time() > deadline:
            raise DirectoryInUse(directory, "its parent is gone, but a server has not ended")
        await asyncio.sleep(_PAUSE)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: str) -> bool:
    if not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
