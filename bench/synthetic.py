"""Made-up rows by columns: their names, features, predictions and actuals, as JSON.

Every figure is a function of the seed, a name and the row's rank, so any row can be made again by itself.
"""

import zlib
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray

CATEGORIES: Final = (2, 3, 5, 8, 12, 20, 30, 40, 50, 80)
"""Distinct values of each categorical feature; of the last one the rarest share the bin `other`."""
NUMERIC: Final = tuple(f"amount{n}" for n in range(10))
CATEGORICAL: Final = tuple(f"code{n}" for n in range(len(CATEGORIES)))
FEATURES: Final = (*NUMERIC, *CATEGORICAL)
CLASSES: Final = ("amber", "blue", "coral", "denim", "ebony")
YES: Final = "yes"
NO: Final = "no"
MODEL: Final = "first"
BASELINE_ROWS: Final = 5_000
MISSING: Final = 0.02
"""Share of values that are null, of the last feature of each type."""
_RIGHT: Final = 0.7
"""Share of class labels that prove right."""
_INSTANT: Final = "%Y-%m-%dT%H:%M:%S%.3fZ"
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Kind(StrEnum):
    """What a deployment predicts, and how its predictions say it. Deployments take turns in this order."""

    NUMBER = "number"
    TWO_SHARES = "two shares"
    SHARES = "shares"
    LABEL = "label"


def uniform(seed: int, name: str, rows: Rows) -> Floats:
    """Numbers in [0, 1) (n,), one for each row: SplitMix64 of seed, name and rank."""
    stream = np.uint64(zlib.crc32(f"{seed}/{name}".encode())) << np.uint64(32)
    with np.errstate(over="ignore"):
        mixed = (rows.astype(np.uint64) + stream) * _ODD
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def row_ids(rows: Rows, seed: int) -> list[bytes]:
    """Association IDs: 16 hexadecimal digits, no two the same."""
    with np.errstate(over="ignore"):
        numbers = (rows.astype(np.uint64) + np.uint64(seed << 32)) * _ODD
    digits = numbers.astype(">u8").tobytes().hex().encode()
    ids: list[bytes] = np.frombuffer(digits, dtype="S16").tolist()
    return ids


# ---------------------------------------------------------------------------------------------- columns


def features(seed: int, rows: Rows) -> pl.DataFrame:
    """Ten numbers and ten texts a row; of the last of each some are missing."""
    columns: dict[str, pl.Series] = {}
    for n, name in enumerate(NUMERIC):
        drawn = uniform(seed, name, rows)
        columns[name] = pl.Series(np.round(np.expm1(drawn * (2 + n % 4 * 2)), 2))
    for name, count in zip(CATEGORICAL, CATEGORIES, strict=True):
        drawn = (uniform(seed, name, rows) ** 2 * count).astype(np.int64)
        columns[name] = pl.Series([f"value{value:03}" for value in range(count)]).gather(drawn)
    frame = pl.DataFrame(columns)
    return frame.with_columns(
        pl.when(pl.Series(uniform(seed, f"{name} missing", rows) >= MISSING)).then(pl.col(name)).alias(name)
        for name in (NUMERIC[-1], CATEGORICAL[-1])
    )


def predicted_numbers(seed: int, rows: Rows) -> Floats:
    return np.round(100 + 900 * uniform(seed, "prediction", rows), 3)


def predicted_shares(seed: int, rows: Rows, count: int) -> Floats:
    """(n, classes), each a whole number of millionths."""
    drawn = np.stack([uniform(seed, f"share {n}", rows) + 1e-3 for n in range(count)], axis=1)
    shares: Floats = np.rint(drawn / drawn.sum(axis=1, keepdims=True) * 1e6) / 1e6
    return shares


def predicted_labels(seed: int, rows: Rows) -> NDArray[np.int64]:
    return (uniform(seed, "label", rows) * len(CLASSES)).astype(np.int64)


def actual_numbers(seed: int, rows: Rows, again: NDArray[np.bool_]) -> Floats:
    """The prediction, some tens off; a correction is one higher."""
    off = 40 * (uniform(seed, "actual", rows) - 0.5)
    return np.round(predicted_numbers(seed, rows) + off + again, 3)


def actual_labels(seed: int, rows: Rows, again: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Most of them the predicted label; a correction is the next one."""
    right = uniform(seed, "right", rows) < _RIGHT
    other = (uniform(seed, "actual", rows) * count).astype(np.int64)
    labels: NDArray[np.int64] = (np.where(right, predicted_labels(seed, rows) % count, other) + again) % count
    return labels


# ------------------------------------------------------------------------------------------------- JSON


def prediction_values(
    kind: Kind, seed: int, deployments: list[str], ids: list[str], rows: Rows, at: Rows, again: NDArray[np.bool_]
) -> list[bytes]:
    """The events of these rows, each with its deployment, association ID and event time (microseconds)."""
    return _json(
        _envelope(deployments, ids, at).with_columns(
            _prediction(kind, seed, rows).alias("prediction"),
            pl.lit(MODEL).alias("modelId"),
            features(seed, rows).to_struct("features"),
        )
    )


def actual_values(
    kind: Kind, seed: int, deployments: list[str], ids: list[str], rows: Rows, at: Rows, again: NDArray[np.bool_]
) -> list[bytes]:
    """As `prediction_values`; `again` says of each whether it is a correction."""
    if kind is Kind.NUMBER:
        truth = pl.Series(actual_numbers(seed, rows, again))
    else:
        labels = [YES, NO] if kind is Kind.TWO_SHARES else list(CLASSES)
        truth = pl.Series(labels, dtype=pl.String).gather(actual_labels(seed, rows, again, len(labels)))
    return _json(_envelope(deployments, ids, at).with_columns(truth.alias("actual")))


def _envelope(deployments: list[str], ids: list[str], at: Rows) -> pl.DataFrame:
    instants = pl.Series(at).cast(pl.Datetime("us")).dt.to_string(_INSTANT)
    return pl.DataFrame(
        {
            "deploymentId": pl.Series(deployments, dtype=pl.String),
            "associationId": pl.Series(ids, dtype=pl.String),
            "timestamp": instants,
        }
    )


def _prediction(kind: Kind, seed: int, rows: Rows) -> pl.Series:
    match kind:
        case Kind.NUMBER:
            return pl.Series(predicted_numbers(seed, rows))
        case Kind.TWO_SHARES:
            shares = predicted_shares(seed, rows, 2)
            return pl.DataFrame({YES: shares[:, 0], NO: shares[:, 1]}).to_struct()
        case Kind.SHARES:
            shares = predicted_shares(seed, rows, len(CLASSES))
            return pl.DataFrame({label: shares[:, n] for n, label in enumerate(CLASSES)}).to_struct()
        case Kind.LABEL:
            return pl.Series(CLASSES, dtype=pl.String).gather(predicted_labels(seed, rows))


def _json(frame: pl.DataFrame) -> list[bytes]:
    encoded = pl.struct(frame.columns).struct.json_encode().cast(pl.Binary)
    values: list[bytes] = frame.select(encoded).to_series().to_list()
    return values


# ------------------------------------------------------------------------------------------ deployments


def write_baseline(directory: Path, seed: int) -> str:
    """Rows of the same kind, but none of those that come in; returns the name of the file."""
    rows = np.arange(BASELINE_ROWS, dtype=np.int64)
    features(seed + 1_000_000, rows).write_csv(directory / "baseline.csv")
    return "baseline.csv"


def description_of(name: str, kind: Kind, directory: Path, baseline: str) -> Path:
    """Write the description of one deployment. Every second kind has a monitoring batch a day."""
    targets: dict[Kind, dict[str, Any]] = {
        Kind.NUMBER: {"targetType": "Regression"},
        Kind.TWO_SHARES: {"targetType": "Binary", "classNames": [YES, NO], "positiveClass": YES},
        Kind.SHARES: {"targetType": "Multiclass", "classNames": list(CLASSES)},
        Kind.LABEL: {"targetType": "Multiclass", "classNames": list(CLASSES)},
    }
    described = {
        "id": name,
        "label": f"{name}: {kind}",
        "model": {"id": MODEL},
        "features": [{"name": one, "type": "numeric"} for one in NUMERIC]
        + [{"name": one, "type": "categorical"} for one in CATEGORICAL],
        "baseline": {"file": baseline, "kind": "training"},
        "batchMonitoring": {"enabled": kind in (Kind.TWO_SHARES, Kind.LABEL), "policy": "daily"},
        **targets[kind],
    }
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path
