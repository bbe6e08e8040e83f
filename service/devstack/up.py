"""`hindsight up`: broker, database, workers and API on this machine, and on request the first look on top of them.

Everything is below one data directory, everything stops when this process does, and a second start over the same
directory goes on where the first was, on Apache Kafka. The servers come from `open_devstack`, the roles of the service
are children that know their settings only, and the database and the topics are prepared as an operator would do it.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import asyncpg
import polars as pl
from pydantic import SecretStr

from service import commands
from service.adapters.postgres.pool import open_pool, translating
from service.adapters.postgres.statistics import PostgresStatistics
from service.config import KafkaSettings, PostgresSettings, Settings
from service.devstack import Broker, DevStack, MissingSoftware, open_devstack
from service.devstack.demo.deployment import write_deployment
from service.devstack.demo.events import DEPLOYMENT_ID, replay_of
from service.devstack.demo.figures import Totals, read_totals
from service.devstack.demo.first_look import FirstLook, Stage
from service.devstack.demo.flights import FlightsMissingError, read_flights
from service.devstack.demo.model import fit_january
from service.devstack.demo.producer import journey, open_producer
from service.devstack.demo.replay import Replay
from service.devstack.errors import DevStackError
from service.devstack.roles import Role, open_role, role_specs
from service.devstack.terminal import Terminal, plain
from service.domain.errors import Invalid

PARTITIONS: Final = 4
_POOL_SIZE: Final = 2
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERNAL: Final = "/internal/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The words of the command line."""

    demo: str | None
    rows: int | None
    speed: float | None
    exit_when_done: bool
    json: bool
    data_dir: Path
    broker: Broker
    workers: int

    def check(self) -> None:
        """Raises `Invalid`."""
        if self.demo is None and (self.exit_when_done or self.json or self.rows or self.speed is not None):
            raise Invalid("--rows, --speed, --json and --exit-when-done are about a demo: add --demo flights")
        if self.speed is not None and self.speed <= 0:
            raise Invalid("--speed must be above 0; without it everything is sent at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Everything that runs before a demo does."""

    stack: DevStack
    settings: Settings
    workers: Sequence[Role]
    api: Role

    @property
    def urls(self) -> dict[str, str]:
        metrics = {role.name: f"{role.url}/metrics" for role in self.workers}
        return {"API": f"{self.api.url}{_INTERNAL}/deployments", **metrics}


def run(
    *,
    demo: str | None,
    rows: int | None,
    speed: float | None,
    exit_when_done: bool,
    json: bool,
    data_dir: Path,
    broker: str,
    workers: int,
) -> None:
    """Returns when told to stop by a signal or, with `exit_when_done`, when the demo is counted.

    Raises `Invalid` and what keeps it from going on: `DevStackError`, `Unavailable` and the like. Nothing runs on.
    """
    options = Options(
        demo=demo,
        rows=rows,
        speed=speed,
        exit_when_done=exit_when_done,
        json=json,
        data_dir=data_dir,
        broker=cast(Broker, broker),
        workers=workers,
    )
    options.check()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is told once, at the end
    asyncio.run(_Up(options).until_stopped())


class _Up:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._terminal = Terminal(table=not options.json and sys.stdout.isatty())
        self._look: FirstLook | None = None
        self._asked = False

    async def until_stopped(self) -> None:
        """A signal is no fault: everything is taken down in order, and this returns."""
        work = asyncio.create_task(self._run())
        with _on_signals(lambda: self._stop(work)):
            try:
                await work
            except asyncio.CancelledError:
                if not self._asked:
                    raise
            except BaseExceptionGroup as failed:
                raise _innermost(failed) from None
        if self._options.json and self._look is not None:
            self._terminal.tell_json(self._look.result())

    def _stop(self, work: asyncio.Task[None]) -> None:
        """Once: a second signal must not cut the tidying short."""
        if not self._asked:
            self._asked = True
            self._terminal.say("stopping")
            work.cancel()

    async def _run(self) -> None:
        options, say = self._options, self._terminal.say
        say(f"starting everything over {options.data_dir}")
        async with _loading(options.demo) as loaded, _running(options, say) as running:
            say(f"broker: {running.stack.broker} at {running.stack.bootstrap_servers}")
            if not running.stack.transactions:
                say("this broker keeps everything in memory: it starts empty, and so does the database")
            if loaded is None:
                await _ready(running)
                self._terminal.tell(_what_to_ask(running, demo=False))
                await asyncio.Event().wait()
            else:
                await self._demo(running, loaded)

    async def _demo(self, running: Running, loaded: "asyncio.Task[_Year]") -> None:
        options, settings = self._options, running.settings
        year = await loaded
        description = await asyncio.to_thread(write_deployment, options.data_dir / "demo", year.flights)
        await commands.apply_deployment(settings.postgres, description)
        await _ready(running)
        rows = min(options.rows or year.flights.height, year.flights.height)
        async with (
            open_pool(running.stack.postgres_dsn, size=_POOL_SIZE, application_name="hindsight-up") as pool,
            open_producer(
                running.stack.bootstrap_servers,
                prefix=settings.kafka.topic_prefix,
                partitions=PARTITIONS,
                transactions=running.stack.transactions,
            ) as (producer, legs),
        ):
            self._look = look = FirstLook(_stage(running, pool), journey(year.events, legs, rows), options.speed)
            with self._terminal.showing() as show:
                await look.play(producer, show, lambda: self._when_over(running, look))

    def _when_over(self, running: Running, look: FirstLook) -> bool:
        """Whether to end here."""
        if not self._terminal.table:
            self._terminal.say(plain(look.view()))
        if not self._options.exit_when_done and not self._options.json:
            self._terminal.tell(_what_to_ask(running, demo=True))
        return self._options.exit_when_done


@dataclass(frozen=True, slots=True, kw_only=True)
class _Year:
    flights: pl.DataFrame
    events: Replay


@asynccontextmanager
async def _loading(demo: str | None) -> AsyncIterator["asyncio.Task[_Year] | None"]:
    """Reads the flights and fits the model in a thread, while the servers start."""
    if demo is None:
        yield None
        return
    loading = asyncio.create_task(asyncio.to_thread(_load))
    try:
        yield loading
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)


def _load() -> _Year:
    try:
        flights = read_flights()
    except FlightsMissingError as missing:
        raise MissingSoftware(str(missing)) from None
    return _Year(flights=flights, events=replay_of(flights, fit_january(flights).probability_of_late(flights)))


@asynccontextmanager
async def _running(options: Options, say: Callable[[str], None]) -> AsyncIterator[Running]:
    async with AsyncExitStack() as entered:
        stack = await entered.enter_async_context(open_devstack(options.data_dir, broker=options.broker, say=say))
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=stack.bootstrap_servers, transactions=stack.transactions),
            postgres=PostgresSettings(dsn=SecretStr(stack.postgres_dsn)),
        )
        await _prepare(settings)
        specs = role_specs(options.data_dir.resolve(), stack, workers=options.workers)
        *workers, api = [await entered.enter_async_context(open_role(spec, say=say)) for spec in specs]
        yield Running(stack=stack, settings=settings, workers=workers, api=api)


async def _prepare(settings: Settings) -> None:
    """The database and the topics, as `hindsight migrate` and `hindsight topics create` do it."""
    await commands.migrate_database(settings.postgres)
    creation = await commands.create_topics(
        settings.kafka, partitions=PARTITIONS, replication_factor=None, min_insync=None
    )
    if creation.problems:
        raise DevStackError("\n".join(creation.problems))


async def _ready(running: Running) -> None:
    async with asyncio.TaskGroup() as waiting:
        for role in (*running.workers, running.api):
            waiting.create_task(role.until_ready())


def _stage(running: Running, pool: asyncpg.Pool) -> Stage:
    async def totals() -> Totals:
        with translating():
            return await read_totals(pool, DEPLOYMENT_ID)

    return Stage(
        totals=totals,
        statistics=PostgresStatistics(pool),
        workers=running.workers,
        tasks=PARTITIONS,
        broker=running.stack.broker,
        urls=running.urls,
    )


def _what_to_ask(running: Running, *, demo: bool) -> str:
    """Commands that work right now."""
    api, worker = f"{running.api.url}{_INTERNAL}/deployments", running.workers[0].url
    lines = [f"curl -s {api}"]
    if demo:
        lines += [
            f"curl -s '{api}/{DEPLOYMENT_ID}/statistics?by=month'",
            f"curl -s '{api}/{DEPLOYMENT_ID}/drift?bucket=month'",
            f"curl -s '{api}/{DEPLOYMENT_ID}/batches?limit=5'",
        ]
    lines += [f"curl -s {worker}/metrics", f"curl -s {running.api.url}/readyz"]
    broker = f"send your own events to {running.stack.bootstrap_servers}; Ctrl-C stops everything"
    return "\n".join(["", "ask it:", *(f"  {line}" for line in lines), broker])


@contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _innermost(failed: BaseException) -> BaseException:
    """Task groups wrap what went wrong once for each of them."""
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    return failed
