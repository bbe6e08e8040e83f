"""What `tail` and `explain` do, once their arguments are read: open, look, close. Both only read."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from service.adapters.kafka.connection import client_options
from service.adapters.kafka.source_records import read_sources
from service.adapters.kafka.status_reader import Progress, StatusReader, open_status_reader
from service.adapters.postgres.catalog import PostgresCatalog
from service.adapters.postgres.ledger import PostgresLedger
from service.adapters.postgres.pool import NotAdmitted, UnsafeSession, open_pool
from service.adapters.postgres.schema import NotMigrated, assert_migrated
from service.adapters.worker_http import NotHeld, held_by_worker
from service.config import KafkaSettings, PostgresSettings, Settings
from service.domain.errors import NotFound
from service.domain.ids import home_of, row_key
from service.domain.records import Topic, topic_name
from service.ports import Unavailable
from service.usecases.row_life import History, Known, RowLife, compose
from service.usecases.status_stream import Following, Gap, Told, Wanted
from service.wire.held_row import watermark_text

Show = Callable[[Told | Gap], None]
_POOL_SIZE = 2
_SOURCES_AT_MOST = 100


async def tail(settings: KafkaSettings, wanted: Wanted, show: Show, flush: Callable[[], None]) -> None:
    """Show the statuses that are wanted, and every gap, as they come; for ever, or until the limit."""
    left = wanted.limit
    following = Following()
    reader = await open_status_reader(client_options(settings), settings.topic_prefix)
    partitions = wanted.partitions(reader.partitions)
    async with aclosing(reader.follow(partitions, wanted.since_ms)) as chunks:
        async for chunk in chunks:
            for one in (one for published in chunk for one in following.take(published)):
                if isinstance(one, Gap):
                    show(one)
                elif wanted.takes(one):
                    show(one)
                    left = None if left is None else left - 1
                    if left == 0:
                        flush()
                        return
            flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which row, and which worker to ask for it besides."""

    deployment_id: str
    row_id: str
    worker: str | None = None


async def explain(settings: Settings, asked: Asked, progress: Progress) -> RowLife:
    """The life of one row. Raises `NotFound`, naming where was looked."""
    kafka, options = settings.kafka, client_options(settings.kafka)
    known = Known(prefix=kafka.topic_prefix)
    if asked.worker is not None:
        known = await _with_held(known, asked, asked.worker)
    reader = await open_status_reader(options, kafka.topic_prefix)
    partition, history = await _history(reader, asked, progress)
    known = await _with_settings(known, settings.postgres, asked.deployment_id, partition, history)
    if not history.told() and known.held is None:
        raise NotFound(_looked(asked, kafka, reader.partitions, known))
    sources = history.places()[-_SOURCES_AT_MOST:]
    known = replace(known, arrived=await read_sources(options, sources))
    return compose(asked.deployment_id, asked.row_id, partition, history, known)


async def _history(reader: StatusReader, asked: Asked, progress: Progress) -> tuple[int, History]:
    """From the row's partition; of a row without any ID, from the first in which it is found."""
    home = home_of(asked.row_id, reader.partitions)
    history = History()
    for partition in range(reader.partitions) if home is None else (home,):
        await reader.history(partition, row_key(asked.deployment_id, asked.row_id), history.add, progress)
        if history.told():
            return partition, history
    return home or 0, history


async def _with_held(known: Known, asked: Asked, url: str) -> Known:
    try:
        return replace(known, held=await held_by_worker(url, asked.deployment_id, asked.row_id))
    except NotHeld as error:
        return replace(known, notes=(*known.notes, f"worker {url}: {error}"))


async def _with_settings(
    known: Known, settings: PostgresSettings, deployment_id: str, task: int, history: History
) -> Known:
    """Also without Postgres much can be told."""
    dsn = settings.dsn.get_secret_value()
    try:
        await assert_migrated(dsn)
        async with open_pool(dsn, size=_POOL_SIZE, application_name="hindsight-cli") as pool:
            catalog = PostgresCatalog(pool)
            deployment = (await catalog.deployments([deployment_id])).get(deployment_id)
            batches = await catalog.batches([(deployment_id, batch) for batch in history.batches()])
            clocks = (await PostgresLedger(pool).clocks(task)).get(deployment_id)
    except (Unavailable, NotAdmitted, NotMigrated, UnsafeSession) as error:
        note = f"without the database neither the watermark nor what was counted for accuracy is known: {error}"
        return replace(known, notes=(*known.notes, note))
    notes = known.notes if deployment else (*known.notes, f"there is no deployment {deployment_id!r} in the database")
    return replace(
        known,
        deployment=deployment,
        batches={batch.id: batch for batch in batches.values()},
        watermark=watermark_text(clocks.clock.watermark) if clocks else None,
        notes=notes,
    )


def _looked(asked: Asked, kafka: KafkaSettings, partitions: int, known: Known) -> str:
    home = home_of(asked.row_id, partitions)
    where = f"partitions 0 to {partitions - 1}" if home is None else f"partition {home}, the home of that row ID"
    looked = f"looked in {topic_name(kafka.topic_prefix, Topic.STATUS)}, {where}"
    return "\n".join(
        [f"there is no row {asked.row_id!r} of deployment {asked.deployment_id!r}; {looked}", *known.notes]
    )
