"""The state store as dictionaries. What a `MemoryStores` holds is the disk: it survives the closing of its stores."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from service.ports import StorePosition, Unavailable

_FIRST_ROW = b"\x02"


@dataclass(slots=True)
class _Disk:
    entries: dict[bytes, bytes] = field(default_factory=dict)
    position: StorePosition | None = None
    is_open: bool = False


class MemoryStores:
    """One directory of stores."""

    def __init__(self) -> None:
        self._disks: dict[int, _Disk] = {}

    def open(self, task: int) -> "MemoryStore":
        disk = self._disks.setdefault(task, _Disk())
        if disk.is_open:
            raise Unavailable(f"the state store of task {task} is in use: one process at a time")
        disk.is_open = True
        return MemoryStore(disk)

    def tasks_on_disk(self) -> frozenset[int]:
        return frozenset(self._disks)

    def crash(self) -> None:
        """The process that held the stores is gone: its locks are free, what it wrote stays."""
        self._disks = {task: _Disk(dict(disk.entries), disk.position) for task, disk in self._disks.items()}

    def lose(self, task: int) -> None:
        """The disk is gone."""
        self._disks.pop(task, None)


class MemoryStore:
    """One task's rows and timers."""

    def __init__(self, disk: _Disk) -> None:
        self._disk = disk

    @property
    def position(self) -> StorePosition | None:
        return self._disk.position

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return list(map(self._disk.entries.get, keys))

    def apply(
        self, rows: Mapping[bytes, bytes | None], timers: Iterable[tuple[bytes, bytes | None]], position: StorePosition
    ) -> None:
        entries = self._disk.entries
        for key, value in (*rows.items(), *timers):
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
        self._disk.position = position

    def timers(self, first: bytes, end: bytes, most: int) -> list[tuple[bytes, bytes]]:
        return sorted(entry for entry in self._disk.entries.items() if first <= entry[0] < end)[:most]

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(entry for entry in self._disk.entries.items() if entry[0] >= _FIRST_ROW))

    def wipe(self) -> None:
        self._disk.entries.clear()
        self._disk.position = None

    def size_bytes(self) -> int:
        return sum(len(key) + len(state) for key, state in self._disk.entries.items())

    def close(self) -> None:
        self._disk.is_open = False
