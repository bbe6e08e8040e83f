"""A worker as an operator runs it: a process of its own under HINDSIGHT_ settings, over topics, group and database of
one test. Everything waits by asking again until a deadline; nothing sleeps for a fixed time.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from service.adapters.kafka.topics import create_topics
from service.adapters.postgres.deployments import PostgresDeployments
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.pool import open_pool
from service.devstack.processes import Child, Command, start_child
from service.domain.ids import murmur2
from service.domain.records import INPUT_TOPICS, Topic, topic_name
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import parse_description

PATIENCE = 60.0
PAUSE = 0.02
PARTITIONS = 4
DEPLOYMENT = """
id: flights
label: Flights
targetName: late
targetType: Binary
classNames: [on_time, late]
positiveClass: late
model: {id: model-1}
batchMonitoring: {enabled: true, policy: daily}
"""


class Event(NamedTuple):
    """A record to produce. Without a partition it goes where Java's default partitioner would send it."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp_ms: int | None = None
    partition: int | None = None


class Read(NamedTuple):
    """A record that was read, read committed."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int

    @property
    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.value or b"null")
        return decoded

    @property
    def header(self) -> dict[str, bytes]:
        return dict(self.headers)


class Place(NamedTuple):
    """Where a record lies."""

    topic: str
    partition: int
    offset: int


async def until(holds: Callable[[], Awaitable[bool]], *, within: float = PATIENCE, what: str = "it") -> None:
    """Ask again and again. Raises TimeoutError."""
    try:
        async with asyncio.timeout(within):
            while not await holds():  # noqa: ASYNC110
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise TimeoutError(f"{what} did not come true within {within:g} s") from None


def tell(line: str) -> None:
    """A figure for whoever runs with `-s`."""
    sys.stdout.write(f"\n{line}\n")


class Worker:
    """A worker process, and what it logs and shows."""

    def __init__(self, child: Child, log: Path, *, may_end: bool = False) -> None:
        self._child = child
        self._log = log
        self._may_end = may_end
        self._port: int | None = None

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log; only lines of that event."""
        parsed = [json.loads(line) for line in self.text().splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in parsed if event is None or line["event"] == event]

    async def _check(self, holds: Callable[[], Awaitable[bool]]) -> bool:
        """Fails at once, with its log, when it has ended although nobody asked it to."""
        assert self.running or self._may_end, f"the worker has ended\n{self.text()[-6000:]}"
        return await holds()

    async def until(self, holds: Callable[[], Awaitable[bool]], *, within: float = PATIENCE, what: str = "it") -> None:
        try:
            await until(lambda: self._check(holds), within=within, what=what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.text()[-6000:]}") from None

    async def up(self) -> None:
        """Until it serves probes."""

        async def has_port() -> bool:
            return bool(self.lines("worker is up"))

        await self.until(has_port, what="worker is up")

    async def ready(self, *, tasks: int | None = None) -> None:
        """Until /readyz says so; with so many tasks."""

        async def is_ready() -> bool:
            status, detail = await self.probe("readyz")
            return status == 200 and (tasks is None or detail["tasks"] == tasks)

        await self.up()
        await self.until(is_ready, what=f"ready with {tasks} tasks")

    async def probe(self, name: str) -> tuple[int, dict[str, Any]]:
        """Status and detail of a probe; 0 while nobody answers."""
        try:
            response = await self._get(name)
        except httpx.TransportError:
            return 0, {}
        detail: dict[str, Any] = response.json()["detail"]
        return response.status_code, detail

    async def metrics(self) -> dict[str, float]:
        """Every series by its full name with labels and without `hindsight_`."""
        text = (await self._get("metrics")).text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name.removeprefix("hindsight_"): float(value) for name, value in pairs}

    async def _get(self, path: str) -> httpx.Response:
        if self._port is None:
            self._port = self.lines("worker is up")[-1]["metrics_port"]
        async with httpx.AsyncClient(timeout=5) as client:
            return await client.get(f"http://127.0.0.1:{self._port}/{path}")

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * 4096 / (1 << 20)

    def send(self, number: signal.Signals) -> None:
        """A signal to a process that runs."""
        assert self.running
        os.kill(self.pid, number)

    async def terminate(self, within: float = PATIENCE) -> int:
        """SIGTERM, then its exit code."""
        self._may_end = True
        self.send(signal.SIGTERM)
        return await self.ended(within)

    async def ended(self, within: float = PATIENCE) -> int:
        """The exit code of a worker that ends by itself."""
        self._may_end = True
        try:
            async with asyncio.timeout(within):
                return await self._child.wait()
        except TimeoutError:
            raise TimeoutError(f"the worker did not end within {within:g} s\n{self.text()[-6000:]}") from None

    async def kill(self) -> None:
        """SIGKILL."""
        self._may_end = True
        await self._child.kill()


class Said(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Topics, consumer group and database of one test."""

    bootstrap_servers: str
    dsn: str
    prefix: str
    directory: Path
    pool: asyncpg.Pool
    producer: AIOKafkaProducer
    partitions: int = PARTITIONS
    environment: Mapping[str, str] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------ processes

    def settings(self, name: str = "one", **changed: str) -> dict[str, str]:
        """The environment of a worker; `changed` by variables without the prefix."""
        settings = {
            "KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA__GROUP_ID": self.prefix,
            "KAFKA__TOPIC_PREFIX": self.prefix,
            "POSTGRES__DSN": self.dsn,
            "WORKER__STATE_DIR": str(self.state_dir(name)),
            "WORKER__METRICS_PORT": "0",
            "WORKER__INSTANCE_ID": name,
            "WORKER__MEMORY_MB": "64",
            "FILES__URL": str(self.directory / "files"),
            "FILES__SPOOL_DIR": str(self.directory / "spool"),
        }
        return {f"HINDSIGHT_{key}": value for key, value in (settings | dict(self.environment) | changed).items()}

    def state_dir(self, name: str = "one") -> Path:
        return self.directory / f"state-{name}"

    @asynccontextmanager
    async def worker(self, name: str = "one", *arguments: str, **changed: str) -> AsyncIterator[Worker]:
        """A started worker, killed at the end if it still runs."""
        number = len(list(self.directory.glob("*.log")))
        log = self.directory / f"{number}-{name}.log"
        child = await start_child(
            Command(
                argv=(sys.executable, "-m", "service", "worker", *arguments), environment=self.settings(name, **changed)
            ),
            output=log,
        )
        try:
            yield Worker(child, log)
        finally:
            await child.kill()

    async def refused(self, name: str = "one", **changed: str) -> str:
        """What a worker says that refuses to start. Fails when it does not refuse."""
        async with self.worker(name, **changed) as worker:
            code = await worker.ended()
            said = worker.text()
            assert code != 0, said
            assert "Traceback" not in said, said
            return said

    async def said(self, *arguments: str, **changed: str) -> Said:
        """What a command of the command line says; never a traceback."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "service", *arguments,
            env=self.settings(**changed) | {"PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Said(process.returncode, out.decode(), err.decode())

    async def run(self, *arguments: str) -> str:
        """A short command, which must succeed."""
        said = await self.said(*arguments)
        assert said.code == 0, said
        return said.out + said.err

    async def recreate(self, admin: AIOKafkaAdminClient, role: str) -> None:
        """Delete a topic and make another of its name."""
        name = self.name(role)
        await admin.delete_topics([name])

        async def gone() -> bool:
            return name not in await admin.list_topics()

        await until(gone, what="deletion")
        creation = await create_topics(
            {"bootstrap_servers": self.bootstrap_servers}, self.prefix, partitions=4, replication_factor=1, min_insync=1
        )
        assert creation.created == (name,)

    # ------------------------------------------------------------------------------------------ records in

    def name(self, role: str) -> str:
        return topic_name(self.prefix, role)

    def home(self, key: bytes) -> int:
        return murmur2(key) % self.partitions

    async def produce(self, events: Iterable[Event]) -> list[Place]:
        """Where each was put; order is kept within a partition."""
        waiting: dict[tuple[str, int], list[tuple[int, Event]]] = {}
        count = 0
        for number, event in enumerate(events):
            partition = self.home(event.key or b"") if event.partition is None else event.partition
            waiting.setdefault((event.topic, partition), []).append((number, event))
            count += 1
        places: dict[int, Place] = {}
        for (role, partition), group in waiting.items():
            await self._produce(role, partition, group, places)
        return [places[number] for number in range(count)]

    async def _produce(
        self, role: str, partition: int, group: list[tuple[int, Event]], places: dict[int, Place]
    ) -> None:
        topic, position = self.name(role), 0
        while position < len(group):
            batch = self.producer.create_batch()
            taken = position
            while taken < len(group) and _append(batch, group[taken][1]):
                taken += 1
            assert taken > position, "an event does not fit into a batch"
            first = (await (await self.producer.send_batch(batch, topic, partition=partition))).offset
            for after, (number, _) in enumerate(group[position:taken]):
                places[number] = Place(topic, partition, first + after)
            position = taken

    # ------------------------------------------------------------------------------------------ records out

    async def read(self, role: str, *, isolation: str = "read_committed") -> list[Read]:
        """Everything on a topic from begin to end."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap_servers,
            isolation_level=isolation,
            enable_auto_commit=False,
            max_partition_fetch_bytes=8 << 20,
        )
        async with consumer:
            found = []
            partitions = [TopicPartition(self.name(role), number) for number in range(self.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    batch = await consumer.getmany(partition, timeout_ms=200)
                    found += [
                        Read(partition.partition, r.offset, r.key, r.value, list(r.headers), r.timestamp)
                        for r in batch.get(partition, ())
                        if r.offset < ends[partition]
                    ]
        return found

    async def statuses(self) -> list[Read]:
        return await self.read(Topic.STATUS)

    async def ends(self) -> dict[int, dict[str, int]]:
        """Ends of the input logs, by task and role."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, isolation_level="read_committed")
        async with consumer:
            partitions = {
                (task, role): TopicPartition(self.name(role), task)
                for task in range(self.partitions)
                for role in INPUT_TOPICS
            }
            ends = await consumer.end_offsets(list(partitions.values()))
        return {task: {role: ends[partitions[task, role]] for role in INPUT_TOPICS} for task in range(self.partitions)}

    async def positions(self) -> dict[int, dict[str, int]]:
        """Next offsets in the ledger, by task and role."""
        rows = await self.pool.fetch("SELECT task, offsets FROM ledger")
        return {row["task"]: row["offsets"] for row in rows}

    async def progressed(self, worker: Worker, records: float) -> None:
        """Until so many input records are in the ledger."""

        async def far_enough() -> bool:
            return sum(sum(task.values()) for task in (await self.positions()).values()) >= records

        await worker.until(far_enough, what=f"{records:.0f} records in the ledger")

    async def processed(self, worker: Worker | None = None, *, within: float = PATIENCE) -> None:
        """Until the ledger has every input record, strays that were forwarded meanwhile included, and all is out."""

        async def at_the_end() -> bool:
            # the order matters: what is forwarded until the positions are read is in the ends read after them
            positions, published = await self.positions(), await self.published()
            ends = await self.ends()
            versions = dict(await self.pool.fetch("SELECT task, version FROM ledger"))
            return len(positions) == self.partitions and all(
                self._is_at_end(positions[task], ends[task], published.get(task, 0) == versions[task])
                for task in range(self.partitions)
            )

        if worker is None:
            await until(at_the_end, within=within, what="everything processed")
        else:
            await worker.until(at_the_end, within=within, what="everything processed")

    @staticmethod
    def _is_at_end(positions: Mapping[str, int], ends: Mapping[str, int], published: bool) -> bool:
        """The rekey log may end with transaction markers, which no position passes until a record follows them."""
        inputs = all(positions.get(role, 0) >= ends[role] for role in (Topic.PREDICTIONS, Topic.ACTUALS) if ends[role])
        return published and inputs

    async def forwarded(self, count: int, *, within: float = PATIENCE) -> None:
        """Until so many records were received through rekey."""

        async def all_there() -> bool:
            return len(await self.statuses()) >= count

        await until(all_there, within=within, what=f"{count} statuses")

    async def committed(self) -> dict[TopicPartition, Any]:
        """The group's committed offsets with their metadata."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            offsets: dict[TopicPartition, Any] = await admin.list_consumer_group_offsets(self.prefix)
        finally:
            await admin.close()
        return offsets

    async def published(self) -> dict[int, int]:
        """Ledger version of the last publish of each task."""
        versions: dict[int, int] = {}
        for partition, committed in (await self.committed()).items():
            if committed.metadata.startswith("version="):
                version = int(committed.metadata.removeprefix("version="))
                versions[partition.partition] = max(version, versions.get(partition.partition, 0))
        return versions

    async def owners(self) -> dict[int, str]:
        return dict(await self.pool.fetch("SELECT task, owner_instance FROM ledger"))


def _append(batch: Any, event: Event) -> bool:
    appended = batch.append(key=event.key, value=event.value, timestamp=event.timestamp_ms, headers=list(event.headers))
    return appended is not None


@asynccontextmanager
async def open_site(
    *,
    bootstrap_servers: str,
    dsn: str,
    prefix: str,
    directory: Path,
    partitions: int = PARTITIONS,
    deployment: str | None = DEPLOYMENT,
    **environment: str,
) -> AsyncIterator[Site]:
    """A migrated database with one deployment, the topics, and a producer."""
    await migrate(dsn)
    creation = await create_topics(
        {"bootstrap_servers": bootstrap_servers},
        prefix,
        partitions=partitions,
        replication_factor=1,
        min_insync=1,
    )
    assert creation.problems == ()
    async with (
        open_pool(dsn, size=2, application_name="hindsight-test") as pool,
        AIOKafkaProducer(bootstrap_servers=bootstrap_servers, max_batch_size=900_000, linger_ms=0) as producer,
    ):
        if deployment is not None:
            await apply(PostgresDeployments(pool), parse_description(deployment), directory)
        yield Site(
            bootstrap_servers=bootstrap_servers,
            dsn=dsn,
            prefix=prefix,
            directory=directory,
            pool=pool,
            producer=producer,
            partitions=partitions,
            environment=environment,
        )
