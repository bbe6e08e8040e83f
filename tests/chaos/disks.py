"""What happens to the state directory of a worker: wiped, put back to an older copy, full.

A directory becomes full by being a tmpfs of its own that is made as small as what it holds. That takes the right to
mount; without it no disk gets full, and `can_be_full` says so.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZE_MB = 512
_LEFT_KB = 8


class Disk:
    """The state directory of one instance, and the older copy of it. Use `open_disk`."""

    def __init__(self, directory: Path, *, can_be_full: bool) -> None:
        self.directory = directory
        self.can_be_full = can_be_full
        self._copy = directory.with_name(f"{directory.name}-copy")

    @property
    def has_copy(self) -> bool:
        return self._copy.exists()

    def wipe(self) -> None:
        for entry in self.directory.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def copy(self) -> None:
        """Only of a worker that does not run: what is copied while it changes was never on any disk."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self.directory, self._copy)

    def put_back(self) -> None:
        """The older copy in place of what is there."""
        self.wipe()
        shutil.copytree(self._copy, self.directory, dirs_exist_ok=True)

    def fill(self) -> None:
        """From here on hardly anything more can be written."""
        held = os.statvfs(self.directory)
        used_kb = (held.f_blocks - held.f_bfree) * held.f_frsize // 1024
        _mount("-o", f"remount,size={used_kb + _LEFT_KB}k", str(self.directory))

    def make_room(self) -> None:
        if self.can_be_full:
            _mount("-o", f"remount,size={_SIZE_MB}m", str(self.directory))


@contextmanager
def open_disk(directory: Path, *, may_be_full: bool) -> Iterator[Disk]:
    """The directory, on a disk of its own where it may be full and where that is possible."""
    directory.mkdir(parents=True)
    mounted = may_be_full and _mount("-t", "tmpfs", "-o", f"size={_SIZE_MB}m,mode=700", "tmpfs", str(directory))
    try:
        yield Disk(directory, can_be_full=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(directory)], check=False)


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
