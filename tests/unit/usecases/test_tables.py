"""Files of rows: what is read of CSV and Parquet, and that nothing else is."""

import csv
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.usecases import tables
from service.usecases.tables import BrokenRow, Format, Row, UnreadableTable, chunks, count_rows, outline


def rows_of(file: Path, size: int = 2) -> list[Row]:
    return [row for chunk in chunks(file, outline(file), size) for row in chunk]


def csv_file(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "rows"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "content",
    [
        b"id,note\n1,a\n2,\n",
        b"\xef\xbb\xbfid,note\r\n1,a\r\n2,\r\n",
        b'"id","note"\r\n"1","a"\r\n2,""',
    ],
)
def test_the_ways_to_write_csv(tmp_path: Path, content: bytes) -> None:
    file = csv_file(tmp_path, content)
    table = outline(file)
    assert (table.format, table.columns) == (Format.CSV, ("id", "note"))
    assert rows_of(file) == [["1", "a"], ["2", None]]
    assert count_rows(file, table) == 2


def test_what_quotes_hold(tmp_path: Path) -> None:
    file = csv_file(tmp_path, b'id,note\n1,"a ""b"", c\r\nd"\n2,5" wide\n')
    assert rows_of(file) == [["1", 'a "b", c\r\nd'], ["2", '5" wide']]


def test_lines_that_are_no_rows_are_told_one_by_one(tmp_path: Path) -> None:
    file = csv_file(tmp_path, b"a,b\n1\n\n1,2,3\n1,\xff\n1,\xc3\xa9\n" + b"1," + b"x" * 200_000 + b"\n1,2\n")
    short, blank, long, undecodable, good, huge, last = rows_of(file)
    assert short == BrokenRow("has 1 cells, not 2")
    assert blank == BrokenRow("has 1 cells, not 2")
    assert long == BrokenRow("has 3 cells, not 2")
    assert undecodable == BrokenRow("is not UTF-8")
    assert good == ["1", "\u00e9"]
    assert isinstance(huge, BrokenRow)
    assert last == ["1", "2"]
    assert count_rows(file, outline(file)) == 7


def test_a_blank_line_of_one_column_is_a_missing_value(tmp_path: Path) -> None:
    assert rows_of(csv_file(tmp_path, b"a\n1\n\n2\n")) == [["1"], [None], ["2"]]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    pl.DataFrame({"id": ["a", "b", "c"], "y": [1, None, 3], "ok": [True, False, None]}).write_parquet(file)
    assert outline(file).columns == ("id", "y", "ok")
    assert rows_of(file) == [("a", 1, True), ("b", None, False), ("c", 3, None)]
    assert [len(chunk) for chunk in chunks(file, outline(file), 2)] == [2, 1]


def test_chunks_of_parquet_are_no_larger_than_asked(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    pl.DataFrame({"n": range(25_000)}).write_parquet(file, row_group_size=9_999)
    read = list(chunks(file, outline(file), 10_000))
    assert max(map(len, read)) <= 10_000
    assert [row[0] for chunk in read for row in chunk if not isinstance(row, BrokenRow)] == list(range(25_000))


def test_a_line_without_an_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_LONGEST_LINE", 100)
    file = csv_file(tmp_path, b"a\n" + b"x" * 1_000)
    with pytest.raises(UnreadableTable, match="a line has more than 100 characters"):
        rows_of(file)


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=8), min_size=width, max_size=width),
            max_size=12,
        )
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    st.integers(1, 5),
)
def test_what_is_written_by_rfc_4180_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, encoding: str, size: int
) -> None:
    width = len(rows[0]) if rows else 1
    file = tmp_path_factory.getbasetemp() / "rfc4180"
    with file.open("w", encoding=encoding, newline="") as opened:
        writer = csv.writer(opened, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerow([f"column {number}" for number in range(width)])
        writer.writerows(rows)
    assert rows_of(file, size) == [[cell or None for cell in row] for row in rows]
    assert count_rows(file, outline(file)) == len(rows)


@pytest.mark.parametrize("form", list(Format))
def test_of_a_large_file_an_even_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Format) -> None:
    frame = pl.DataFrame({"n": range(20_000), "other": "x"})
    file = tmp_path / "rows"
    if form is Format.CSV:
        frame.write_csv(file)
    else:
        frame.write_parquet(file)
    assert tables.read_columns(file, form, ["n"]).height == 20_000
    monkeypatch.setattr(tables, "SAMPLED_ABOVE", file.stat().st_size // 4)
    sample = tables.read_columns(file, form, ["n"])
    again = tables.read_columns(file, form, ["n"])
    assert sample.equals(again)
    numbers = [int(number) for number in sample.get_column("n").to_list()]
    assert abs(len(numbers) - 5_000) < 10
    assert abs(sum(number % 7 == 0 for number in numbers) - 5_000 / 7) < 30
    assert abs(sum(number < 10_000 for number in numbers) - 2_500) < 10
