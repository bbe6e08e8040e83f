"""`hindsight alerts` as an operator runs it, over topics of one test, and a webhook that the test answers for."""

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from service.adapters.kafka.topics import create_topics
from service.devstack.processes import Child, Command, start_child
from service.domain.ids import murmur2
from service.domain.records import Topic, topic_name
from service.wire.batch_event import batch_event_key

PATIENCE = 90.0
PAUSE = 0.05
PARTITIONS = 2
FAUSTS_OWN = {"BROKER_URL": "kafka://127.0.0.1:1", "CONSUMER_AUTO_OFFSET_RESET": "latest", "APP_DATADIR": "/nowhere"}
"""What Faust would take its settings from; it must not."""


async def until(holds: Callable[[], bool | Awaitable[bool]], *, within: float = PATIENCE, what: str) -> None:
    try:
        async with asyncio.timeout(within):
            while True:
                held = holds()
                if held if isinstance(held, bool) else await held:
                    return
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise TimeoutError(f"{what}: not within {within:g} s") from None


@dataclass
class Receiver:
    """A webhook. Answers as told, else with 200; keeps what it accepted, and every request."""

    port: int = 0
    answers: deque[int] = field(default_factory=deque)
    always: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def told(self) -> list[tuple[str, str, int]]:
        """Batch, event and changes of each."""
        return [(one["batchId"], one["event"], one["changes"]) for one in self.accepted]

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        status = self.answers.popleft() if self.answers else self.always or 200
        if status == 200:
            self.accepted.append(json.loads(body))
        return web.Response(status=status, headers=dict(self.headers))

    async def heard(self, count: int) -> None:
        await until(lambda: len(self.accepted) >= count, what=f"{count} notifications, of {self.told()}")


@asynccontextmanager
async def open_receiver(receiver: Receiver) -> AsyncIterator[Receiver]:
    """Listening until the block is left; on the port it had before."""
    app = web.Application()
    app.router.add_post("/hook", receiver.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", receiver.port, reuse_address=True)
    try:
        await site.start()
        receiver.port = runner.addresses[0][1]
        yield receiver
    finally:
        await runner.cleanup()


class Letter(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]


class Process:
    """One `hindsight alerts`."""

    def __init__(self, child: Child, log: Path) -> None:
        self._child = child
        self._log = log

    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def lines(self, event: str) -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]
        return [line for line in parsed if line["event"] == event]

    async def get(self, path: str) -> httpx.Response | None:
        if not (up := self.lines("alerts is up")):
            return None
        async with httpx.AsyncClient(timeout=5) as client:
            try:
                return await client.get(f"http://127.0.0.1:{up[0]['metrics_port']}/{path}")
            except httpx.TransportError:
                return None

    async def ready(self, tasks: int = PARTITIONS) -> None:
        async def is_ready() -> bool:
            assert self._child.running, self.text()[-6000:]
            answer = await self.get("readyz")
            return answer is not None and answer.status_code == 200 and answer.json()["detail"]["tasks"] == tasks

        try:
            await until(is_ready, what=f"ready with {tasks} partitions")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.text()[-8000:]}") from None

    async def metric(self, name: str) -> float:
        answer = await self.get("metrics")
        assert answer is not None
        for line in answer.text.splitlines():
            if line.startswith(f"hindsight_{name} "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no {name} in\n{answer.text}")

    async def state(self) -> str:
        """For whoever looks for why a test failed."""
        answers = [await self.get(path) for path in ("readyz", "metrics")]
        shown = [
            line for answer in answers if answer is not None for line in answer.text.splitlines() if line[0] != "#"
        ]
        return "\n".join([f"running: {self._child.running}", *shown, self.text()[-6000:]])

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self._child.wait()

    async def terminate(self) -> int:
        os.kill(self._child.pid, signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        await self._child.kill()


@dataclass(frozen=True, kw_only=True)
class AlertsSite:
    """Topics and group of one test."""

    bootstrap_servers: str
    prefix: str
    directory: Path
    producer: AIOKafkaProducer

    def name(self, role: str) -> str:
        return topic_name(self.prefix, role)

    def settings(self, url: str, **changed: str) -> dict[str, str]:
        settings = {
            "KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA__TOPIC_PREFIX": self.prefix,
            "KAFKA__SESSION_TIMEOUT_MS": "6000",
            "ALERTS__GROUP_ID": f"{self.prefix}.alerts",
            "ALERTS__WEBHOOK_URL": url,
            "ALERTS__METRICS_PORT": "0",
            "ALERTS__WINDOW_S": "5",
            "ALERTS__LONGEST_PAUSE_S": "1",
        } | changed
        return {f"HINDSIGHT_{key}": value for key, value in settings.items() if value}

    @asynccontextmanager
    async def alerts(self, url: str, **changed: str) -> AsyncIterator[Process]:
        log = self.directory / f"{len(list(self.directory.glob('*.log')))}-alerts.log"
        child = await start_child(
            Command(
                argv=(sys.executable, "-m", "service", "alerts"),
                environment=self.settings(url, **changed) | FAUSTS_OWN,
            ),
            output=log,
        )
        process = Process(child, log)
        try:
            yield process
        except Exception:
            sys.stdout.write(await process.state())
            raise
        finally:
            await child.kill()

    def record(self, batch: str, event: str, **more: Any) -> tuple[bytes, bytes]:
        fields = {"deploymentId": "flights", "batchId": batch, "batchName": f"batch {batch}", "event": event}
        value = json.dumps(fields | {"at": "2026-05-01T10:00:00.000000Z"} | more).encode()
        return batch_event_key("flights", batch), value

    async def happen(self, batch: str, *events: str, **more: Any) -> None:
        for event in events:
            key, value = self.record(batch, event, **more)
            await self.producer.send_and_wait(
                self.name(Topic.BATCHES), value, key=key, partition=murmur2(key) % PARTITIONS
            )

    async def read(self, role: str) -> list[Letter]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, enable_auto_commit=False)
        async with consumer:
            partitions = [TopicPartition(self.name(role), number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            found = []
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    batch = await consumer.getmany(partition, timeout_ms=200)
                    for read in batch.get(partition, ()):
                        headers = {name: content.decode() for name, content in read.headers}
                        found.append(Letter(read.key, read.value, headers))
        return found

    async def letters(self, count: int) -> list[Letter]:
        async def there() -> bool:
            return len(await self.read(Topic.ALERTS_DLQ)) >= count

        await until(there, what=f"{count} dead letters")
        return await self.read(Topic.ALERTS_DLQ)


@asynccontextmanager
async def open_alerts_site(bootstrap_servers: str, prefix: str, directory: Path) -> AsyncIterator[AlertsSite]:
    creation = await create_topics(
        {"bootstrap_servers": bootstrap_servers}, prefix, partitions=PARTITIONS, replication_factor=1, min_insync=1
    )
    assert creation.problems == ()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=0) as producer:
        yield AlertsSite(bootstrap_servers=bootstrap_servers, prefix=prefix, directory=directory, producer=producer)
