"""A baseline: the rows on which a model's features are known, cut into bins once and counted.

The bins of a model are fixed by its first baseline, whatever its kind, since every cell of the model counts by them.
A later baseline is counted into the same bins; only features that are new get bins of their own, at the end. Live rows
of a period can be a baseline, too: see `drift.py`. Features that are text have no bins and are passed over.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from service.domain.stats.histogram import (
    METHOD,
    FeatureBins,
    FeatureLayout,
    NumericBins,
    categorical_bins,
    numeric_bins,
)
from service.usecases.deployment_description import FeaturePart, InvalidDescription
from service.usecases.tables import Format, UnreadableTable, first_line, read_columns
from service.wire.values import class_label

_FIELD: Final = "baseline.file"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineCounts:
    """Rows per slot of the layout."""

    rows: int
    layout: FeatureLayout
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The rows of a file, or the live rows of the hours from `start` to before `end`."""

    model_id: str
    kind: str
    counted: BaselineCounts
    start: datetime | None = None
    end: datetime | None = None
    method: str = METHOD
    """By which the bins of the model were chosen."""
    version: int = 0
    """How often one of this kind was stored; 0 before it is."""


def describe_baseline(baseline: Baseline) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "kind": baseline.kind,
        "rows": baseline.counted.rows,
        "method": baseline.method,
        "version": baseline.version,
        "from": baseline.start.isoformat() if baseline.start else None,
        "to": baseline.end.isoformat() if baseline.end else None,
    }


def read_baseline(file: Path, features: Sequence[FeaturePart]) -> pl.DataFrame:
    """The features' columns: numbers as float64 (missing: NaN), categories as canonical text (missing: null).

    Raises `InvalidDescription` with everything that is wrong with the file.
    """
    features = _with_bins(features)
    frame = _read(file, [feature.name for feature in features])
    problems = [f"{_FIELD}: {file.name} has no rows"] if frame.is_empty() else []
    columns: list[pl.Series] = []
    for feature in features:
        try:
            columns.append(_column(frame, feature))
        except ValueError as error:
            problems.append(f"{_FIELD}: {file.name}: {error}")
    if problems:
        raise InvalidDescription(problems)
    return pl.DataFrame(columns)


def read_features(file: Path, form: Format, features: Sequence[FeaturePart]) -> pl.DataFrame:
    """As `read_baseline`, of a file whose columns are known to be there. Raises `UnreadableTable`."""
    try:
        frame = read_columns(file, form, [feature.name for feature in features])
        return pl.DataFrame([_column(frame, feature) for feature in features])
    except ValueError as error:
        raise UnreadableTable(str(error)) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UnreadableTable(first_line(error)) from None


def count_baseline(frame: pl.DataFrame, features: Sequence[FeaturePart], fixed: FeatureLayout) -> BaselineCounts:
    """Count the rows into the bins that are fixed already, after adding bins for features that have none.

    Raises `InvalidDescription` where a feature has bins of the other type.
    """
    layout = _extended(frame, _with_bins(features), fixed)
    counts = np.zeros(layout.slots, dtype=np.int64)
    for bins in layout.features:
        if bins.name in frame.columns:
            counts += np.bincount(_slots(frame.get_column(bins.name), bins), minlength=layout.slots)
    return BaselineCounts(rows=frame.height, layout=layout, counts=tuple(counts.tolist()))


def _with_bins(features: Sequence[FeaturePart]) -> list[FeaturePart]:
    return [feature for feature in features if feature.type != "text"]


def _read(file: Path, names: Sequence[str]) -> pl.DataFrame:
    """CSV as text, so that a category is what is written; Parquet with its types."""
    try:
        match file.suffix.lower():
            case ".csv":
                return read_columns(file, Format.CSV, names)
            case ".parquet":
                return read_columns(file, Format.PARQUET, names)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise InvalidDescription([f"{_FIELD}: {file} can not be read"]) from None
    except pl.exceptions.ColumnNotFoundError:
        raise InvalidDescription(_missing_columns(file, names)) from None
    except (pl.exceptions.PolarsError, OSError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidDescription([f"{_FIELD}: {file.name}: {what}"]) from None
    raise InvalidDescription([f"{_FIELD}: must end with .csv or .parquet, not {file.name!r}"])


def _missing_columns(file: Path, names: Sequence[str]) -> list[str]:
    scan = pl.scan_csv(file) if file.suffix.lower() == ".csv" else pl.scan_parquet(file)
    there = set(scan.collect_schema().names())
    return [f"{_FIELD}: {file.name} has no column {name!r}" for name in names if name not in there]


def _column(frame: pl.DataFrame, feature: FeaturePart) -> pl.Series:
    column = frame.get_column(feature.name)
    return numbers(column) if feature.type == "numeric" else labels(column)


def numbers(column: pl.Series) -> pl.Series:
    """As float64, missing: NaN. Raises `ValueError` where something else is there."""
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Boolean, pl.Null)):
        raise ValueError(f"column {column.name!r} holds {column.dtype}, not numbers")
    cast = column.cast(pl.Float64, strict=False)
    wrong = column.filter((cast.is_null() & column.is_not_null()) | cast.is_infinite().fill_null(value=False))
    if not wrong.is_empty():
        raise ValueError(f"column {column.name!r} must hold finite numbers, but has {wrong[0]!r}")
    return cast.fill_null(float("nan"))


def labels(column: pl.Series) -> pl.Series:
    """As the canonical text of classes and categories, missing: null. Raises `ValueError` for what can be none."""
    if column.dtype == pl.Categorical or isinstance(column.dtype, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype == pl.String:
        return column
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        raise ValueError(f"column {column.name!r} holds {column.dtype}, not text, numbers or booleans")
    return pl.Series(column.name, [_canonical(value) for value in column.to_list()], dtype=pl.String)


def _canonical(value: float | bool | None) -> str | None:
    return None if value is None or math.isnan(value) else class_label(value)


def _extended(frame: pl.DataFrame, features: Sequence[FeaturePart], fixed: FeatureLayout) -> FeatureLayout:
    problems = list(_changed_types(features, {bins.name: bins for bins in fixed.features}))
    if problems:
        raise InvalidDescription(problems)
    layout = fixed
    for feature in features:
        if all(bins.name != feature.name for bins in layout.features):
            layout = layout.extended(_bins(frame.get_column(feature.name), feature, layout.slots))
    return layout


def _changed_types(features: Sequence[FeaturePart], fixed: Mapping[str, FeatureBins]) -> Iterator[str]:
    for position, feature in enumerate(features):
        bins = fixed.get(feature.name)
        if bins is not None and _type_of(bins) != feature.type:
            yield (
                f"features.{position}.type: {feature.name!r} is {_type_of(bins)} since the model's first baseline; "
                "a new model ID begins anew"
            )


def _type_of(bins: FeatureBins) -> str:
    return "numeric" if isinstance(bins, NumericBins) else "categorical"


def _bins(column: pl.Series, feature: FeaturePart, first_slot: int) -> FeatureBins:
    if feature.type == "numeric":
        return numeric_bins(feature.name, first_slot, column.to_numpy())
    tally = column.drop_nulls().value_counts(name="rows")
    return categorical_bins(
        feature.name, first_slot, tally.get_column(feature.name).to_list(), tally.get_column("rows").to_list()
    )


def _slots(column: pl.Series, bins: FeatureBins) -> NDArray[np.int64]:
    if isinstance(bins, NumericBins):
        return bins.slot_of(column.to_numpy())
    return bins.slot_of(column.to_list())
