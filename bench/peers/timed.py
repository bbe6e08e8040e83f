"""One timed run of a peer over topics that are loaded already.

The clock starts when the peer says that its first record is in, and stops when the whole input has its output: at
least once, when the output topic holds a record for each joined row; exactly once, when the group has committed the
ends of the input topics too, which happens in the transactions of the output. CPU and memory are those of its process,
as the kernel counts them. What it has written is read back afterwards: every row once at least, with both sides.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.counters import machine_cpu_s, peak_mb, process_cpu_s
from bench.peers.catalog import Peer, Place, Say
from bench.published import read_partition, reader
from bench.workloads import PARTITIONS
from service.domain.records import Topic, topic_name

_LOOK_EVERY_S: Final = 0.1
_FIRST_WITHIN_S: Final = 120.0
_STALLS_AFTER_S: Final = 120.0
_STOPS_WITHIN_S: Final = 60.0


class PeerFailed(Exception):
    """A peer ended, stood still, or has not written what it must."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`joined` is the end of the output topic over all partitions, which counts markers of transactions, too."""

    at_s: float
    cpu_s: float
    machine_s: float
    joined: int


async def run_peer(peer: Peer, servers: str, prefix: str, rows: int, run: str, say: Say) -> dict[str, Any]:
    """Figures of a run over the topics of this prefix, which hold so many predictions and as many actuals."""
    program = await peer.prepare(say)
    group = f"{prefix}-{peer.name}-{run}"
    inputs = [topic_name(prefix, role) for role in (Topic.PREDICTIONS, Topic.ACTUALS)]
    async with _admin(servers) as admin, reader(servers) as consumer:
        await admin.create_topics([NewTopic(f"{group}-joined", PARTITIONS, 1)])
        try:
            with TemporaryDirectory(prefix="hindsight-peer-") as directory:
                place = Place(
                    servers=servers,
                    predictions=inputs[0],
                    actuals=inputs[1],
                    joined=f"{group}-joined",
                    group=group,
                    directory=Path(directory),
                )
                async with _started(peer.arguments(program, place), Path(directory)) as process:
                    watch = _Watch(peer, place, rows, process, admin, consumer)
                    first, half, last, rss_mb = await watch.until_done()
            distinct, written = await _read_back(consumer, place.joined)
        finally:
            await _remove_topics(admin, group)
    if distinct != rows:
        raise PeerFailed(f"{peer.name}: {distinct} of {rows} rows were joined")
    return _figures(rows, first, half, last) | {"rss_mb": rss_mb, "repeated": written - rows}


def _figures(rows: int, first: Sample, half: Sample, last: Sample) -> dict[str, Any]:
    """`warm_…` are of the second half of the output alone."""
    events, seconds, cpu_s = 2 * rows, last.at_s - first.at_s, last.cpu_s - first.cpu_s
    share = (last.joined - half.joined) / max(1, last.joined - first.joined)
    return {
        "events": events,
        "seconds": round(seconds, 3),
        "events_per_s": round(events / seconds),
        "joins_per_s": round(rows / seconds),
        "cpu_s": round(cpu_s, 2),
        "cpu_s_per_million": round(cpu_s / events * 1e6, 2),
        "machine_cpu_s_per_million": round((last.machine_s - first.machine_s) / events * 1e6, 2),
        "warm_events_per_s": round(events * share / max(1e-9, last.at_s - half.at_s)),
        "warm_cpu_s_per_million": round((last.cpu_s - half.cpu_s) / max(1.0, events * share) * 1e6, 2),
    }


class _Watch:
    """Looks at a peer until it is done."""

    def __init__(
        self,
        peer: Peer,
        place: Place,
        rows: int,
        process: asyncio.subprocess.Process,
        admin: AIOKafkaAdminClient,
        consumer: AIOKafkaConsumer,
    ) -> None:
        self._peer, self._place, self._rows = peer, place, rows
        self._process, self._admin, self._consumer = process, admin, consumer
        self._joined = [TopicPartition(place.joined, number) for number in range(PARTITIONS)]
        self._inputs = [
            TopicPartition(name, number) for name in (place.predictions, place.actuals) for number in range(PARTITIONS)
        ]

    async def until_done(self) -> tuple[Sample, Sample, Sample, int]:
        """The samples at the first record, at half of the output and at the end; and the peak of memory in MB."""
        await self._until_first()
        first = half = last = await self._sample()
        ends = await self._consumer.end_offsets(self._inputs)
        while not await self._done(last, ends):
            await asyncio.sleep(_LOOK_EVERY_S)
            sample = await self._sample()
            if sample.joined > last.joined:
                last = sample
            elif sample.at_s - last.at_s > _STALLS_AFTER_S:
                raise PeerFailed(f"{self._peer.name} stands still at {last.joined} of {self._rows}\n{self._said()}")
            if sample.joined <= self._rows / 2:
                half = sample
        return first, half, await self._sample(), peak_mb(self._process.pid)

    async def _until_first(self) -> None:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_FIRST_WITHIN_S):
                async for line in self._process.stdout:
                    if line.strip() == b"first":
                        return
        except TimeoutError:
            raise PeerFailed(f"{self._peer.name} took no record\n{self._said()}") from None
        raise PeerFailed(f"{self._peer.name} ended at once\n{self._said()}")

    async def _sample(self) -> Sample:
        if self._process.returncode is not None:
            raise PeerFailed(f"{self._peer.name} ended with {self._process.returncode}\n{self._said()}")
        joined = sum((await self._consumer.end_offsets(self._joined)).values())
        pid = self._process.pid
        return Sample(at_s=time.monotonic(), cpu_s=process_cpu_s(pid), machine_s=machine_cpu_s(), joined=joined)

    async def _done(self, last: Sample, ends: dict[TopicPartition, int]) -> bool:
        if last.joined < self._rows:
            return False
        if not self._peer.exactly_once:
            return True
        committed = await self._admin.list_consumer_group_offsets(self._place.group)
        return all(partition in committed and committed[partition].offset >= end for partition, end in ends.items())

    def _said(self) -> str:
        return (self._place.directory / "stderr").read_text(errors="replace")[-3000:]


@asynccontextmanager
async def _started(command: list[str], directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The peer's process; asked to stop at the end, then made to."""
    with (directory / "stderr").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=errors, cwd=directory
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_STOPS_WITHIN_S):
                    await process.communicate()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _read_back(consumer: AIOKafkaConsumer, joined: str) -> tuple[int, int]:
    """Rows that were joined, and records that say so."""
    keys: set[bytes] = set()
    written = 0
    for number in range(PARTITIONS):
        async for records in read_partition(consumer, TopicPartition(joined, number)):
            whole = [one.key for one in records if b'"prediction"' in one.value and b'"actualTimestamp"' in one.value]
            written += len(whole)
            keys.update(whole)
    return len(keys), written


@asynccontextmanager
async def _admin(servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _remove_topics(admin: AIOKafkaAdminClient, group: str) -> None:
    """The output and the changelogs, whose names hold that of the group."""
    await admin.delete_topics([name for name in await admin.list_topics() if group in name])
