"""Hot cells: cold ones are loaded, only what was committed is remembered, and no more than the capacity."""

from collections.abc import Collection

from service.domain.stats.accuracy import Accuracy
from service.pipeline.cells import CellMemory


class Shelf:
    """What the ledger holds, and what was asked of it."""

    def __init__(self, **cells: int) -> None:
        self.cells = {name: Accuracy(matched=rows) for name, rows in cells.items()}
        self.asked: list[list[str]] = []

    async def load(self, keys: Collection[str]) -> dict[str, Accuracy]:
        self.asked.append(sorted(keys))
        return {key: self.cells[key] for key in keys if key in self.cells}


def more(**rows: int) -> dict[str, Accuracy]:
    return {name: Accuracy(matched=count) for name, count in rows.items()}


def unknown(_: str) -> bool:
    return False


async def test_a_cell_known_to_be_new_is_not_asked_for() -> None:
    shelf = Shelf(a=5)
    cells = CellMemory(shelf.load, 10)
    assert await cells.absolute(more(a=1, b=2), lambda key: key == "b") == more(a=6, b=2)
    assert shelf.asked == [["a"]]


async def test_a_cold_cell_is_loaded_and_a_new_one_starts_empty() -> None:
    shelf = Shelf(a=5)
    cells = CellMemory(shelf.load, 10)
    assert await cells.absolute(more(a=1, b=2), unknown) == more(a=6, b=2)
    assert shelf.asked == [["a", "b"]]


async def test_what_is_not_committed_is_not_remembered() -> None:
    shelf = Shelf(a=5)
    cells = CellMemory(shelf.load, 10)
    await cells.absolute(more(a=1), unknown)
    assert await cells.absolute(more(a=1), unknown) == more(a=6)
    assert shelf.asked == [["a"], ["a"]]


async def test_what_was_committed_is_not_asked_again() -> None:
    shelf = Shelf(a=5)
    cells = CellMemory(shelf.load, 10)
    cells.install(await cells.absolute(more(a=1), unknown))
    assert await cells.absolute(more(a=1), unknown) == more(a=7)
    assert shelf.asked == [["a"]]


async def test_the_least_recently_written_are_forgotten_beyond_the_capacity() -> None:
    shelf = Shelf()
    cells = CellMemory(shelf.load, 2)
    cells.install(more(a=1, b=1))
    cells.install(more(a=2))
    cells.install(more(c=1))
    await cells.absolute(more(a=1, c=1), unknown)
    assert shelf.asked == []
    await cells.absolute(more(b=1), unknown)
    assert shelf.asked == [["b"]]


async def test_dropped_cells_are_asked_for_again() -> None:
    shelf = Shelf()
    cells = CellMemory(shelf.load, 10)
    cells.install(more(a=1, b=1))
    cells.drop(lambda key: key == "a")
    assert await cells.absolute(more(a=1, b=1), unknown) == more(a=1, b=2)
    assert shelf.asked == [["a"]]
