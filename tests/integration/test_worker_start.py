"""A worker does not start over topics, database and ledger that do not fit; it says what is wrong and what mends it."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete

from service.adapters.rocksdb.store import RocksDbStores
from service.domain.records import INPUT_TOPICS, Topic
from tests.integration.rows import traffic
from tests.integration.worker import Site, until

ROLES = (*INPUT_TOPICS, Topic.STATUS, Topic.BATCHES, Topic.DLQ)


async def some_work_done(site: Site) -> None:
    places = await site.produce(traffic(200, seed=20).events)
    async with site.worker() as worker:
        await site.processed(worker)
        assert await worker.terminate() == 0
    assert places


async def test_a_status_topic_that_forgets_rows_too_early(site: Site) -> None:
    """A deployment waits 200 days in all; what is kept of a row must outlive it by 30."""
    await site.pool.execute("UPDATE deployments SET join_grace = '170 days'")
    said = await site.refused()
    least = 230 * 86_400_000
    assert f"{site.name(Topic.STATUS)} has retention.ms={120 * 86_400_000}, it must be at least {least}" in said
    assert f"--add-config retention.ms={least}" in said


async def test_wrong_partition_count(site: Site, admin: AIOKafkaAdminClient) -> None:
    await admin.create_partitions({site.name("actuals"): NewPartitions(total_count=5)})

    async def visible() -> bool:
        (described,) = await admin.describe_topics([site.name("actuals")])
        return len(described["partitions"]) == 5

    await until(visible)
    said = await site.refused()
    assert f"{site.name('predictions')} has 4 partitions where 5 are needed" in said
    assert "kafka-topics.sh" in said


async def test_missing_topic(site: Site, admin: AIOKafkaAdminClient) -> None:
    await admin.delete_topics([site.name("dlq")])
    said = await site.refused()
    assert f"{site.name('dlq')} does not exist; create it: hindsight topics create --partitions 4" in said


async def test_wrong_cleanup_policy(site: Site, admin: AIOKafkaAdminClient) -> None:
    resource = ConfigResource(ConfigResourceType.TOPIC, site.name("predictions"), {"cleanup.policy": "compact"})
    await admin.alter_configs([resource])
    said = await site.refused()
    assert "has cleanup.policy=compact, it must be delete: kafka-configs.sh" in said


async def test_unmigrated_database(site: Site, second_database: str) -> None:
    said = await site.refused(POSTGRES__DSN=second_database)
    assert "the database has no schema" in said
    assert "hindsight migrate" in said


async def test_database_of_another_group(site: Site) -> None:
    await some_work_done(site)
    said = await site.refused(KAFKA__GROUP_ID=f"{site.prefix}-other")
    assert f"belongs to consumer group '{site.prefix}'" in said
    assert "HINDSIGHT_KAFKA__GROUP_ID" in said


async def test_database_filled_from_other_partitions(site: Site) -> None:
    await some_work_done(site)
    await site.pool.execute("UPDATE ledger_identity SET partitions = 8")
    said = await site.refused()
    assert "filled from 8 partitions, the topics have 4" in said


@pytest.mark.parametrize("role", ["predictions", "status"])
async def test_topic_created_again(site: Site, admin: AIOKafkaAdminClient, role: str) -> None:
    await some_work_done(site)
    await site.recreate(admin, role)
    said = await site.refused()
    assert "was deleted and created again" in said
    assert role in said


@pytest.mark.parametrize("role", ["actuals", "status"])
async def test_topic_created_again_while_it_runs(site: Site, admin: AIOKafkaAdminClient, role: str) -> None:
    places = await site.produce(traffic(200, seed=20).events)
    async with site.worker() as worker:
        await site.processed(worker)
        await site.recreate(admin, role)
        assert places
        assert await worker.ended() == 1
        assert "was deleted and created again" in worker.text()


async def test_partitions_added_while_it_runs(site: Site, admin: AIOKafkaAdminClient) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        await admin.create_partitions({site.name(role): NewPartitions(total_count=8) for role in ROLES})
        assert await worker.ended() == 1
        assert "filled from 4 partitions, the topics have 8" in worker.text()


async def test_retention_shortened_while_it_runs(site: Site, admin: AIOKafkaAdminClient) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        short = {"cleanup.policy": "compact,delete", "retention.ms": str(24 * 3_600_000)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, site.name("status"), short)])
        assert await worker.ended() == 1
        assert "retention.ms" in worker.text()


async def test_ledger_behind_the_begin_of_the_log(site: Site, admin: AIOKafkaAdminClient) -> None:
    """Retention removed what had not been read."""
    await some_work_done(site)
    await site.produce(traffic(200, seed=21, prefix="later").events)
    ends = await site.ends()
    partition = TopicPartition(site.name("predictions"), 2)
    await admin.delete_records({partition: RecordsToDelete(before_offset=ends[2]["predictions"])})
    said = await site.refused()
    assert f"{partition.topic} partition 2 holds offsets {ends[2]['predictions']} to" in said
    assert "Nothing was skipped" in said


async def test_ledger_beyond_the_end_of_the_log(site: Site) -> None:
    """The log lost its end, or another cluster has topics of these names."""
    await some_work_done(site)
    await site.pool.execute("UPDATE ledger SET offsets = offsets || '{\"actuals\": 1000000}' WHERE task = 1")
    said = await site.refused()
    assert f"{site.name('actuals')} partition 1 holds offsets" in said
    assert "the ledger goes on at 1000000" in said


async def test_a_ledger_restored_from_an_older_copy(site: Site) -> None:
    await some_work_done(site)
    await site.pool.execute("UPDATE ledger SET version = version + 5")
    await site.pool.execute("UPDATE outbox_slots SET version = version + 5")
    said = await site.refused()
    assert "was published, but the ledger stands at" in said


async def test_nobody_answers(site: Site) -> None:
    kafka, postgres = await asyncio.gather(
        site.refused("a", KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1"),
        site.refused("b", POSTGRES__DSN="postgresql://a:b@127.0.0.1:1/c"),
    )
    assert "error: Kafka: " in kafka
    assert "error: Postgres: " in postgres


async def test_state_directory_in_use(site: Site) -> None:
    """Somebody else has a store of the directory open: the worker says so, waits, and goes on once it is free."""
    store = RocksDbStores(site.state_dir("one"), cache_bytes=1 << 24).open(2)
    async with site.worker("one") as worker:

        async def waits() -> bool:
            return any("one process at a time" in line["detail"] for line in worker.lines("waiting"))

        await worker.until(waits, what="a word about the directory")
        status, detail = await worker.probe("readyz")
        assert status == 503, detail
        store.close()
        await worker.ready(tasks=4)
