"""Rows of a table as rows of the intake: which cell is what, and which cells can be nothing.

Texts of CSV are read as what they are to be; values of Parquet must be it already. What a row means, and whether its
deployment takes it, is for the intake (`actuals_intake.py`, `prediction_intake.py`).
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final, NamedTuple, TypeVar

import orjson

from service.usecases.actuals_intake import ActualRow
from service.usecases.intake import MISSING, Problem
from service.usecases.prediction_columns import PredictionColumns
from service.usecases.prediction_intake import PredictionRow
from service.usecases.tables import BrokenRow, Cell, Row
from service.wire.values import class_label

_INSTANT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)
_SUM_IS_ONE: Final = 0.01
_LARGEST: Final = 1 << 64
T = TypeVar("T", ActualRow, PredictionRow)


class _Wrong(Exception):
    """A cell can not be what it is to be."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(rule)
        self.field = field
        self.rule = rule


class ActualColumns(NamedTuple):
    association_id: str
    actual: str
    timestamp: str | None = None
    was_acted_on: str | None = None

    @property
    def names(self) -> list[str]:
        return [name for name in self if name is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedColumns:
    """Every other column is a feature."""

    predictions: PredictionColumns
    association_id: str | None = None
    timestamp: str | None = None
    numeric: Collection[str] = ()
    """Features of which the texts of CSV are numbers."""


class ActualReader:
    def __init__(self, columns: Sequence[str], which: ActualColumns, *, is_regression: bool) -> None:
        self._place = {name: place for place, name in enumerate(columns)}
        self._which = which
        self._is_regression = is_regression

    def read(self, first: int, rows: Sequence[Row]) -> tuple[list[tuple[int, ActualRow]], list[Problem]]:
        """`first`: number of the first of these rows."""
        return _read(first, rows, self._row)

    def _row(self, cells: Sequence[Cell]) -> ActualRow:
        which, place = self._which, self._place
        association_id = _association(cells[place[which.association_id]])
        if association_id is None:
            raise _Wrong("associationId", MISSING)
        actual = cells[place[which.actual]]
        return ActualRow(
            association_id,
            _number("actual", actual) if self._is_regression else _label("actual", actual),
            _timestamp(cells, place, which.timestamp),
            None if which.was_acted_on is None else _flag("wasActedOn", cells[place[which.was_acted_on]]),
        )


class PredictionReader:
    def __init__(self, columns: Sequence[str], which: PredictedColumns) -> None:
        self._place = {name: place for place, name in enumerate(columns)}
        self._which = which
        taken = {*which.predictions.names, which.association_id, which.timestamp}
        self._features = [
            (name, place, name in which.numeric) for name, place in self._place.items() if name not in taken
        ]

    def read(self, first: int, rows: Sequence[Row]) -> tuple[list[tuple[int, PredictionRow]], list[Problem]]:
        """`first`: number of the first of these rows."""
        return _read(first, rows, self._row)

    def _row(self, cells: Sequence[Cell]) -> PredictionRow:
        which, place = self._which, self._place
        given = None if which.association_id is None else _association(cells[place[which.association_id]])
        features = {name: _feature(name, cells[at], is_numeric=numeric) for name, at, numeric in self._features}
        return PredictionRow(
            given, self._prediction(cells), _timestamp(cells, place, which.timestamp), orjson.dumps(features)
        )

    def _prediction(self, cells: Sequence[Cell]) -> float | Sequence[tuple[str, float]]:
        columns = self._which.predictions
        numbers = [_number("prediction", cells[self._place[name]]) for name in columns.names]
        if not columns.labels:
            return numbers[0]
        if not abs(sum(numbers) - 1) <= _SUM_IS_ONE + 1e-9:
            raise _Wrong("prediction", f"the probabilities must add up to 1, within {_SUM_IS_ONE}")
        return list(zip(columns.labels, numbers, strict=True))


def _read(
    first: int, rows: Sequence[Row], read: Callable[[Sequence[Cell]], T]
) -> tuple[list[tuple[int, T]], list[Problem]]:
    good: list[tuple[int, T]] = []
    problems: list[Problem] = []
    for number, row in enumerate(rows, first):
        if isinstance(row, BrokenRow):
            problems.append(Problem(number, "", row.why))
            continue
        try:
            good.append((number, read(row)))
        except _Wrong as wrong:
            problems.append(Problem(number, wrong.field, wrong.rule))
    return good, problems


def told(problems: Sequence[Problem], most: int) -> str:
    """The first rows of these, each with its first problem."""
    return "; ".join(_told(problems, most))


def _told(problems: Sequence[Problem], most: int) -> Iterator[str]:
    seen: set[int | None] = set()
    for row, field, rule in problems:
        if row not in seen and len(seen) < most:
            seen.add(row)
            yield f"row {row}: {field}: {rule}" if field else f"row {row}: {rule}"


def _association(cell: Cell) -> str | None:
    """An empty one is none."""
    match cell:
        case None:
            return None
        case str():
            return cell.strip() or None
        case int() if not isinstance(cell, bool):
            return str(cell)
    raise _Wrong("associationId", "must be a text or a whole number")


def _number(field: str, cell: Cell) -> float:
    """What is no finite number is left to the intake, but for what is no number at all."""
    match cell:
        case None:
            raise _Wrong(field, MISSING)
        case int() | float() | Decimal() if not isinstance(cell, bool):
            return float(cell)
        case str():
            try:
                return float(cell) if "_" not in cell else math.nan
            except ValueError:
                pass
    raise _Wrong(field, "must be a number")


def _label(field: str, cell: Cell) -> str:
    match cell:
        case None:
            raise _Wrong(field, MISSING)
        case str():
            return cell
        case bool() | int():
            return class_label(cell)
        case float() if math.isfinite(cell):
            return class_label(cell)
    raise _Wrong(field, "must be the label of a class")


def _flag(field: str, cell: Cell) -> bool | None:
    match cell:
        case None | bool():
            return cell
        case str() if cell.strip().lower() in ("true", "false"):
            return cell.strip().lower() == "true"
    raise _Wrong(field, "must be true or false")


def _timestamp(cells: Sequence[Cell], place: Mapping[str, int], name: str | None) -> datetime | None:
    """An instant without an offset is meant in UTC."""
    cell = None if name is None else cells[place[name]]
    at: datetime | None = None
    match cell:
        case None:
            return None
        case datetime():
            at = cell
        case date():
            at = datetime.combine(cell, time())
        case str() if _INSTANT.fullmatch(cell.strip()):
            at = _parsed(cell.strip().upper())
    try:
        if at is not None:
            return (at.replace(tzinfo=UTC) if at.tzinfo is None else at).astimezone(UTC)
    except OverflowError:
        pass
    raise _Wrong("timestamp", "must be a date and time as in 2026-05-06T17:00:00Z")


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _feature(name: str, cell: Cell, *, is_numeric: bool) -> float | str | bool | None:
    match cell:
        case None | bool():
            return cell
        case str():
            return _number_or_text(cell) if is_numeric else cell
        case int():
            return cell if abs(cell) < _LARGEST >> 1 else float(cell)
        case float() | Decimal():
            return float(cell) if math.isfinite(cell) else None
        case date() | time():
            return cell.isoformat()
    raise _Wrong("features", f"column {name[:64]!r} must hold numbers, texts or booleans")


def _number_or_text(text: str) -> float | str | None:
    """What is no number goes as the text that it is; the pipeline takes that as missing."""
    try:
        number = float(text) if "_" not in text else math.nan
    except ValueError:
        return text
    return number if math.isfinite(number) else None
