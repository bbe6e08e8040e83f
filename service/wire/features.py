"""Features from JSON text to bin slots, for a whole micro-batch at once.

The fast way, for many rows, reads all objects as columns. It gives up on the first value whose type does not fit its
column. The slow way reads row by row, finds the rows that are no flat objects, and takes a value of the wrong type for
a numeric feature as missing. Both give the same slots for the same rows, whatever they are polled together with: so the
slow way renders numbers as texts of categories with polars, too, and of several values of one name it takes the first.

The texts are values of `PredictionEvent.features`: well-formed JSON, but perhaps no object, nested, or not UTF-8.
"""

import json
import math
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.wire.values import class_label

_FEW_ROWS, _FEW_VALUES = 50, 2_000
"""Below so many the slow way, or a look-up of each value, costs less than the 0.2 ms in which polars starts."""
Scalar = int | float | str | bool | None
_flat = msgspec.json.Decoder(dict[str, Scalar])


def feature_slots(texts: Sequence[bytes], layout: FeatureLayout) -> tuple[NDArray[np.int64], list[int]]:
    """Slots (rows, features) of the layout, and the positions of rows whose text is no flat JSON object.

    The slots of such a row mean nothing. A text of `null` has no features.
    """
    if not texts:
        return _no_slots(0, layout), []
    texts = [b"{}" if text == b"null" else text for text in texts]
    joined = b"\n".join(texts)
    if _is_plain(joined, len(texts)):
        if not layout.features and all(text.startswith(b"{") for text in texts):
            return _no_slots(len(texts), layout), []
        if layout.features and len(texts) >= _FEW_ROWS:
            slots = _by_columns(joined, layout)
            if slots is not None and len(slots) == len(texts):
                return slots, []
    return _row_by_row(texts, layout)


def _no_slots(rows: int, layout: FeatureLayout) -> NDArray[np.int64]:
    return np.empty((rows, len(layout.features)), dtype=np.int64)


# ------------------------------------------------------------------------------------- the fast way


def _is_plain(joined: bytes, rows: int) -> bool:
    """No nested value, no line break inside a row, no byte that is not ASCII unless it is UTF-8."""
    if joined.count(b"{") != rows or b"[" in joined or joined.count(b"\n") != rows - 1:
        return False
    if joined.isascii():
        return True
    try:
        joined.decode()
    except UnicodeDecodeError:
        return False
    return True


def _schema(layout: FeatureLayout) -> dict[str, pl.DataType]:
    return {bins.name: pl.Float64() if isinstance(bins, NumericBins) else pl.String() for bins in layout.features}


def _by_columns(joined: bytes, layout: FeatureLayout) -> NDArray[np.int64] | None:
    """Slots of one object a line, None where a value does not fit its column."""
    try:
        frame = pl.read_ndjson(BytesIO(joined), schema=_schema(layout))
    except pl.exceptions.PolarsError:
        return None
    slots = _no_slots(frame.height, layout)
    for position, bins in enumerate(layout.features):
        column = frame.get_column(bins.name)
        if isinstance(bins, NumericBins):
            slots[:, position] = bins.slot_of(column.to_numpy())
        else:
            slots[:, position] = _category_slots(column, bins)
    return slots


def _category_slots(column: pl.Series, bins: CategoricalBins) -> NDArray[np.int64]:
    if len(column) < _FEW_VALUES:
        return bins.slot_of(column.to_list())
    return column.replace_strict(bins.numbers(), default=bins.other, return_dtype=pl.Int64).to_numpy()


# ------------------------------------------------------------------------------------- the slow way


def _row_by_row(texts: Sequence[bytes], layout: FeatureLayout) -> tuple[NDArray[np.int64], list[int]]:
    read = [_row(text) for text in texts]
    broken = [position for position, row in enumerate(read) if row is None]
    rows = [row or {} for row in read]
    slots = _no_slots(len(rows), layout)
    for column, bins in enumerate(layout.features):
        values = [row.get(bins.name) for row in rows]
        if isinstance(bins, NumericBins):
            slots[:, column] = bins.slot_of(np.array([_number(value) for value in values]))
        else:
            slots[:, column] = _category_slots(_categories(values), bins)
    return slots, broken


def _row(text: bytes) -> dict[str, Scalar] | None:
    """The flat object in this text, None where it is none."""
    try:
        row = _flat.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _unusual_row(text)
    quotes = 2 * (len(row) + [*map(type, row.values())].count(str))
    return row if text.count(b'"') == quotes else _unusual_row(text)


def _unusual_row(text: bytes) -> dict[str, Scalar] | None:
    """The same for a text with a repeated name, an escaped quote, or a number too large for a double (infinite)."""
    try:
        row: Any = json.loads(text.decode(), object_pairs_hook=_first_of_each_name, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    flat = isinstance(row, dict) and not any(isinstance(value, dict | list) for value in row.values())
    return row if flat else None


def _first_of_each_name(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return dict(reversed(pairs))


def _whole(digits: str) -> int | float:
    number = float(digits)
    return int(digits) if math.isfinite(number) else number


def _number(value: Scalar) -> float:
    if value is None or isinstance(value, str | bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if value > 0 else -math.inf


def _categories(values: Sequence[Scalar]) -> pl.Series:
    """Texts of a categorical feature's values, each as the fast way has it."""
    texts = [None if value is None else class_label(value) for value in values]
    floats = [position for position, value in enumerate(values) if value.__class__ is float]
    if floats:
        column = b"\n".join([b'{"value":%b}' % _json(values[position]) for position in floats])
        rendered = pl.read_ndjson(BytesIO(column), schema={"value": pl.String()}).get_column("value")
        for position, text in zip(floats, rendered, strict=True):
            texts[position] = text
    return pl.Series(texts, dtype=pl.String)


def _json(number: Scalar) -> bytes:
    assert isinstance(number, float)
    return b"%r" % number if math.isfinite(number) else b'"%r"' % number
