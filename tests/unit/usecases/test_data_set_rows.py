"""Cells of a table as rows of the intake: what each can be read as, and what it can not."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from service.usecases.actuals_intake import ActualRow
from service.usecases.data_set_rows import ActualColumns, ActualReader, PredictedColumns, PredictionReader, told
from service.usecases.intake import Problem
from service.usecases.prediction_columns import PredictionColumns
from service.usecases.prediction_intake import PredictionRow
from service.usecases.tables import BrokenRow, Row

COLUMNS = ("id", "y", "at", "acted")
WHICH = ActualColumns("id", "y", "at", "acted")


def actual(*cells: object, is_regression: bool = False) -> ActualRow | tuple[str, str]:
    """The row, or the field and the rule that it breaks."""
    good, wrong = ActualReader(COLUMNS, WHICH, is_regression=is_regression).read(3, [cells])
    if good:
        ((number, row),) = good
        assert (number, wrong) == (3, [])
        return row
    ((at, field, rule),) = wrong
    assert at == 3
    return field, rule


def prediction(cells: list[Any], columns: list[str], **which: Any) -> PredictionRow | tuple[str, str]:
    given = {"predictions": PredictionColumns(("p",))} | which
    good, wrong = PredictionReader(columns, PredictedColumns(**given)).read(0, [cells])
    return good[0][1] if good else (wrong[0].field, wrong[0].rule)


def features(row: PredictionRow | tuple[str, str]) -> Any:
    assert isinstance(row, PredictionRow)
    return orjson.loads(row.features)


def test_texts_are_read_as_what_they_are_to_be() -> None:
    row = actual(" a1 ", "007", "2026-05-06 17:00:00+02:00", "TRUE")
    assert row == ActualRow("a1", "007", datetime(2026, 5, 6, 15, tzinfo=UTC), True)
    assert actual("a1", "0.5", None, None, is_regression=True) == ActualRow("a1", 0.5, None, None)


def test_values_of_parquet_are_taken_as_they_are() -> None:
    naive = datetime(2026, 5, 6, 17)  # noqa: DTZ001
    row = actual(17, Decimal("1.5"), naive, False, is_regression=True)
    assert row == ActualRow("17", 1.5, datetime(2026, 5, 6, 17, tzinfo=UTC), False)
    assert actual("a", 1.0, date(2026, 5, 6), None) == ActualRow("a", "1", datetime(2026, 5, 6, tzinfo=UTC), None)
    assert actual("a", True, None, None) == ActualRow("a", "true", None, None)


@pytest.mark.parametrize(
    ("cells", "is_regression", "field"),
    [
        ((None, "x", None, None), False, "associationId"),
        (("  ", "x", None, None), False, "associationId"),
        ((1.5, "x", None, None), False, "associationId"),
        ((True, "x", None, None), False, "associationId"),
        (("a", None, None, None), False, "actual"),
        (("a", [1], None, None), False, "actual"),
        (("a", "x", None, None), True, "actual"),
        (("a", "1_0", None, None), True, None),
        (("a", True, None, None), True, "actual"),
        (("a", "x", "yesterday", None), False, "timestamp"),
        (("a", "x", "2026-13-01T00:00:00Z", None), False, "timestamp"),
        (("a", "x", "0001-01-01T00:00:00+12:00", None), False, "timestamp"),
        (("a", "x", 17, None), False, "timestamp"),
        (("a", "x", None, "1"), False, "wasActedOn"),
        (("a", "x", None, 1), False, "wasActedOn"),
    ],
)
def test_cells_that_can_not_be_what_they_are_to_be(cells: Any, is_regression: bool, field: str | None) -> None:
    row = actual(*cells, is_regression=is_regression)
    if field is None:
        assert isinstance(row, ActualRow) and row.actual != row.actual  # not a number: the intake refuses it
    else:
        assert not isinstance(row, ActualRow)
        assert row[0] == field


def test_all_other_columns_are_features() -> None:
    columns = ["age", "id", "p", "region", "at", "zip"]
    cells = ["61", "a1", "0.25", "n", None, "007"]
    row = prediction(cells, columns, association_id="id", timestamp="at", numeric={"age", "region"})
    assert isinstance(row, PredictionRow)
    assert (row.association_id, row.prediction, row.timestamp) == ("a1", 0.25, None)
    assert features(row) == {"age": 61.0, "region": "n", "zip": "007"}


def test_features_of_parquet() -> None:
    columns = ["p", "a", "b", "c", "d", "e", "f", "g"]
    cells = [1, True, None, float("nan"), date(2026, 5, 6), 1 << 63, Decimal("0.5"), "nan"]
    assert features(prediction(cells, columns, numeric={"g"})) == {
        "a": True, "b": None, "c": None, "d": "2026-05-06", "e": float(1 << 63), "f": 0.5, "g": None,
    }  # fmt: skip
    assert prediction([1, [1]], ["p", "a"]) == ("features", "column 'a' must hold numbers, texts or booleans")


@pytest.mark.parametrize(("yes", "no", "is_good"), [(0.8, 0.2, True), (0.8, 0.21, True), (0.8, 0.215, False)])
def test_probabilities_of_a_row_add_up(yes: float, no: float, is_good: bool) -> None:
    which = PredictionColumns(("p_no", "p_yes"), ("no", "yes"))
    row = prediction([str(yes), str(no)], ["p_yes", "p_no"], predictions=which)
    if is_good:
        assert isinstance(row, PredictionRow)
        assert row.prediction == [("no", no), ("yes", yes)]
    else:
        assert row == ("prediction", "the probabilities must add up to 1, within 0.01")


def test_missing_and_undefined_predictions() -> None:
    assert prediction([None], ["p"]) == ("prediction", "is required")
    which = PredictionColumns(("p", "q"), ("a", "b"))
    assert prediction(["nan", "1"], ["p", "q"], predictions=which)[0] == "prediction"


def test_broken_lines_and_what_is_told_of_the_first_rows() -> None:
    rows: list[Row] = [
        BrokenRow("has 1 cells, not 4"),
        ["a", None, "x", None],
        ["a", "y", None, None],
        [None, "y", None, None],
    ]
    good, wrong = ActualReader(COLUMNS, WHICH, is_regression=False).read(10, rows)
    assert [number for number, _ in good] == [12]
    assert told(wrong, 2) == "row 10: has 1 cells, not 4; row 11: actual: is required"
    assert told([*wrong, Problem(13, "actual", "again")], 5).count("row 13") == 1
