"""Features from JSON text to bin slots, for a whole micro-batch at once.

The fast way reads all objects in one go as typed rows. It gives up on the first value that no feature of its kind
has, such as a text for a number. The slow way reads row by row, finds the rows that are no flat objects, and takes a
value of the wrong type for a numeric feature as missing; of few rows it is the faster one. Both give the same slots for
the same rows, whatever they are polled together with.

The texts are values of `PredictionEvent.features`: well-formed JSON, but perhaps no object, nested, or not UTF-8.
"""

import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.domain.stats.histogram import CategoricalBins, FeatureBins, FeatureLayout, NumericBins
from service.wire.values import class_label

Scalar = int | float | str | bool | None
_AT_ONCE = 500
"""Rows whose values stay in the processor's cache until they are counted."""
_FEW = 12
"""Rows that are read one by one: as many as it takes for columns to be faster."""
_BRACE = ord("{")
_flat = msgspec.json.Decoder(dict[str, Scalar])


def feature_slots(texts: Sequence[bytes], layout: FeatureLayout) -> tuple[NDArray[np.int64], list[int]]:
    """Slots (rows, features) of the layout, and the positions of rows whose text is no flat JSON object.

    The slots of such a row mean nothing. A text of `null` has no features.
    """
    by_feature = np.zeros((len(layout.features), len(texts)), dtype=np.int64)
    broken = []
    for begin in range(0, len(texts), _AT_ONCE):
        end = begin + _AT_ONCE
        broken += [begin + row for row in _fill(by_feature[:, begin:end], texts[begin:end], layout)]
    return by_feature.T, broken


def _fill(slots: NDArray[np.int64], texts: Sequence[bytes], layout: FeatureLayout) -> list[int]:
    """Fill the slots (features, rows) of these rows. Returns the positions of those that are no flat objects."""
    if b"null" in texts:
        texts = [b"{}" if text == b"null" else text for text in texts]
    if len(texts) < _FEW:
        return _fill_few(slots, texts, layout)
    joined = b"[" + b",".join(texts) + b"]"
    if _is_plain(joined, len(texts)):
        columns = _all_at_once(joined, layout)
        if columns is not None:
            _fill_columns(slots, columns, layout)
            return []
    return _fill_row_by_row(slots, texts, layout)


# ------------------------------------------------------------------------------------- the fast way


def _is_plain(joined: bytes, rows: int) -> bool:
    """No nested value, and no byte that is not ASCII unless it is UTF-8."""
    braces = np.count_nonzero(np.frombuffer(joined, dtype=np.uint8) == _BRACE)  # a tenth of what bytes.count takes
    if braces != rows or joined.rfind(b"[") > 0:
        return False
    if joined.isascii():
        return True
    try:
        joined.decode()
    except UnicodeDecodeError:
        return False
    return True


@lru_cache(maxsize=1024)
def _reader(layout: FeatureLayout) -> Callable[[bytes], list[Any]]:
    """What reads rows of this layout."""
    fields = {f"feature_{position}": bins for position, bins in enumerate(layout.features)}
    kinds = [(name, float | None if isinstance(bins, NumericBins) else Scalar, None) for name, bins in fields.items()]
    row = msgspec.defstruct("Row", kinds, gc=False, rename={name: bins.name for name, bins in fields.items()})
    return msgspec.json.Decoder(list[row]).decode  # type: ignore[valid-type]


def _all_at_once(joined: bytes, layout: FeatureLayout) -> Sequence[Sequence[Any]] | None:
    """Values by column of a list of objects, None where a value does not fit its column."""
    try:
        rows = _reader(layout)(joined)
    except msgspec.DecodeError:
        return None
    return list(zip(*map(msgspec.structs.astuple, rows), strict=True))


# ------------------------------------------------------------------------------------- the slow way


def _fill_row_by_row(slots: NDArray[np.int64], texts: Sequence[bytes], layout: FeatureLayout) -> list[int]:
    read = [_row(text) for text in texts]
    broken = [position for position, row in enumerate(read) if row is None]
    columns = []
    for bins in layout.features:
        values = [row.get(bins.name) if row else None for row in read]
        columns.append([_number(value) for value in values] if isinstance(bins, NumericBins) else values)
    _fill_columns(slots, columns, layout)
    return broken


def _fill_few(slots: NDArray[np.int64], texts: Sequence[bytes], layout: FeatureLayout) -> list[int]:
    broken = []
    for position, text in enumerate(texts):
        row = _row(text)
        if row is None:
            broken.append(position)
        else:
            slots[:, position] = [_slot(bins, row.get(bins.name)) for bins in layout.features]
    return broken


def _slot(bins: FeatureBins, value: Scalar) -> int:
    if isinstance(bins, NumericBins):
        return bins.slot_of_one(_number(value))
    return bins.slot_of_one(value if type(value) is str else _category(value))


def _row(text: bytes) -> dict[str, Scalar] | None:
    """The flat object in this text, None where it is none."""
    try:
        return _flat.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _unusual_row(text)


def _unusual_row(text: bytes) -> dict[str, Scalar] | None:
    """The same for a text with a number too large for a double (infinite)."""
    try:
        row: Any = json.loads(text.decode(), parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    flat = isinstance(row, dict) and not any(isinstance(value, dict | list) for value in row.values())
    return row if flat else None


def _whole(digits: str) -> int | float:
    number = float(digits)
    return int(digits) if math.isfinite(number) else number


def _number(value: Scalar) -> float | None:
    if value is None or isinstance(value, str | bool):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if value > 0 else -math.inf


# ------------------------------------------------------------------------------------- values to slots


def _fill_columns(slots: NDArray[np.int64], columns: Sequence[Sequence[Any]], layout: FeatureLayout) -> None:
    for into, bins, values in zip(slots, layout.features, columns, strict=False):
        if isinstance(bins, NumericBins):
            into[:] = bins.slot_of(np.array(values, dtype=np.float64))
        else:
            into[:] = _categorical_slots(bins, values)


def _categorical_slots(bins: CategoricalBins, values: Sequence[Any]) -> NDArray[np.int64]:
    try:
        return bins.slot_of(values)
    except KeyError:  # a number or a boolean
        texts = {(kind, value): _category(value) for kind, value in set(zip(map(type, values), values, strict=True))}
        return bins.slot_of([texts[one] for one in zip(map(type, values), values, strict=True)])


def _category(value: Scalar) -> str | None:
    """The class label; of a number that is too large for a double, however it was written, that of infinity."""
    if value is None or isinstance(value, str | bool):
        return None if value is None else class_label(value)
    number = _number(value)
    return class_label(number if number is not None and math.isinf(number) else value)
