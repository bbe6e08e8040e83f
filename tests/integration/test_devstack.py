"""The development stack on real servers: what it keeps, what it refuses, and that it never leaves a process behind."""

import asyncio
import fcntl
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic

from service.adapters.kafka.connection import open_admin
from service.devstack import Broker, DevStack, MissingSoftware, ServerFailed, open_devstack
from service.devstack.errors import DirectoryInUse
from service.devstack.java import KafkaSoftware, java_version
from service.devstack.kafka import Kafka
from service.devstack.ports import free_port, is_free, kept_ports
from service.devstack.postgres import Postgres, open_postgres
from service.devstack.processes import Backoff, Command, Death, kept_alive

pytestmark = pytest.mark.integration

PATIENCE = 20.0
TOPIC = "predictions"

OPEN_AND_TELL = """
import asyncio, json, sys
from pathlib import Path
from service.devstack import open_devstack

async def main():
    async with open_devstack(Path(sys.argv[1]), broker=sys.argv[2]) as stack:
        print(json.dumps([stack.kafka.pid, stack.postgres.pid]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_goes_on_where_it_was(kafka_software: KafkaSoftware, data_dir: Path) -> None:
    async with open_devstack(data_dir, broker="kafka") as first:
        assert (first.broker, first.transactions) == ("Apache Kafka 4.1.1", True)
        await create_topic(first.bootstrap_servers)
        await produce(first.bootstrap_servers, b"plain")
        await produce(first.bootstrap_servers, b"in a transaction", transactional_id="test")
        await execute(first.postgres_dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        pids = [first.kafka.pid, first.postgres.pid]
    assert not any(lives(pid) for pid in pids)

    async with open_devstack(data_dir, broker="kafka") as second:
        assert (second.bootstrap_servers, second.postgres_dsn) == (first.bootstrap_servers, first.postgres_dsn)
        assert await consume(second.bootstrap_servers, 2) == [b"plain", b"in a transaction"]
        assert await fetch_value(second.postgres_dsn, "SELECT answer FROM kept") == 42


async def test_a_killed_parent_leaves_no_process_and_its_directory_usable(
    kafka_software: KafkaSoftware, data_dir: Path
) -> None:
    pids = await killed_after_opening(data_dir, "kafka")
    async with open_devstack(data_dir, broker="kafka") as stack:  # waits for the lock, which the servers hold, too
        assert not any(lives(pid) for pid in pids)
        assert await fetch_value(stack.postgres_dsn, "SELECT 1") == 1


async def test_a_killed_parent_leaves_no_tansu(data_dir: Path) -> None:
    for pid in await killed_after_opening(data_dir, "tansu"):
        await eventually(lambda pid=pid: not lives(pid))  # type: ignore[misc]


async def test_two_stacks_side_by_side(kafka: Kafka, postgres: Postgres) -> None:
    async with open_devstack(None, broker="kafka") as other:
        assert other.bootstrap_servers != kafka.bootstrap_servers
        assert other.postgres_dsn != postgres.dsn
        await create_topic(other.bootstrap_servers)
        await produce(other.bootstrap_servers, b"other")
        assert TOPIC not in await topics(kafka.bootstrap_servers)
        assert TOPIC in await topics(other.bootstrap_servers)


async def test_tansu_holds_records_and_groups_and_begins_empty(data_dir: Path) -> None:
    async with open_devstack(data_dir, broker="tansu") as stack:
        assert (stack.broker, stack.transactions) == ("Tansu (in memory)", False)
        await create_topic(stack.bootstrap_servers)
        await produce(stack.bootstrap_servers, b"one")
        await produce(stack.bootstrap_servers, b"two")
        assert await consume(stack.bootstrap_servers, 2, group="readers") == [b"one", b"two"]
        async with open_admin({"bootstrap_servers": stack.bootstrap_servers}) as admin:
            committed = await admin.list_consumer_group_offsets("readers", partitions=[TopicPartition(TOPIC, 0)])
            assert committed[TopicPartition(TOPIC, 0)].offset == 2
        await execute(stack.postgres_dsn, "CREATE TABLE forgotten ()")
    async with open_devstack(data_dir, broker="tansu") as stack:
        assert TOPIC not in await topics(stack.bootstrap_servers)
        assert await fetch_value(stack.postgres_dsn, "SELECT to_regclass('forgotten')") is None


async def test_a_second_stack_over_one_directory_is_refused(data_dir: Path) -> None:
    async with open_devstack(data_dir, broker="tansu") as first:
        with pytest.raises(DirectoryInUse, match=f"in use by another stack.*{os.getpid()}"):
            async with open_devstack(data_dir, broker="tansu"):
                pytest.fail("two stacks share a directory")
        assert await fetch_value(first.postgres_dsn, "SELECT 1") == 1


async def test_a_temporary_directory_is_removed() -> None:
    async with open_devstack(None, broker="tansu") as stack:
        home = stack.postgres.log.parent.parent
        assert (home / "lock").exists()
    assert not home.exists()


async def test_servers_come_back_on_their_ports(data_dir: Path) -> None:
    async with open_devstack(data_dir, broker="tansu") as stack:
        await execute(stack.postgres_dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        for server in (stack.kafka, stack.postgres):
            before = server.pid
            await server.kill()
            assert not server.running
            await server.start()
            await server.restart()
            assert server.pid != before
        assert await fetch_value(stack.postgres_dsn, "SELECT answer FROM kept") == 42
        assert await topics(stack.bootstrap_servers) == []


async def test_a_failing_postgres_shows_its_log(data_dir: Path) -> None:
    async with open_postgres(data_dir / "postgres", say=ignore):
        pass
    with (data_dir / "postgres" / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")
    with pytest.raises(ServerFailed, match=r"(?s)PostgreSQL .* did not start: .*no_such_setting"):
        async with open_postgres(data_dir / "postgres", say=ignore):
            pytest.fail("it started with a broken configuration")


async def test_a_failing_kafka_shows_its_log_and_stops_postgres(kafka_software: KafkaSoftware, data_dir: Path) -> None:
    log = data_dir / "kafka" / "log"
    log.mkdir(parents=True)
    (log / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=SGluZHNpZ2h0IGlzIDIwMg\n")
    with pytest.raises(ServerFailed, match=r"(?s)Apache Kafka 4.1.1 did not start: it ended.*Stored node id 7"):
        async with open_devstack(data_dir, broker="kafka"):
            pytest.fail("it started over another node's directory")
    assert unlocked(data_dir)


async def test_a_cancelled_start_leaves_nothing_running(kafka_software: KafkaSoftware, data_dir: Path) -> None:
    opening = asyncio.create_task(opened_and_closed(data_dir))
    await eventually((data_dir / "kafka" / "kafka.log").exists)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert unlocked(data_dir)


async def test_without_java_tansu_takes_over(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(data_dir))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    said: list[str] = []
    async with open_devstack(data_dir, say=said.append) as stack:
        assert stack.broker == "Tansu (in memory)"
    assert "apt-get install" in said[0]
    with pytest.raises(MissingSoftware, match="apt-get install"):
        async with open_devstack(data_dir, broker="kafka"):
            pytest.fail("Kafka runs without Java")


async def test_a_kept_child_is_started_again_and_stopped_at_the_end() -> None:
    deaths: asyncio.Queue[Death] = asyncio.Queue()
    dies = Command(argv=(sys.executable, "-S", "-c", "import os; os.abort()"))
    backoff = Backoff(first=0.01, longest=0.02, steady_for=60)
    async with kept_alive(dies, on_death=deaths.put_nowait, backoff=backoff) as kept:
        seen = [await asyncio.wait_for(deaths.get(), PATIENCE) for _ in range(3)]
    assert [death.restarts for death in seen] == [1, 2, 3]
    assert [death.restarts_in for death in seen] == [0.01, 0.02, 0.02]
    assert {death.code for death in seen} == {-signal.SIGABRT}
    assert kept.pid is None


async def test_a_kept_child_that_ignores_being_asked_is_killed() -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"
    with tempfile.TemporaryDirectory() as made:
        output = Path(made) / "output"
        async with kept_alive(
            Command(argv=(sys.executable, "-S", "-c", stubborn)), on_death=ignore, output=output, patience=0.05
        ) as kept:
            await eventually(lambda: output.exists() and "up" in output.read_text())
            pid = kept.pid
        assert not lives(pid)


def test_ports_are_kept_where_they_are_free(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = kept_ports(file, "broker", "controller")
    assert len(set(first.values())) == 2
    assert kept_ports(file, "broker", "controller") == first
    file.write_text("{ cut off")
    assert all(is_free(port) for port in kept_ports(file, "broker").values())
    assert free_port(taken=range(20_000, 31_999)) == 31_999


@pytest.mark.parametrize(
    ("said", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_402"', 8),
        ("command not found", 0),
    ],
)
def test_the_version_of_java(said: str, major: int) -> None:
    assert java_version(said) == major


async def create_topic(bootstrap: str) -> None:
    async with open_admin({"bootstrap_servers": bootstrap}) as admin:
        await admin.create_topics([NewTopic(TOPIC, num_partitions=1, replication_factor=1)])


async def topics(bootstrap: str) -> list[str]:
    async with open_admin({"bootstrap_servers": bootstrap}) as admin:
        return [topic for topic in await admin.list_topics() if not topic.startswith("__")]


async def produce(bootstrap: str, value: bytes, *, transactional_id: str | None = None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id) as producer:
        if transactional_id is None:
            await producer.send_and_wait(TOPIC, value)
            return
        async with producer.transaction():
            await producer.send_and_wait(TOPIC, value)


async def consume(bootstrap: str, count: int, *, group: str | None = None) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed" if group is None else "read_uncommitted",
    )
    async with asyncio.timeout(PATIENCE), consumer:
        values = [(await consumer.getone()).value for _ in range(count)]
        if group is not None:
            await consumer.commit()
        return values


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def fetch_value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def killed_after_opening(data_dir: Path, broker: Broker) -> list[int]:
    """Open a stack in another process and kill that; returns the ids of the servers that it had."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OPEN_AND_TELL, str(data_dir), broker, stdout=PIPE
    )
    assert parent.stdout is not None
    try:
        pids: list[int] = json.loads(await asyncio.wait_for(parent.stdout.readline(), 60))
        assert all(lives(pid) for pid in pids)
    finally:
        parent.kill()
        await parent.communicate()
    return pids


async def opened_and_closed(data_dir: Path) -> DevStack:
    async with open_devstack(data_dir, broker="kafka") as stack:
        return stack


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


def lives(pid: int | None) -> bool:
    """Whether the process runs; one that has ended but is not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def unlocked(data_dir: Path) -> bool:
    """Every server holds the lock of its directory: who gets it at once knows that none is left."""
    with (data_dir / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def ignore(_: object) -> None:
    pass
