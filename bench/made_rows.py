"""Rows of any shape, made by number: so many deployments, so many features each. The same number gives the same bytes.

Half of the features are numbers, half are one of ten words. A prediction with 20 of them has about 500 bytes.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path

import asyncpg
import numpy as np

from bench.workloads import Events
from service.adapters.postgres.deployments import PostgresDeployments
from service.devstack.demo.replay import ACTUAL, PREDICTION
from service.domain.ids import murmur2_many
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import parse_description

SEED = 2013
_VARIANTS = 512
_BASELINE = "baseline.csv"
_BASELINE_ROWS = 500
_MODEL = "model-1"
_AT_MOST_OPEN = 20_000
_DIGITS = 9
_COPY_OF_THE_FIRST = (
    "INSERT INTO deployments SELECT (jsonb_populate_record(one, jsonb_build_object('id', copy))).*"
    " FROM deployments AS one, unnest($2::text[]) AS copies (copy) WHERE id = $1",
    "INSERT INTO models SELECT (jsonb_populate_record(one, jsonb_build_object('deployment_id', copy))).*"
    " FROM models AS one, unnest($2::text[]) AS copies (copy) WHERE deployment_id = $1",
    "INSERT INTO baselines SELECT (jsonb_populate_record(one, jsonb_build_object('deployment_id', copy))).*"
    " FROM baselines AS one, unnest($2::text[]) AS copies (copy) WHERE deployment_id = $1",
)


@dataclass(frozen=True)
class Shape:
    """What rows look like; `deployments` take turns."""

    deployments: int = 1
    features: int = 20

    @cached_property
    def names(self) -> list[bytes]:
        return [b"made-%05d" % number for number in range(self.deployments)]

    @cached_property
    def _rows(self) -> list[list[float | str]]:
        dice = random.Random(SEED)
        return [[_value(dice, place) for place in range(self.features)] for _ in range(_BASELINE_ROWS + _VARIANTS)]

    @cached_property
    def _columns(self) -> list[str]:
        return [f"feat_{place:02}" for place in range(self.features)]

    @cached_property
    def _bodies(self) -> list[bytes]:
        """Prediction and features of a row, without the brace before."""
        dice, bodies = random.Random(SEED), []
        for row in self._rows[_BASELINE_ROWS:]:
            late = dice.randrange(1, 1000) / 1000
            named = {name: value for name, value in zip(self._columns, row, strict=True) if value != ""}
            body = {"prediction": {"late": late, "on_time": round(1 - late, 3)}, "modelId": _MODEL, "features": named}
            bodies.append(json.dumps(body, separators=(",", ":")).removeprefix("{").encode())
        return bodies

    def prediction(self, name: bytes, number: int, instant: bytes) -> bytes:
        """The value of prediction `number` with this association ID and timestamp."""
        return b'{"deploymentId":"%b","associationId":"%b","timestamp":"%b",%b' % (
            self.names[number % self.deployments], name, instant, self._bodies[number % _VARIANTS],
        )  # fmt: skip

    def actual(self, name: bytes, number: int, instant: bytes) -> bytes:
        """The value of the actual of that prediction."""
        return b'{"deploymentId":"%b","associationId":"%b","timestamp":"%b","actual":"%b"}' % (
            self.names[number % self.deployments], name, instant, b"late" if number % 3 else b"on_time",
        )  # fmt: skip

    def description(self, name: str) -> str:
        """Of one deployment; JSON, which is YAML too."""
        types = ["categorical" if place % 2 else "numeric" for place in range(self.features)]
        features = [{"name": name, "type": kind} for name, kind in zip(self._columns, types, strict=True)]
        described = {
            "id": name,
            "label": name,
            "targetName": "arrival",
            "targetType": "Binary",
            "classNames": ["late", "on_time"],
            "positiveClass": "late",
            "model": {"id": _MODEL},
            "features": features,
            "associationIdColumns": ["associationId"],
            "baseline": {"file": _BASELINE, "kind": "training"},
        }
        return json.dumps(described)

    async def register(self, pool: asyncpg.Pool, directory: Path) -> None:
        """Make the deployments, all with the baseline of the first."""
        lines: list[list[str] | list[float | str]] = [self._columns, *self._rows[:_BASELINE_ROWS]]
        (directory / _BASELINE).write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
        first, *others = [name.decode() for name in self.names]
        await apply(PostgresDeployments(pool), parse_description(self.description(first)), directory)
        for statement in _COPY_OF_THE_FIRST:
            await pool.execute(statement, first, others)


def _value(dice: random.Random, place: int) -> float | str:
    """One in fifty is missing."""
    if dice.random() < 0.02:
        return ""
    return f"word-{dice.randrange(10)}" if place % 2 else round(dice.gauss(100, 15), 2)


def instants(at: datetime, count: int) -> list[bytes]:
    """The seconds from `at` on, as timestamps."""
    return [(at + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ").encode() for second in range(count)]


def pairs(shape: Shape, first: int, count: int, *, at: datetime, partitions: int) -> Events:
    """So many predictions and as many actuals, all of the hour after `at`; each actual some thousands of rows later."""
    lag = min(count, _AT_MOST_OPEN)
    steps = count + lag
    seconds = [step * 3600 // steps for step in range(steps)]
    texts = instants(at, 3600)
    kinds, rows, times = list[int](), list[int](), list[int]()
    keys, values = list[bytes](), list[bytes]()

    def add(kind: int, row: int, step: int) -> None:
        name = row_name(b"row", row)
        kinds.append(kind)
        rows.append(row)
        times.append(seconds[step])
        keys.append(name)
        write = shape.prediction if kind == PREDICTION else shape.actual
        values.append(write(name, row, texts[seconds[step]]))

    for step in range(steps):
        if step < count:
            add(PREDICTION, first + step, step)
        if step >= lag:
            add(ACTUAL, first + step - lag, step)
    return events(kinds, rows, keys, values, at, times, partitions)


def open_rows(first: int, count: int, *, at: datetime, partitions: int) -> Events:
    """So many small predictions of the first deployment that no actual comes for."""
    shape, instant = Shape(features=0), instants(at, 1)[0]
    rows = list(range(first, first + count))
    keys = [row_name(b"open", row) for row in rows]
    values = [shape.prediction(key, 0, instant) for key in keys]
    return events([PREDICTION] * count, rows, keys, values, at, [0] * count, partitions)


def row_name(prefix: bytes, number: int) -> bytes:
    return b"%b-%0*d" % (prefix, _DIGITS, number)


def row_number(name: bytes) -> int:
    """The number in a name that ends with it."""
    return int(name[-_DIGITS:])


def events(
    kinds: Sequence[int], rows: Sequence[int], keys: list[bytes], values: list[bytes],
    at: datetime, seconds: Sequence[int], partitions: int,
) -> Events:  # fmt: skip
    """Parallel columns, each event where its key belongs; `seconds` after `at`, which is the Kafka timestamp too."""
    return Events(
        topics=np.array(kinds, dtype=np.int8),
        rows=np.array(rows, dtype=np.int64),
        partitions=murmur2_many(keys) % partitions,
        timestamps_ms=round(at.timestamp() * 1000) + 1000 * np.array(seconds, dtype=np.int64),
        keys=keys,
        values=values,
    )
