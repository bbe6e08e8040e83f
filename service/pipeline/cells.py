"""The hot statistics cells of one task. What is here equals what the ledger holds; anything else is loaded first.

Cells change only by `install`, after a commit that is known; whoever loses the task drops the whole object.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Generic, Protocol, TypeVar


class Mergeable(Protocol):
    def merged(self: "C", other: "C") -> "C": ...


K = TypeVar("K")
C = TypeVar("C", bound=Mergeable)


class CellMemory(Generic[K, C]):
    """Cells of one kind by key, the least recently written ones forgotten beyond `capacity`."""

    def __init__(self, load: Callable[[Collection[K]], Awaitable[Mapping[K, C]]], capacity: int) -> None:
        self._load = load
        self._capacity = capacity
        self._cells: OrderedDict[K, C] = OrderedDict()

    async def absolute(self, deltas: Mapping[K, C], is_new: Callable[[K], bool]) -> dict[K, C]:
        """What each cell becomes by its delta; cold cells are loaded, except those of which `is_new` knows better."""
        cold = [key for key in deltas if key not in self._cells and not is_new(key)]
        loaded = await self._load(cold) if cold else {}
        before = {**loaded, **{key: self._cells[key] for key in deltas if key in self._cells}}
        return {key: before[key].merged(delta) if key in before else delta for key, delta in deltas.items()}

    def install(self, cells: Mapping[K, C]) -> None:
        """These values were committed."""
        for key, cell in cells.items():
            self._cells[key] = cell
            self._cells.move_to_end(key)
        while len(self._cells) > self._capacity:
            self._cells.popitem(last=False)

    def drop(self, gone: Callable[[K], bool]) -> None:
        """Forget the cells for whose key `gone` holds."""
        for key in [key for key in self._cells if gone(key)]:
            del self._cells[key]
