"""Random predictions and actuals, and what must come of them, worked out a second time without any code of the service.

Each row has one prediction that counts (the first), and holds the actual with the greatest timestamp, however the two
topics interleave.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

from service.domain.outcomes import Outcome
from tests.builders import DEPLOYMENT_ID, RECENT_MS, actual, prediction
from tests.integration.worker import Event, Place, Read, Site

START = datetime(2026, 1, 1, tzinfo=UTC)
CLASSES = ("on_time", "late")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a row must end as."""

    at: datetime
    late: float
    actual: str | None

    @property
    def predicted(self) -> str:
        return "late" if self.late >= 0.5 else "on_time"

    @property
    def log_loss(self) -> float:
        of_truth = self.late if self.actual == "late" else 1 - self.late
        return -math.log(min(max(of_truth, 1e-15), 1 - 1e-15))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Events in an order that keeps each row's, and the rows that they make."""

    events: Sequence[Event]
    rows: dict[str, Row]

    def predictions_by_day(self) -> dict[str, int]:
        return dict(Counter(row.at.date().isoformat() for row in self.rows.values()))

    def confusion(self) -> dict[tuple[str, str], int]:
        return dict(Counter((row.actual, row.predicted) for row in self.rows.values() if row.actual is not None))

    def log_loss(self) -> float:
        return math.fsum(row.log_loss for row in self.rows.values() if row.actual is not None)


def traffic(rows: int, *, seed: int, prefix: str = "r") -> Traffic:
    """Most rows get an actual; some predictions and actuals are repeated, contradicted, corrected or overtaken."""
    rng = random.Random(seed)
    events: list[Event] = []
    made: dict[str, Row] = {}
    for number in range(rows):
        name = f"{prefix}{number}"
        row, of_row = _row(rng, name, START + timedelta(seconds=17 * number))
        made[name] = row
        events += of_row
    return Traffic(events=events, rows=made)


def _row(rng: random.Random, name: str, at: datetime) -> tuple[Row, list[Event]]:
    def predict(late: float) -> Event:
        said = {"late": late, "on_time": 1 - late}
        return Event("predictions", name.encode(), prediction(name, said, at=at, features={"distance": late * 100}))

    def act(value: str, minutes: int) -> Event:
        return Event("actuals", name.encode(), actual(name, value, at=at + timedelta(minutes=minutes)))

    late = round(rng.uniform(0.01, 0.99), 3)
    events = [predict(late)]
    if rng.random() < 0.05:
        events.append(events[0])
    if rng.random() < 0.04:
        events.append(predict(round(1 - late, 3) + 0.001))
    truth = None
    if rng.random() < 0.9:
        truth = rng.choice(CLASSES)
        other = CLASSES[1 - CLASSES.index(truth)]
        actuals = [act(truth, 60)]
        if rng.random() < 0.06:
            actuals.append(act(truth, 60))
        if rng.random() < 0.06:
            actuals.append(act(other, 50))
        if rng.random() < 0.06:
            actuals.append(act(other, 40))
        rng.shuffle(actuals)
        events += actuals
    return Row(at=at, late=late, actual=truth), events


# ------------------------------------------------------------------------------------------------- what came of it


async def assert_exact(site: Site, expected: Traffic, places: Iterable[Place]) -> None:
    """Every record has exactly one status; numbers and last statuses are those of the rows."""
    statuses = await site.statuses()
    assert_one_status_each(statuses, places)
    assert_gapless(statuses)
    _assert_last_statuses(statuses, expected)
    await assert_cells(site.pool, expected)
    counted = await outcomes(site.pool)
    assert counted == Counter(status.json["status"] for status in statuses)


def assert_one_status_each(statuses: Iterable[Read], places: Iterable[Place]) -> None:
    sources = Counter(Place(**status.json["source"]) for status in statuses)
    wanted = set(places)
    assert {place: count for place, count in sources.items() if count > 1} == {}, "more than one status"
    assert sources.keys() == wanted, f"{len(wanted - sources.keys())} lost, {len(sources.keys() - wanted)} unknown"


def assert_gapless(statuses: Iterable[Read]) -> None:
    """`seq` numbers the statuses of each partition."""
    seqs: dict[int, list[int]] = {}
    for status in statuses:
        seqs.setdefault(status.partition, []).append(status.json["seq"])
    for partition, found in seqs.items():
        assert found == list(range(len(found))), f"partition {partition}"


def _assert_last_statuses(statuses: Iterable[Read], expected: Traffic) -> None:
    last: dict[str, dict[str, Any]] = {}
    for status in statuses:
        shown = status.json
        last[shown["rowId"]] = shown
    assert last.keys() == expected.rows.keys()
    for name, row in expected.rows.items():
        assert last[name]["prediction"]["late"] == row.late
        assert last[name].get("actual") == row.actual


async def assert_cells(pool: asyncpg.Pool, expected: Traffic) -> None:
    """Predictions, confusion and log-loss, summed over cells."""
    days = await pool.fetch(
        "SELECT to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, sum(predictions)::bigint AS n"
        "  FROM prediction_cells WHERE deployment_id = $1 GROUP BY day HAVING sum(predictions) <> 0",
        DEPLOYMENT_ID,
    )
    assert dict(days) == expected.predictions_by_day()
    pairs = await pool.fetch(
        "SELECT pair, sum(n)::bigint AS n FROM accuracy_cells, unnest(confusion_pairs, confusion_counts) AS p (pair, n)"
        " WHERE deployment_id = $1 GROUP BY pair HAVING sum(n) <> 0",
        DEPLOYMENT_ID,
    )
    confusion = {(CLASSES[row["pair"] // 1024], CLASSES[row["pair"] % 1024]): row["n"] for row in pairs}
    assert confusion == expected.confusion()
    sums = await pool.fetchrow(
        "SELECT sum(matched)::bigint AS matched, sum(log_loss_rows)::bigint AS rows, sum(log_loss_sum) AS log_loss"
        "  FROM accuracy_cells WHERE deployment_id = $1",
        DEPLOYMENT_ID,
    )
    assert sums["matched"] == sums["rows"] == sum(expected.confusion().values())
    log_loss: Decimal = sums["log_loss"]
    assert math.isclose(float(log_loss), expected.log_loss(), rel_tol=1e-12)


async def outcomes(pool: asyncpg.Pool) -> Counter[str]:
    """Records per outcome, summed over cells."""
    rows = await pool.fetch(
        "SELECT o.position - 1 AS code, sum(o.n)::bigint AS n"
        "  FROM prediction_cells, unnest(outcomes) WITH ORDINALITY AS o (n, position) GROUP BY code"
    )
    return Counter({Outcome(row["code"]).name: row["n"] for row in rows if row["n"]})


def good_and(values: Iterable[bytes], good: Traffic, *, seed: int) -> list[Event]:
    """The events of `good` in their order, with these values strewn between them on both topics, keys and headers
    at random."""
    rng = random.Random(seed)
    mixed: list[tuple[float, Event]] = [(position, event) for position, event in enumerate(good.events)]
    for value in values:
        key = rng.randbytes(rng.randrange(0, 12)) or None
        headers = [("kind", rng.randbytes(4))] if rng.random() < 0.3 else []
        topic = rng.choice(("predictions", "actuals"))
        timestamp = RECENT_MS - rng.randrange(10**6)
        mixed.append((rng.uniform(0, len(good.events)), Event(topic, key, value, headers, timestamp)))
    return [event for _, event in sorted(mixed, key=lambda pair: pair[0])]
