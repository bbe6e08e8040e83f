"""`Ledger` on Postgres: one transaction per task and micro-batch, fenced by epoch and version."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
import numpy as np
import orjson
from numpy.typing import NDArray

from service.adapters.postgres.ledger_rows import (
    EPOCH,
    EPOCH_DAY,
    accuracy_cells_of,
    checkpoint_of,
    clock_of,
    micros_of,
    prediction_cells_of,
)
from service.adapters.postgres.locks import batch_lock, deployment_lock, lock_columns
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.flood import Flood
from service.domain.instants import DAY_US
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.domain.watermark import NEVER, InputClock
from service.ports import (
    AccuracyCellKey,
    Checkpoint,
    ClockRow,
    Deletions,
    Fenced,
    LedgerMismatch,
    MicroBatch,
    Owner,
    PredictionCellKey,
    SettingsMoved,
    Unavailable,
)

_RESOLVE_TRIES = 40
_RESOLVE_WAIT_S = 0.25
T = TypeVar("T")


class PostgresLedger:
    """The ledger of one service. All methods may be called for different tasks at once."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def claim(self, group_id: str, partitions: int, topic_ids: Mapping[str, str]) -> None:
        """Make this database the ledger of the group, or check that it is. Raises `LedgerMismatch`.

        `topic_ids` (topic name to ID) tells a topic from another of the same name; empty where the broker has none.
        """
        with translating():
            await self._pool.execute(statement("ledger_claim"), group_id, partitions)
            if topic_ids:
                await self._pool.execute(statement("ledger_note_topics"), dict(topic_ids))
            identity = await self._pool.fetchrow(statement("ledger_identity"))
        if identity["group_id"] != group_id:
            raise LedgerMismatch(
                f"this database belongs to consumer group {identity['group_id']!r}, not {group_id!r}: set "
                "HINDSIGHT_KAFKA__GROUP_ID or HINDSIGHT_POSTGRES__DSN"
            )
        if identity["partitions"] != partitions:
            raise LedgerMismatch(
                f"this database was filled from {identity['partitions']} partitions, the topics have {partitions}: "
                "rows would change their home. Run `hindsight topics create` with the old count under a new prefix, "
                "or start an empty database"
            )
        for topic, remembered in identity["topic_ids"].items():
            if topic_ids and topic_ids.get(topic) != remembered:
                raise LedgerMismatch(
                    f"topic {topic} was deleted and created again: the offsets in this database belong to the old one. "
                    "Start an empty database (`hindsight migrate`) or restore the topic"
                )

    async def ping(self) -> None:
        """Raises `Unavailable` when Postgres does not answer."""
        with translating():
            await self._pool.fetchval(statement("ping"))

    async def take_over(self, task: int, owner: Owner) -> Checkpoint:
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(statement("ledger_take_over"), task, owner.instance, owner.process)
                return checkpoint_of(await connection.fetchrow(statement("ledger_read"), task))

    async def read(self, task: int) -> Checkpoint:
        with translating():
            return checkpoint_of(await self._pool.fetchrow(statement("ledger_read"), task))

    async def persist(self, batch: MicroBatch) -> None:
        try:
            with translating():
                await self._commit(batch)
        except (Fenced, Unavailable) as doubt:
            await self._resolve(batch, doubt)

    async def _resolve(self, batch: MicroBatch, doubt: Exception) -> None:
        """Learn what became of a commit: return when it is in, raise `Unavailable` when it is not, else `Fenced`.

        A commit whose answer was lost may still be under way in the server, so its session must be gone first: the
        fence statement of the next try waits for the row's lock until it is.
        """
        for _ in range(_RESOLVE_TRIES):
            try:
                with translating():
                    found = await self._pool.fetchrow(statement("ledger_position"), batch.task)
            except Unavailable:
                await asyncio.sleep(_RESOLVE_WAIT_S)
                continue
            if found["epoch"] != batch.epoch:
                raise Fenced(f"task {batch.task}: epoch {found['epoch']} has replaced {batch.epoch}") from doubt
            if found["version"] == batch.expected_version + 1:
                return
            if found["version"] == batch.expected_version and isinstance(doubt, Unavailable):
                raise doubt
            raise Fenced(f"task {batch.task} stands at version {found['version']}") from doubt
        raise Unavailable("Postgres: a commit is in doubt, and the ledger can not be read") from doubt

    async def _commit(self, batch: MicroBatch) -> None:
        """Few statements, since each one waits for all that the event loop has to do meanwhile."""
        names, keys = list(batch.deployment_versions), list(batch.batch_versions)
        locks = [deployment_lock(name) for name in names] + [batch_lock(*key) for key in keys]
        async with self._pool.acquire() as connection, connection.transaction():
            # The fence comes first: it waits for a former try of ours whose commit is still under way, so that what
            # is found changed below was computed again from a ledger that stands still.
            advanced = await connection.fetchval(
                statement("ledger_advance"),
                batch.task,
                batch.epoch,
                batch.expected_version,
                batch.seq,
                dict(batch.offsets),
                dict(batch.origins),
                None if batch.flood is None else dict(batch.flood.runs),
                None if batch.flood is None else batch.flood.paused_by,
                batch.slot,
                *lock_columns(locks),
            )
            if advanced is None:
                raise Fenced(f"task {batch.task}: epoch {batch.epoch}, version {batch.expected_version} is gone")
            if batch.dropped_batches:
                gone = _columns(batch.dropped_batches, 2)
                await connection.execute(statement("ledger_drop_prediction_cells"), batch.task, *gone)
                await connection.execute(statement("ledger_drop_accuracy_cells"), batch.task, *gone)
            gone_hours = [(name, day, day + DAY_US) for name, day in batch.rolled_days]
            gone_hours += [(name, 0, until) for name, until in batch.dropped_hours]
            if gone_hours:
                gone = _columns([(name, _instant(first), _instant(until)) for name, first, until in gone_hours], 3)
                await connection.execute(statement("ledger_drop_prediction_hours"), batch.task, *gone)
                await connection.execute(statement("ledger_drop_accuracy_hours"), batch.task, *gone)
            found = await connection.fetchrow(
                statement("ledger_put"),
                batch.task,
                *_prediction_columns(batch.prediction_cells),
                *_accuracy_columns(batch.accuracy_cells),
                *_columns([_clock_row(name, row) for name, row in batch.clocks.items()], 15),
                names,
                *_columns(keys, 2),
            )
            if found["deployments"] != batch.deployment_versions:
                raise SettingsMoved("a deployment has changed")
            if {(name, key): version for name, key, version in found["batches"]} != batch.batch_versions:
                raise SettingsMoved("a monitoring batch has changed")
            if batch.submissions:
                rows = [(*key, records) for key, records in batch.submissions.items()]
                await connection.execute(statement("ledger_put_submissions"), batch.task, *_columns(rows, 3))
            if batch.outbox_ids:
                await connection.execute(statement("ledger_drop_outbox"), list(batch.outbox_ids))

    async def resume(self, task: int | None) -> dict[int, Flood]:
        with translating():
            rows = await self._pool.fetch(statement("ledger_resume"), task)
        return {row["task"]: Flood(runs=row["runs"], paused_by=row["paused_by"]) for row in rows}

    async def clocks(self, task: int) -> dict[str, ClockRow]:
        with translating():
            rows = await self._pool.fetch(statement("ledger_clocks"), task)
        return {row["deployment_id"]: clock_of(row) for row in rows}

    async def held_at(self, task: int) -> dict[str, int]:
        with translating():
            rows = await self._pool.fetch(statement("ledger_held_at"), task)
        return {row["deployment_id"]: row["at"] for row in rows}

    async def now(self) -> datetime:
        with translating():
            now: datetime = await self._pool.fetchval(statement("ledger_now"))
        return now

    async def prediction_cells(
        self, task: int, keys: Collection[PredictionCellKey]
    ) -> dict[PredictionCellKey, Traffic]:
        wanted = [(*key[:3], _instant(key.hour), key.segment) for key in keys]
        with translating():
            rows = await self._pool.fetch(statement("ledger_prediction_cells"), task, *_columns(wanted, 5))
        return prediction_cells_of(rows)

    async def accuracy_cells(self, task: int, keys: Collection[AccuracyCellKey]) -> dict[AccuracyCellKey, Accuracy]:
        wanted = [(*key[:3], _instant(key.hour), key.segment, _day(key.label_day)) for key in keys]
        with translating():
            rows = await self._pool.fetch(statement("ledger_accuracy_cells"), task, *_columns(wanted, 6))
        return accuracy_cells_of(rows)

    async def first_day(self, task: int, deployment_id: str, start: int, end: int) -> int | None:
        asked = (task, deployment_id, _instant(start), _instant(end))
        with translating():
            hour = micros_of(await self._pool.fetchval(statement("ledger_first_hour"), *asked))
        return None if hour is None else hour // DAY_US * DAY_US

    async def cells_of_day(
        self, task: int, deployment_id: str, day: int
    ) -> tuple[dict[PredictionCellKey, Traffic], dict[AccuracyCellKey, Accuracy]]:
        asked = (task, deployment_id, _instant(day), _instant(day + DAY_US))
        with translating():
            traffic = await self._pool.fetch(statement("ledger_prediction_cells_between"), *asked)
            accuracy = await self._pool.fetch(statement("ledger_accuracy_cells_between"), *asked)
        return prediction_cells_of(traffic), accuracy_cells_of(accuracy)

    async def submissions(self, task: int, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        with translating():
            rows = await self._pool.fetch(statement("ledger_submissions"), task, *_columns(list(keys), 2))
        return {(row["submission_id"], row["status"]): row["records"] for row in rows}

    async def outbox(self, task: int, partitions: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        with translating():
            rows = await self._pool.fetch(statement("ledger_outbox"), task, partitions, limit)
        return [(row["id"], row["key"], row["value"]) for row in rows]

    async def deletions(self, task: int) -> dict[str, Deletions]:
        with translating():
            rows = await self._pool.fetch(statement("ledger_deletions"), task)
        return {row["deployment_id"]: Deletions(row["number"], row["batches"] or [], row["whole"]) for row in rows}


def _columns(rows: Sequence[Sequence[Any]] | Iterable[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as columns, for unnest; `width` empty columns for no rows."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


@lru_cache(maxsize=16_384)  # hours come again and again
def _instant(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)


@lru_cache(maxsize=1024)
def _day(days: int) -> date:
    return EPOCH_DAY + timedelta(days=days)


# Cells are written by the thousand: their columns travel as texts of arrays, which Postgres reads faster than the
# client library could take them apart.


def _prediction_columns(cells: Mapping[PredictionCellKey, Traffic]) -> list[str]:
    """The columns of prediction cells, each as the text of an array."""
    values = list(cells.values())
    return [
        *_key_columns(cells),
        _numbers([cell.predictions for cell in values]),
        _numbers(["NULL" if cell.first_at is None else cell.first_at for cell in values]),
        _numbers(["NULL" if cell.last_at is None else cell.last_at for cell in values]),
        _numbers(["NULL" if cell.last_due is None else cell.last_due for cell in values]),
        _matrix([cell.outcomes for cell in values]),
        _matrix([cell.features for cell in values]),
    ]


def _accuracy_columns(cells: Mapping[AccuracyCellKey, Accuracy]) -> list[str]:
    """The columns of accuracy cells, each as the text of an array; sums in quanta."""
    values = list(cells.values())
    return [
        *_key_columns(cells),
        _numbers([key.label_day for key in cells]),
        _numbers([cell.matched for cell in values]),
        _numbers([cell.error for cell in values]),
        _numbers([cell.absolute_error for cell in values]),
        _numbers([cell.squared_error for cell in values]),
        _numbers([cell.actual for cell in values]),
        _numbers([cell.actual_square for cell in values]),
        _numbers([cell.log_loss_rows for cell in values]),
        _numbers([cell.log_loss for cell in values]),
        _texts([_numbers(cell.confusion) for cell in values]),
        _texts([_numbers(cell.confusion.values()) for cell in values]),
    ]


def _key_columns(cells: Iterable[PredictionCellKey | AccuracyCellKey]) -> list[str]:
    deployments, models, batches, hours, segments = _columns([key[:5] for key in cells], 5)
    return [_texts(deployments), _texts(models), _texts(batches), _numbers(hours), _texts(segments)]


def _numbers(numbers: Iterable[int | str]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def _texts(texts: Sequence[str]) -> str:
    if not texts:
        return "{}"
    joined = "\0".join(texts).replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + joined.replace("\0", '","') + '"}'


def _matrix(rows: Sequence[NDArray[np.int64]]) -> str:
    """Texts of arrays as the text of an array; a shorter row is filled up with zeros, which mean the same."""
    if not rows:
        return "{}"
    table = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    text = orjson.dumps(table, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return '{"{' + text[2:-2].replace("],[", '}","{') + '}"}'


def _clock_row(name: str, row: ClockRow) -> tuple[Any, ...]:
    clock = row.clock
    watermark = None if clock.watermark == NEVER else clock.watermark
    return (
        *(name, *_input_columns(clock.predictions), *_input_columns(clock.actuals), watermark, row.has_strays),
        *(row.rolled_until, row.dropped_until),
        *(row.predictions_received, row.actuals_received, dict(row.dispositions), row.deletions_applied),
    )


def _input_columns(clock: InputClock | None) -> tuple[int | None, datetime | None, datetime | None]:
    if clock is None:
        return None, None, None
    return clock.at, _instant(clock.stood_at), _instant(clock.silent_since)
