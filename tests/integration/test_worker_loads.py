"""Three loads on one worker, real Kafka and real Postgres: however input is spread over time, no row is lost or late.

The flights cover the whole year, so windows of 30 days close on the way. With LONG=1 all flights are taken and the
actuals come five minutes after the predictions; else every twentieth flight, and a few seconds.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from service.adapters.clock import SystemClock
from service.adapters.postgres.statistics import PostgresStatistics
from service.devstack.demo.events import flights_replay
from service.devstack.demo.replay import ACTUAL, PREDICTION, Replay
from service.domain.records import Topic
from service.usecases.statistics import Figures, Grouping
from tests.builders import actual, prediction
from tests.flights_oracle import Flight, flights_truth
from tests.flights_oracle import read_flights as lines_of_the_csv
from tests.integration.worker import Event, Site, Worker, tell

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

LONG = bool(os.environ.get("LONG"))
EVERY, PAUSE_S, PATIENCE = (1, 300, 300.0) if LONG else (20, 3, 60.0)
WINDOW, HOUR, LATENESS = timedelta(days=30), timedelta(hours=1), timedelta(minutes=10)
_ROLES = {PREDICTION: Topic.PREDICTIONS, ACTUAL: Topic.ACTUALS}


@pytest.fixture(scope="module")
def year() -> Replay:
    replay = flights_replay()
    kept = np.flatnonzero(replay.flights % EVERY == 0)
    return Replay(
        topics=replay.topics[kept],
        event_at_us=replay.event_at_us[kept],
        flights=replay.flights[kept],
        keys=[replay.keys[i] for i in kept],
        values=[replay.values[i] for i in kept],
    )


def events_of(replay: Replay, *kinds: int) -> list[Event]:
    """In order of event time."""
    wanted = [i for i, kind in enumerate(replay.topics.tolist()) if kind in kinds]
    return [Event(_ROLES[int(replay.topics[i])], replay.keys[i], replay.values[i]) for i in wanted]


async def watermarks(site: Site, when: str) -> dict[int, datetime]:
    rows = await site.pool.fetch(
        "SELECT task, 'epoch'::timestamptz + watermark * interval '1 microsecond' AS at FROM clocks ORDER BY task"
    )
    shown = ", ".join(f"{row['task']}: {row['at']:%Y-%m-%d %H:%M}" for row in rows)
    tell(f"watermark {when}: {shown}")
    return {row["task"]: row["at"] for row in rows}


async def months_of(site: Site) -> list[Figures]:
    found = await PostgresStatistics(site.pool).figures("flights", by=Grouping.MONTH, start=None, end=None)
    assert found is not None
    return found


async def expect_year(site: Site, year: Replay, worker: Worker) -> None:
    """As a slow reading of the csv says: every actual matched in time, and unmatched what no actual came for."""
    said = [year.values[i] for i in np.flatnonzero(year.topics == PREDICTION).tolist()]
    truth = flights_truth(said)
    reached = await watermarks(site, "at the end")
    ids = {key.decode() for key in year.keys}
    never = [flight for flight in lines_of_the_csv() if flight.late is None and flight.association_id in ids]
    least, most = (expired(site, never, reached, slack) for slack in (-HOUR, HOUR))

    async def all_closed() -> bool:
        outcomes = total(await months_of(site))
        return least <= outcomes["UNMATCHED"] <= most

    await worker.until(all_closed, within=PATIENCE, what=f"between {least} and {most} rows unmatched")
    months = await months_of(site)
    outcomes = total(months)
    tell(f"{dict(outcomes)}; without an actual: {len(never)}, of them past their window {least} to {most}")
    assert outcomes["MATCHED"] == truth.actuals
    assert not {word for word in outcomes if word.startswith("LATE") or word in ("ORPHAN", "DUPLICATE", "CORRECTED")}
    assert [month.group for month in months] == list(truth.months)
    for month, expected in zip(months, truth.months.values(), strict=True):
        assert month.accuracy is not None
        confusion = {(cell.actual, cell.predicted): cell.rows for cell in month.accuracy.confusion}
        assert confusion == {
            pair: rows
            for pair, rows in {
                ("late", "late"): expected.tp,
                ("on_time", "late"): expected.fp,
                ("on_time", "on_time"): expected.tn,
                ("late", "on_time"): expected.fn,
            }.items()
            if rows
        }
        assert float(month.accuracy.log_loss) == pytest.approx(expected.log_loss_sum, rel=1e-12)

    async def audited() -> bool:
        metrics = await worker.metrics()
        versions = dict(await site.pool.fetch("SELECT task, version FROM ledger"))
        return all(metrics.get(f'audited_version{{task="{task}"}}') == version for task, version in versions.items())

    await worker.until(audited, within=PATIENCE, what="an audit")
    assert {value for name, value in (await worker.metrics()).items() if name.startswith("conservation_error")} == {0.0}


def expired(site: Site, flights: Iterable[Flight], reached: dict[int, datetime], slack: timedelta) -> int:
    """Flights whose window had passed when the watermark of their task stood there."""
    return sum(
        flight.departure + WINDOW <= reached[site.home(flight.association_id.encode())] + slack for flight in flights
    )


def total(months: Iterable[Figures]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for month in months:
        counts.update(month.outcomes)
    return counts


async def test_a_year_of_predictions_first_and_all_actuals_later(site: Site, year: Replay) -> None:
    await site.produce(events_of(year, PREDICTION))
    async with site.worker() as worker:
        await site.processed(worker, within=PATIENCE)
        await asyncio.sleep(PAUSE_S)
        before = await watermarks(site, "before the actuals")
        assert max(before.values()) < datetime(2013, 1, 2, tzinfo=UTC)
        assert set(total(await months_of(site))) == {"ACCEPTED"}
        await site.produce(events_of(year, ACTUAL))
        await site.processed(worker, within=PATIENCE)
        await expect_year(site, year, worker)


async def test_the_year_side_by_side(site: Site, year: Replay) -> None:
    await site.produce(events_of(year, PREDICTION, ACTUAL))
    async with site.worker() as worker:
        await site.processed(worker, within=PATIENCE)
        await expect_year(site, year, worker)


async def test_a_backfill_beside_live_traffic_on_the_same_tasks(site: Site) -> None:
    rows, now = 20_000 if LONG else 2_000, SystemClock().now()

    def at(name: str, ago: timedelta, number: int) -> tuple[bytes, datetime]:
        return f"{name}-{number}".encode(), now - ago + number * timedelta(hours=6) / rows

    def predictions(name: str, ago: timedelta) -> list[Event]:
        found = [at(name, ago, number) for number in range(rows)]
        return [Event(Topic.PREDICTIONS, key, prediction(key.decode(), at=when, features=None)) for key, when in found]

    def actuals(name: str, ago: timedelta) -> list[Event]:
        found = [at(name, ago, number) for number in range(rows)]
        return [Event(Topic.ACTUALS, key, actual(key.decode(), at=when + HOUR)) for key, when in found]

    live, old = ("live", timedelta(hours=7)), ("old", timedelta(days=200))
    async with site.worker() as worker:
        await site.produce([*predictions(*live), *actuals(*live)])
        await site.processed(worker, within=PATIENCE)
        before = await watermarks(site, "before the backfill")
        await site.produce([*predictions(*old), *predictions("more", live[1])])
        await site.processed(worker, within=PATIENCE)
        await asyncio.sleep(PAUSE_S)
        await site.produce([*actuals(*old), *actuals("more", live[1])])
        await site.processed(worker, within=PATIENCE)
        after = await watermarks(site, "after it")
        assert all(after[task] >= before[task] for task in before)
        outcomes = total(await months_of(site))
        tell(f"{dict(outcomes)}")
        assert outcomes["MATCHED"] == 3 * rows
        assert set(outcomes) <= {"ACCEPTED", "MATCHED", "EARLY"}
