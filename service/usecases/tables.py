"""Files of rows: CSV or Parquet, told apart by their content, read without ever holding all of one.

CSV: UTF-8, with a byte order mark or without; comma and double quote; LF or CRLF; the first line names the columns. Its
values are texts, an empty one is missing. A blank line is a row, too: with one empty cell.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final, TypeAlias

import polars as pl

_MAGIC: Final = b"PAR1"
_LONGEST_LINE: Final = 4 << 20
"""Characters."""
SAMPLED_ABOVE: Final = 500_000_000
"""Bytes of a file of which no more is taken into memory than such a file has."""
_SPREAD: Final = 2_654_435_769
"""2^32 by the golden ratio: its multiples modulo 2^32 fall evenly, whatever period the rows have."""
Cell: TypeAlias = object
"""A text of CSV, or a value as Parquet's types give it; None is missing."""


class Format(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"


class UnreadableTable(Exception):
    """The file holds no rows that can be read; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a file is, without its rows."""

    format: Format
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A line that is no row of its table; the text says why."""

    why: str


Row: TypeAlias = Sequence[Cell] | BrokenRow
"""Cells in the order of the columns."""


def outline(file: Path) -> Outline:
    """Raises `UnreadableTable`."""
    with file.open("rb") as opened:
        is_parquet = opened.read(len(_MAGIC)) == _MAGIC
    if is_parquet:
        columns = _parquet_columns(file)
    else:
        with _texts(file) as opened_text:
            columns = _header(_records(opened_text))
    for column in columns:
        if "\0" in column:
            raise UnreadableTable("a column's name holds the character NUL")
    repeated = next((name for place, name in enumerate(columns) if name in columns[:place]), None)
    if repeated is not None:
        raise UnreadableTable(f"column {repeated!r} is there twice")
    return Outline(format=Format.PARQUET if is_parquet else Format.CSV, columns=tuple(columns))


def count_rows(file: Path, table: Outline) -> int:
    """Raises `UnreadableTable`."""
    if table.format is Format.PARQUET:
        try:
            return int(pl.scan_parquet(file).select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise UnreadableTable(first_line(error)) from None
    with _texts(file) as opened:
        return sum(1 for _ in _records(opened)) - 1


def chunks(file: Path, table: Outline, size: int) -> Iterator[list[Row]]:
    """All rows, `size` of them at once. Raises `UnreadableTable`, perhaps after some."""
    if table.format is Format.PARQUET:
        yield from _parquet_chunks(file, size)
        return
    with _texts(file) as opened:
        records = _records(opened)
        _header(records)
        chunk: list[Row] = []
        for record in records:
            chunk.append(_row(record, len(table.columns)))
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


def read_columns(file: Path, form: Format, names: Sequence[str]) -> pl.DataFrame:
    """These columns of all rows; of a file above 500 MB, of an even sample of its rows. CSV as text, Parquet as typed.

    Raises what polars raises.
    """
    rows = pl.scan_parquet(file) if form is Format.PARQUET else pl.scan_csv(file, infer_schema=False)
    size = file.stat().st_size
    if size > SAMPLED_ABOVE:
        spread = pl.row_index().cast(pl.UInt64) * _SPREAD % (1 << 32)
        rows = rows.filter(spread < int(SAMPLED_ABOVE / size * (1 << 32)))
    return rows.select(list(names)).collect(engine="streaming")


def first_line(error: Exception) -> str:
    """What a driver says, as far as it is of use to a person."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _parquet_columns(file: Path) -> list[str]:
    try:
        return pl.scan_parquet(file).collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableTable(f"the file begins like Parquet, but can not be read: {first_line(error)}") from None


def _parquet_chunks(file: Path, size: int) -> Iterator[list[Row]]:
    try:
        for frame in pl.scan_parquet(file).collect_batches(chunk_size=size, maintain_order=True):
            for part in frame.iter_slices(size):
                yield list(part.iter_rows())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableTable(first_line(error)) from None


def _texts(file: Path) -> IO[str]:
    """Bytes that are not UTF-8 come as lone surrogates, so that they are the fault of their row alone."""
    return TextIOWrapper(file.open("rb"), encoding="utf-8-sig", errors="surrogateescape", newline="")


def _records(texts: IO[str]) -> Iterator[list[str] | BrokenRow]:
    reader = csv.reader(_lines(texts))
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BrokenRow(str(error))


def _lines(texts: IO[str]) -> Iterator[str]:
    """No line without a limit, since it would have to be held."""
    while line := texts.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            raise UnreadableTable(f"a line has more than {_LONGEST_LINE:,} characters")
        yield line


def _header(records: Iterator[list[str] | BrokenRow]) -> list[str]:
    header = next(records, [])
    if isinstance(header, BrokenRow):
        raise UnreadableTable(header.why)
    if not header:
        raise UnreadableTable("the file must begin with a line that names the columns")
    if _is_undecodable(header):
        raise UnreadableTable("the file is neither Parquet nor text in UTF-8")
    return header


def _row(record: list[str] | BrokenRow, width: int) -> Row:
    if isinstance(record, BrokenRow):
        return record
    cells = record or [""]
    if len(cells) != width:
        return BrokenRow(f"has {len(cells)} cells, not {width}")
    if _is_undecodable(cells):
        return BrokenRow("is not UTF-8")
    return [cell or None for cell in cells]


def _is_undecodable(cells: Sequence[str]) -> bool:
    return any("\udc80" <= character <= "\udcff" for cell in cells if not cell.isascii() for character in cell)
