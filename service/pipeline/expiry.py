"""Which rows time has come for: reads the timers that the watermark has passed, a bounded number of rows at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.domain.timers import (
    bucket_of,
    packed_keys,
    passed_buckets,
    timers_begin,
    timers_end,
    unpacked_keys,
)
from service.domain.watermark import NEVER
from service.ports import StateStore

_ENTRIES = 8
"""Read at once: an entry may hold the keys of a whole micro-batch."""
_NONE = 1 << 62


@dataclass(slots=True)
class Due:
    """Rows to look at, and what becomes of the timer entries that named them."""

    keys: list[bytes] = field(default_factory=list)
    deployments: set[str] = field(default_factory=set)
    entries: dict[bytes, bytes | None] = field(default_factory=dict)
    """None: done with. Else the row keys that still wait for their look."""

    def __bool__(self) -> bool:
        return bool(self.entries)


class Timers:
    """The timers of one task's store. Knows of each deployment's first one, so that looking often costs nothing."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._first: dict[str, int] = {}
        """Start of the first bucket that has an entry; a deployment that is not here must be looked up."""

    def is_due(self, watermarks: Mapping[str, int]) -> bool:
        """Whether any row waits for its look."""
        return any(self._is_due(name, watermark) for name, watermark in watermarks.items())

    def due(self, watermarks: Mapping[str, int], most: int) -> Due:
        """At most so many rows; the deployment that waits longest comes first."""
        due = Due()
        names = [name for name, watermark in watermarks.items() if self._is_due(name, watermark)]
        for name in sorted(names, key=self._first.__getitem__):
            if len(due.keys) < most:
                self._add(due, name, passed_buckets(watermarks[name]), most)
        due.keys = list(dict.fromkeys(due.keys))
        return due

    def wrote(self, entries: Iterable[tuple[bytes, bytes | None]]) -> None:
        """These entries were written to the store (None: deleted)."""
        for entry, packed in entries:
            deployment, bucket = bucket_of(entry)
            name = deployment.decode()
            if packed is None:
                self._first.pop(name, None)
            elif name in self._first:
                self._first[name] = min(self._first[name], bucket)

    def _is_due(self, name: str, watermark: int) -> bool:
        if watermark == NEVER:
            return False
        if name not in self._first:
            found = self._store.timers(timers_begin(name.encode()), timers_end(name.encode()), 1)
            self._first[name] = bucket_of(found[0][0])[1] if found else _NONE
        return self._first[name] < passed_buckets(watermark)

    def _add(self, due: Due, name: str, passed: int, most: int) -> None:
        deployment = name.encode()
        begin, end = timers_begin(deployment), timers_begin(deployment, passed)
        while found := self._store.timers(begin, end, _ENTRIES):
            for entry, packed in found:
                room = most - len(due.keys)
                if room <= 0:
                    return
                keys = unpacked_keys(packed)
                due.keys += keys[:room]
                due.entries[entry] = packed_keys(keys[room:]) if len(keys) > room else None
                due.deployments.add(name)
                begin = entry + b"\x00"
