"""Rows of the ledger's tables as what they stand for."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal

import asyncpg
import numpy as np

from service.domain.flood import Flood
from service.domain.instants import span_us
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.moments import as_quanta
from service.domain.stats.traffic import Traffic
from service.domain.watermark import NEVER, DeploymentClock, InputClock
from service.ports import AccuracyCellKey, Checkpoint, ClockRow, LedgerMismatch, Owner, PredictionCellKey

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1)


def micros_of(at: datetime | None) -> int | None:
    return None if at is None else span_us(at - EPOCH)


def clock_of(row: asyncpg.Record) -> ClockRow:
    def input_clock(name: str) -> InputClock | None:
        at, stood_at, silent = row[f"{name}_clock"], micros_of(row[f"{name}_stood_at"]), row[f"{name}_silent_since"]
        silent_since = micros_of(silent)
        if at is None or stood_at is None or silent_since is None:
            return None
        return InputClock(at=at, stood_at=stood_at, silent_since=silent_since)

    watermark = NEVER if row["watermark"] is None else row["watermark"]
    return ClockRow(
        clock=DeploymentClock(
            predictions=input_clock("predictions"), actuals=input_clock("actuals"), watermark=watermark
        ),
        predictions_received=row["predictions_received"],
        actuals_received=row["actuals_received"],
        dispositions=row["dispositions"],
        deletions_applied=row["deletions_applied"],
        has_strays=row["has_strays"],
        rolled_until=row["rolled_until"],
        dropped_until=row["dropped_until"],
    )


def _cell_key(row: asyncpg.Record) -> tuple[str, str, str, int, str]:
    hour = micros_of(row["hour"])
    assert hour is not None
    return row["deployment_id"], row["model_id"], row["batch_id"], hour, row["segment"]


def _traffic_of(row: asyncpg.Record) -> Traffic:
    return Traffic(
        predictions=row["predictions"],
        first_at=micros_of(row["first_at"]),
        last_at=micros_of(row["last_at"]),
        last_due=micros_of(row["last_due"]),
        outcomes=np.array(row["outcomes"], dtype=np.int64),
        features=np.array(row["feature_counts"], dtype=np.int64),
    )


def _accuracy_of(row: asyncpg.Record) -> Accuracy:
    def quanta(name: str) -> int:
        total: Decimal = row[name]
        return as_quanta(total)

    return Accuracy(
        matched=row["matched"],
        error=quanta("error_sum"),
        absolute_error=quanta("absolute_error_sum"),
        squared_error=quanta("squared_error_sum"),
        actual=quanta("actual_sum"),
        actual_square=quanta("actual_square_sum"),
        log_loss_rows=row["log_loss_rows"],
        log_loss=quanta("log_loss_sum"),
        confusion=dict(zip(row["confusion_pairs"], row["confusion_counts"], strict=True)),
    )


def prediction_cells_of(rows: Iterable[asyncpg.Record]) -> dict[PredictionCellKey, Traffic]:
    return {PredictionCellKey(*_cell_key(row)): _traffic_of(row) for row in rows}


def accuracy_cells_of(rows: Iterable[asyncpg.Record]) -> dict[AccuracyCellKey, Accuracy]:
    return {AccuracyCellKey(*_cell_key(row), (row["label_day"] - EPOCH_DAY).days): _accuracy_of(row) for row in rows}


def checkpoint_of(row: asyncpg.Record | None) -> Checkpoint:
    if row is None:
        raise LedgerMismatch("the ledger row of a task is gone: the database was emptied under a running worker")
    if row["slot_version"] != row["version"]:
        raise LedgerMismatch(f"task {row['task']}: slot of version {row['slot_version']}, ledger {row['version']}")
    owner = None
    if row["owner_instance"] is not None:
        owner = Owner(instance=row["owner_instance"], process=row["owner_process"])
    return Checkpoint(
        task=row["task"],
        epoch=row["epoch"],
        version=row["version"],
        seq=row["seq"],
        offsets=row["offsets"],
        origins=row["origins"],
        owner=owner,
        slot=row["slot"],
        incarnation=row["incarnation"],
        flood=Flood(runs=row["runs"], paused_by=row["paused_by"]),
    )
