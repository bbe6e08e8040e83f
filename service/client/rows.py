"""What travels between the parts: a row to send, the parcel it goes in, and what became of a parcel."""

import uuid
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

_OBJECTS_BYTES = 200
"""About what Python adds to the bytes of a row."""


class Row(NamedTuple):
    """One prediction or actual, in the words of its transport."""

    group: Hashable
    """What all rows of a parcel must have in common."""
    topic: str
    """The role of its topic."""
    key: bytes | None
    value: bytes


def size_of(row: Row) -> int:
    """About the bytes that it holds in memory."""
    return len(row.value) + len(row.key or b"") + _OBJECTS_BYTES


def _new_name() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Parcel:
    """Rows of one group that are sent together; sent again as it is, it has the same name."""

    rows: Sequence[Row]
    name: str = field(default_factory=_new_name)

    @property
    def bytes(self) -> int:
        return sum(map(size_of, self.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a parcel: each of its rows is counted once, or lies in `again`."""

    sent: int = 0
    refused: int = 0
    failed: int = 0
    again: tuple[Parcel, ...] = ()
    pause_s: float | None = None
    """How long to wait before `again`; None: longer each time."""


class Transport(Protocol):
    """The way to the service. It lives in one event loop."""

    at_once: int
    """So many parcels, of different groups, may be under way at a time."""

    async def send(self, parcel: Parcel) -> Outcome:
        """Returns when what became of it is known, or when it is to be tried again. Tells faults by itself."""

    async def close(self) -> None:
        """Give up what is under way and let go of connections, within seconds. Called once, last."""
