"""Features from JSON text to bin slots, for a whole micro-batch at once.

All objects are read as columns by polars, which is also what writes a number as the text of a category. It gives up
on the first value that does not fit its column; then the rows are taken in chunks, and in a chunk that still can not
be read each row is written anew so that it can: a value of the wrong type becomes null, a number too large for a
double the largest one. So a row has the same slots whatever it is read with.

The texts are values of `PredictionEvent.features`: well-formed JSON, but perhaps no object, nested, or not UTF-8.
"""

import json
import sys
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from service.domain.stats.histogram import CategoricalBins, FeatureBins, FeatureLayout, NumericBins

Scalar = float | str | bool | None
_CHUNK: Final = 256
_LARGEST: Final = sys.float_info.max
_WHOLE: Final = range(-(1 << 127), 1 << 128)
"""Whole numbers that polars keeps exact. It refuses others."""
_WHOLE_DIGITS: Final = 40


def feature_slots(texts: Sequence[bytes], layout: FeatureLayout) -> tuple[NDArray[np.int64], list[int]]:
    """Slots (rows, features) of the layout, and the positions of rows whose text is no flat JSON object.

    The slots of such a row mean nothing. A text of `null` has no features.
    """
    if not texts:
        return _no_slots(0, layout), []
    texts = [b"{}" if text == b"null" else text for text in texts]
    slots = _read(texts, layout)
    return (slots, []) if slots is not None else _by_chunks(texts, layout)


def _by_chunks(texts: Sequence[bytes], layout: FeatureLayout) -> tuple[NDArray[np.int64], list[int]]:
    slots: list[NDArray[np.int64]] = []
    broken: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        read = _read(chunk, layout)
        if read is None:
            rows = [_written_anew(text, layout) for text in chunk]
            broken.extend(start + position for position, row in enumerate(rows) if row is None)
            read = _columns(b"\n".join([row or b"{}" for row in rows]), layout)
        slots.append(read)
    return np.concatenate(slots), broken


# ---------------------------------------------------------------------------------------- by columns


def _read(texts: Sequence[bytes], layout: FeatureLayout) -> NDArray[np.int64] | None:
    """Slots of the texts, None where not all of them can be read as they are."""
    joined = b"\n".join(texts)
    if not _is_plain(joined, len(texts)):
        return None
    if not layout.features:
        return _no_slots(len(texts), layout) if all(text.startswith(b"{") for text in texts) else None
    try:
        slots = _columns(joined, layout)
    except pl.exceptions.PolarsError:
        return None
    return slots if len(slots) == len(texts) else None


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


def _columns(joined: bytes, layout: FeatureLayout) -> NDArray[np.int64]:
    """Slots of one object a line. Raises `PolarsError` where a value does not fit its column."""
    if not layout.features:
        return _no_slots(joined.count(b"\n") + 1, layout)
    frame = pl.read_ndjson(BytesIO(joined), schema=_schema(layout))
    slots = _no_slots(frame.height, layout)
    for position, bins in enumerate(layout.features):
        column = frame.get_column(bins.name)
        if isinstance(bins, NumericBins):
            slots[:, position] = bins.slot_of(column.to_numpy())
        else:
            slots[:, position] = _category_slots(column, bins)
    return slots


def _no_slots(rows: int, layout: FeatureLayout) -> NDArray[np.int64]:
    return np.empty((rows, len(layout.features)), dtype=np.int64)


def _schema(layout: FeatureLayout) -> dict[str, pl.DataType]:
    return {bins.name: pl.Float64() if isinstance(bins, NumericBins) else pl.String() for bins in layout.features}


def _category_slots(column: pl.Series, bins: CategoricalBins) -> NDArray[np.int64]:
    numbers = {value: bins.first_slot + position for position, value in enumerate(bins.values)}
    found = column.replace_strict(numbers, default=bins.other, return_dtype=pl.Int64) if numbers else None
    slots = found.to_numpy() if found is not None else np.full(len(column), bins.other, dtype=np.int64)
    return np.where(column.is_null().to_numpy(), bins.missing, slots)


# -------------------------------------------------------------------------------------------- by rows


def _written_anew(text: bytes, layout: FeatureLayout) -> bytes | None:
    """The row with the layout's features only, each of a type that fits; None where it is no flat object."""
    try:
        row: Any = json.loads(text.decode(), object_pairs_hook=_first_of_each_name, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
        return None
    fitting = {bins.name: _fitting(row.get(bins.name), bins) for bins in layout.features}
    return json.dumps(fitting, separators=(",", ":")).encode()


def _first_of_each_name(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Polars takes the first of several values of one name."""
    return dict(reversed(pairs))


def _whole(digits: str) -> int | float:
    number = int(digits) if len(digits) <= _WHOLE_DIGITS else None
    return number if number is not None and number in _WHOLE else float(digits)


def _fitting(value: Scalar, bins: FeatureBins) -> Scalar:
    if isinstance(bins, NumericBins) and (isinstance(value, bool | str)):
        return None
    return max(-_LARGEST, min(value, _LARGEST)) if isinstance(value, float) else value
