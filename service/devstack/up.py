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
import httpx
from pydantic import SecretStr

from service import commands
from service.adapters.clock import SystemClock
from service.adapters.postgres.pool import open_pool, translating
from service.adapters.postgres.statistics import PostgresStatistics
from service.config import KafkaSettings, PostgresSettings, Settings
from service.devstack import Broker, DevStack, open_devstack
from service.devstack.admin_token import kept_token
from service.devstack.demo.deployment import BASELINE, registration, write_deployment
from service.devstack.demo.events import DEPLOYMENT_ID
from service.devstack.demo.figures import Totals, read_totals
from service.devstack.demo.first_look import FirstLook, Stage
from service.devstack.demo.live import LIVE_ID, LiveFlight, live_description, play_live
from service.devstack.demo.producer import journey, open_producer
from service.devstack.demo.registration import BASE, DemoApi
from service.devstack.demo.year import Year, loading
from service.devstack.errors import DevStackError
from service.devstack.roles import Role, open_role, role_specs
from service.devstack.terminal import Terminal, plain
from service.domain.errors import Invalid

PARTITIONS: Final = 4
_POOL_SIZE: Final = 2
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERNAL: Final = "/internal/v1"
_ANSWER_WITHIN_S: Final = 30.0


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
    token: str
    """Of scope admin, for the API."""

    @asynccontextmanager
    async def demo_api(self) -> AsyncIterator[DemoApi]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(base_url=self.api.url, headers=headers, timeout=_ANSWER_WITHIN_S) as client:
            yield DemoApi(client)

    @property
    def urls(self) -> dict[str, str]:
        metrics = {role.name: f"{role.url}/metrics" for role in self.workers}
        return {"API": f"{self.api.url}{BASE}/docs", **metrics}


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
        async with loading(options.demo) as loaded, _running(options, say) as running:
            say(f"broker: {running.stack.broker} at {running.stack.bootstrap_servers}")
            if not running.stack.transactions:
                say("this broker keeps everything in memory: it starts empty, and so does the database")
            if loaded is None:
                await _ready(running)
                self._terminal.tell(_what_to_ask(running, demo=False))
                await asyncio.Event().wait()
            else:
                await self._demo(running, loaded)

    async def _demo(self, running: Running, loaded: "asyncio.Task[Year]") -> None:
        options, settings = self._options, running.settings
        year = await loaded
        await _ready(running)
        description = await asyncio.to_thread(write_deployment, options.data_dir / "demo", year.flights)
        await _register(running, description.with_name(BASELINE))
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
                await look.play(producer, show, lambda: self._when_over(running, look, year.live))

    async def _when_over(self, running: Running, look: FirstLook, live: list[LiveFlight]) -> bool:
        """The second act; then, whether to end here."""
        if not self._terminal.table:
            self._terminal.say(plain(look.view()))
        async with running.demo_api() as api:
            batch_id = await play_live(api, running.api.url, running.token, live, SystemClock().now())
        self._terminal.say(f"{len(live)} live flights were sent over HTTP into monitoring batch {batch_id}")
        if not self._options.exit_when_done and not self._options.json:
            self._terminal.tell(_what_to_ask(running, demo=True))
        return self._options.exit_when_done


@asynccontextmanager
async def _running(options: Options, say: Callable[[str], None]) -> AsyncIterator[Running]:
    async with AsyncExitStack() as entered:
        stack = await entered.enter_async_context(open_devstack(options.data_dir, broker=options.broker, say=say))
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=stack.bootstrap_servers, transactions=stack.transactions),
            postgres=PostgresSettings(dsn=SecretStr(stack.postgres_dsn)),
        )
        await _prepare(settings)
        token = await kept_token(settings.postgres, options.data_dir / "api-token")
        specs = role_specs(options.data_dir.resolve(), stack, workers=options.workers)
        *workers, api = [await entered.enter_async_context(open_role(spec, say=say)) for spec in specs]
        yield Running(stack=stack, settings=settings, workers=workers, api=api, token=token)


async def _prepare(settings: Settings) -> None:
    """The database and the topics, as `hindsight migrate` and `hindsight topics create` do it."""
    await commands.migrate_database(settings.postgres)
    creation = await commands.create_topics(
        settings.kafka, partitions=PARTITIONS, replication_factor=None, min_insync=None
    )
    if creation.problems:
        raise DevStackError("\n".join(creation.problems))


async def _register(running: Running, baseline: Path) -> None:
    """What the demo is about, through the API, as far as it is not there from an earlier start."""
    flights = registration()
    async with running.demo_api() as api:
        await api.register(flights)
        await api.register(live_description(flights))
        await api.train(DEPLOYMENT_ID, baseline)


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
    internal, worker = f"{running.api.url}{_INTERNAL}/deployments", running.workers[0].url
    api = f"curl -s -H 'Authorization: Bearer {running.token}' '{running.api.url}{BASE}"
    lines = [f"{api}/deployments/'"]
    if demo:
        lines += [
            f"{api}/deployments/{DEPLOYMENT_ID}/monitoringBatches/?orderBy=latestPredictionTimestamp&limit=5'",
            f"{api}/deployments/{LIVE_ID}/monitoringBatches/'",
            f"curl -s '{internal}/{DEPLOYMENT_ID}/statistics?by=month'",
            f"curl -s '{internal}/{DEPLOYMENT_ID}/drift?bucket=month'",
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
