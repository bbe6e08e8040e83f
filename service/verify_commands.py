"""What `verify` does, once its arguments are read: open both sides, compare task by task, close. It only reads."""

import tempfile
from pathlib import Path

from service.adapters.clock import SystemClock
from service.adapters.kafka.connection import client_options
from service.adapters.kafka.published import KafkaStatuses, open_inputs
from service.adapters.kafka.status_reader import open_status_reader
from service.adapters.postgres.cells import PostgresCells
from service.adapters.postgres.pool import open_pool
from service.adapters.postgres.schema import assert_migrated
from service.adapters.rocksdb.store import RocksDbStores
from service.config import Settings
from service.usecases.verification import Asked, Progress, Verified, World, verified, verify_task

_CACHE_BYTES = 64 << 20


async def verify(settings: Settings, asked: Asked, progress: Progress) -> Verified:
    """Rows are kept on disk meanwhile, in a directory that is gone afterwards. May raise `Unavailable`."""
    kafka, options = settings.kafka, client_options(settings.kafka)
    dsn = settings.postgres.dsn.get_secret_value()
    await assert_migrated(dsn)
    partitions = (await open_status_reader(options, kafka.topic_prefix)).partitions
    statuses = KafkaStatuses(
        options, prefix=kafka.topic_prefix, group_id=kafka.group_id, transactions=kafka.transactions
    )
    async with (
        open_pool(dsn, size=1, application_name="hindsight-cli") as pool,
        open_inputs(options, kafka.topic_prefix, partitions) as inputs,
    ):
        cells = PostgresCells(pool, asked.deployment_id)
        await cells.check_identity(kafka.group_id, partitions)
        now_ms = round(SystemClock().now().timestamp() * 1000)
        world = World(cells=cells, statuses=statuses, inputs=inputs, prefix=kafka.topic_prefix, now_ms=now_ms)
        tasks = []
        for task in asked.tasks(partitions):
            with tempfile.TemporaryDirectory(prefix="hindsight-verify-") as directory:
                store = RocksDbStores(Path(directory), _CACHE_BYTES).open(task)
                try:
                    tasks.append(await verify_task(world, task, asked, store, progress))
                finally:
                    store.close()
    return verified(tasks)
