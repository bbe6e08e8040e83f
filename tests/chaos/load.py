"""What runs all the time: records of every kind, for three deployments, in a time that runs faster than the wall clock.

Records are those of the simulation. An hour of theirs passes in seconds, so windows open, close and end while servers
fail. Rows come and go: those that are written to now are the newest few hundred.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from service.adapters.clock import SystemClock
from service.usecases.durations import format_duration
from tests.integration.worker import Site
from tests.simulation.workload import EDGES, VALUES, Rules, Sent, Workload

_PAUSE_S = 0.05
_RECORDS_OF_A_ROW = 30
_LIFE_OF_A_ROW = timedelta(hours=4)
_BASELINE = [(EDGES[0], VALUES[0])] * 50 + [(EDGES[1], VALUES[0])] * 10 + [(EDGES[1], VALUES[1])] * 50
"""Deciles and most frequent values of these are the edges and the values of the simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FastTime:
    """Event time by the wall clock: from `first` on `speed` times as fast, and as fast as the wall once it `ended`."""

    started: float
    """Wall seconds since 1970."""
    first: datetime
    speed: float

    def at(self, wall: float, ended: float | None = None) -> datetime:
        last = wall if ended is None else min(wall, ended)
        return self.first + timedelta(seconds=max(0.0, last - self.started) * self.speed + max(0.0, wall - last))


def wall() -> float:
    return SystemClock().now().timestamp()


def fast_time(seconds: float) -> FastTime:
    """Some hours go by in so many seconds, none of them in the future."""
    span = timedelta(hours=min(48.0, max(12.0, seconds / 40)))
    started = wall()
    first = datetime.fromtimestamp(started, UTC).replace(microsecond=0) - 2 * span
    return FastTime(started=started, first=first, speed=span.total_seconds() / seconds)


class Load(Workload):
    """Draws and sends, until it is told to stop."""

    def __init__(self, site: Site, chance: random.Random, fast: FastTime, *, rate: float) -> None:
        super().__init__(chance)
        self.ended: float | None = None
        """Wall time at which the last record was drawn."""
        self.sent = 0
        self.unsure = 0
        """Records of which the broker never said that it has them; it may have them all the same."""
        self._site = site
        self._fast = fast
        self._rate = rate
        self._first_row = 0
        self._pool = max(20, round(rate / _RECORDS_OF_A_ROW * _LIFE_OF_A_ROW.total_seconds() / fast.speed))
        self._stopping = asyncio.Event()
        self.finished = asyncio.Event()
        """Set when every record is with the broker, or was given up."""

    def stop(self) -> None:
        self._stopping.set()

    def _row(self) -> str:
        return f"r{self._first_row + self.chance.randrange(self._pool)}"

    async def run(self) -> None:
        """Send at the rate, whatever the servers do; what a dead broker can not take waits in the producer."""
        servers = self._site.bootstrap_servers
        async with AIOKafkaProducer(bootstrap_servers=servers, request_timeout_ms=120_000, linger_ms=5) as producer:
            waiting: set[asyncio.Future[None]] = set()
            drawn, began = 0, wall()
            while not self._stopping.is_set():
                due = round((wall() - began) * self._rate)
                for sent in self._drawn(max(0, min(due - drawn, 5_000))):
                    drawn += 1
                    sending = asyncio.ensure_future(self._send(producer, sent))
                    waiting.add(sending)
                    sending.add_done_callback(waiting.discard)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _PAUSE_S)
            self.ended = wall()
            await asyncio.gather(*waiting)
            self.finished.set()

    def _drawn(self, count: int) -> list[Sent]:
        self._first_row = round((wall() - self._fast.started) * self._rate / _RECORDS_OF_A_ROW)
        return [self.draw(self._fast.at(wall())) for _ in range(count)]

    async def _send(self, producer: AIOKafkaProducer, sent: Sent) -> None:
        key = None if sent.key is None else sent.key.encode()
        partition = self._partition(key, sent.stray)
        try:
            delivery = await producer.send(
                self._site.name(sent.topic),
                sent.value,
                key=key,
                partition=partition,
                timestamp_ms=sent.timestamp_ms,
                headers=list(sent.headers),
            )
            await delivery
            self.sent += 1
        except KafkaError:
            self.unsure += 1

    def _partition(self, key: bytes | None, stray: bool) -> int:
        """Where Java's default partitioner puts it; a stray goes elsewhere."""
        anywhere = self.chance.randrange(self._site.partitions)
        if key is None or stray:
            return anywhere
        return self._site.home(key)

    async def learn_batches(self) -> None:
        """From here on predictions also name these monitoring batches by their IDs."""
        rows = await self._site.pool.fetch("SELECT deployment_id, id FROM monitoring_batches")
        self.batches = [(row["deployment_id"], row["id"]) for row in rows]


# ------------------------------------------------------------------------------------------------ deployments


def description(rules: Rules) -> str:
    """A deployment of the simulation as a person would describe it. Its baseline is in `baseline.csv`."""
    kind = "targetType: Regression" if rules.regression else "targetType: Binary\nclassNames: [on_time, late]"
    join = {
        "window": rules.window,
        "grace": rules.grace,
        "earlyTtl": rules.early_ttl,
        "allowedLateness": rules.allowed_lateness,
        "maxFutureSkew": rules.max_future_skew,
    }
    spans = ", ".join(f"{name}: {format_duration(span)}" for name, span in join.items())
    order = "arrival" if rules.by_arrival else "eventTime"
    return (
        f"id: {rules.id}\nlabel: {rules.id}\n{kind}\n"
        f"{'' if rules.regression else 'positiveClass: late'}\n"
        "model: {id: model-1}\n"
        "features: [{name: distance, type: numeric}, {name: carrier, type: categorical}]\n"
        f"associationIdRequired: {str(rules.association_required).lower()}\n"
        f"join: {{{spans}, latePolicy: {rules.late}, actualOrder: {order}}}\n"
        f"batchMonitoring: {{enabled: {str(rules.batch_enabled).lower()}, policy: {rules.policy}}}\n"
        "baseline: {file: baseline.csv}\n"
    )


def baseline(rows: Sequence[tuple[float, str]] = tuple(_BASELINE)) -> str:
    """The rows as CSV."""
    return "\n".join(["distance,carrier", *(f"{distance},{carrier}" for distance, carrier in rows)])
