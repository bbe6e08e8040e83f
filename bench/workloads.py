"""Workloads: what is loaded into the input topics before the clock starts, and the deployments that it is about.

    joined       one regression of 20 features, all tracked: a prediction each, its actual some time after it
    mixed        the same, of 40 deployments of four kinds, mixed record by record
    strays       `joined`, with 30 % of the records in a partition that is not their home
    corrections  `joined`, with a second, other actual for 5 % of the rows
    flights      the flights of 2013, as `hindsight up --demo flights` replays them

A workload is the same for the same name, size, start and seed, however it is cut into chunks. Only chunks hold events,
so memory does not grow with their number; what is kept of all is their order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.synthetic import Kind, actual_values, description_of, prediction_values, row_ids, uniform, write_baseline
from service.devstack.demo.deployment import write_deployment
from service.devstack.demo.events import flights_replay
from service.devstack.demo.flights import read_flights
from service.devstack.demo.replay import ACTUAL, PREDICTION, Replay
from service.domain.ids import murmur2_many
from service.domain.instants import HOUR_US

PARTITIONS: Final = 4
CHUNK: Final = 50_000
SPAN_US: Final = 24 * HOUR_US
"""From the first prediction to the last."""
TAIL_US: Final = 4 * HOUR_US
"""From the last prediction to the last actual, at most."""
MIXED: Final = 40
_MINUTE_US: Final = 60_000_000
_LATEST_US: Final = 2 * HOUR_US - _MINUTE_US
_MEAN_WAIT_US: Final = 20 * _MINUTE_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Some events (n,) in order of their Kafka timestamps, as parallel columns; within a topic and partition that is
    the order of their offsets."""

    topics: NDArray[np.int8]
    """PREDICTION or ACTUAL."""
    rows: NDArray[np.int64]
    """Which prediction the event belongs to, by rank."""
    partitions: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    keys: list[bytes]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.keys)


class Workload(Protocol):
    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def predictions(self) -> int:
        """How many rows there will be."""

    @property
    def actuals(self) -> int:
        """How many events are actuals, corrections included."""

    def write_deployments(self, directory: Path) -> list[Path]:
        """Write the descriptions and their baselines, and return the paths of the descriptions."""

    def chunks(self, size: int = CHUNK) -> Iterator[Events]:
        """All events, in order, so many at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Made-up rows, spread evenly over a day; an actual follows a minute to two hours after its prediction, most within
    the first half hour, and a correction in the same way after the actual."""

    name: str
    predictions: int
    start_us: int
    """Event time of the first prediction, and its Kafka timestamp. All of it should lie in the past, and within the
    retention of the topics."""
    seed: int = 1
    deployments: int = 1
    strays: float = 0.0
    """Share of the records in a foreign partition."""
    corrections: float = 0.0
    """Share of the rows with a second actual."""

    @property
    def corrected(self) -> NDArray[np.int64]:
        """Ranks of the rows that get a second actual, evenly spread."""
        count = round(self.predictions * self.corrections)
        return np.arange(count, dtype=np.int64) * self.predictions // max(1, count)

    @property
    def actuals(self) -> int:
        return self.predictions + len(self.corrected)

    def deployment_ids(self) -> list[str]:
        return [self.name] if self.deployments == 1 else [f"{self.name}-{n:02}" for n in range(self.deployments)]

    def write_deployments(self, directory: Path) -> list[Path]:
        directory.mkdir(parents=True, exist_ok=True)
        baseline = write_baseline(directory, self.seed)
        kinds = [self.kind(n) for n in range(self.deployments)]
        return [
            description_of(name, kind, directory, baseline)
            for name, kind in zip(self.deployment_ids(), kinds, strict=True)
        ]

    def kind(self, deployment: int) -> Kind:
        return list(Kind)[deployment % len(Kind)]

    def predicted_at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Event times (microseconds, whole milliseconds) of these rows' predictions."""
        share = (rows + uniform(self.seed, "predicted", rows)) / self.predictions
        return self.start_us + _whole_ms(share * SPAN_US)

    def actual_at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.predicted_at(rows) + _wait(uniform(self.seed, "waited", rows))

    def corrected_at(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.actual_at(rows) + _wait(uniform(self.seed, "corrected", rows))

    def chunks(self, size: int = CHUNK) -> Iterator[Events]:
        ranks = np.arange(self.predictions, dtype=np.int64)
        rows = np.concatenate([ranks, ranks, self.corrected])
        times = np.concatenate([self.predicted_at(ranks), self.actual_at(ranks), self.corrected_at(self.corrected)])
        order = np.argsort(times, kind="stable")
        for start in range(0, len(order), size):
            places = order[start : start + size]
            yield self._events(places, rows[places], times[places])

    def _events(self, places: NDArray[np.int64], rows: NDArray[np.int64], at: NDArray[np.int64]) -> Events:
        topics = np.where(places < self.predictions, PREDICTION, ACTUAL).astype(np.int8)
        again = places >= 2 * self.predictions
        keys = row_ids(rows, self.seed)
        of = (uniform(self.seed, "deployment", rows) * self.deployments).astype(np.int64)
        values = np.empty(len(rows), dtype=object)
        names = self.deployment_ids()
        for kind in set(map(self.kind, range(self.deployments))):
            of_kind = of % len(Kind) == list(Kind).index(kind)
            for topic, write in ((PREDICTION, prediction_values), (ACTUAL, actual_values)):
                chosen = np.flatnonzero(of_kind & (topics == topic))
                deployments = [names[n] for n in of[chosen].tolist()]
                ids = [keys[i].decode() for i in chosen.tolist()]
                values[chosen] = write(kind, self.seed, deployments, ids, rows[chosen], at[chosen], again[chosen])
        return Events(
            topics=topics,
            rows=rows,
            partitions=self._partitions(keys, topics, rows),
            timestamps_ms=at // 1000,
            keys=keys,
            values=values.tolist(),
        )

    def _partitions(self, keys: list[bytes], topics: NDArray[np.int8], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        homes = murmur2_many(keys) % PARTITIONS
        chance = np.where(
            topics == PREDICTION, uniform(self.seed, "stray", rows), uniform(self.seed, "stray actual", rows)
        )
        further = 1 + rows % (PARTITIONS - 1)
        return np.where(chance < self.strays, (homes + further) % PARTITIONS, homes)


def _wait(share: NDArray[np.float64]) -> NDArray[np.int64]:
    """From a minute on, by an exponential distribution that is cut off."""
    waited = np.minimum(-np.log1p(-share) * _MEAN_WAIT_US, _LATEST_US)
    return _whole_ms(_MINUTE_US + waited)


def _whole_ms(span_us: NDArray[np.float64]) -> NDArray[np.int64]:
    return (span_us / 1000).astype(np.int64) * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Flights:
    """Real flights, with Kafka timestamps of today in the order of their events."""

    name: str
    replay: Replay
    start_us: int

    @property
    def predictions(self) -> int:
        return self.replay.count(PREDICTION)

    @property
    def actuals(self) -> int:
        return self.replay.count(ACTUAL)

    def write_deployments(self, directory: Path) -> list[Path]:
        return [write_deployment(directory, read_flights())]

    def chunks(self, size: int = CHUNK) -> Iterator[Events]:
        """A year in a day."""
        replay = self.replay
        first_us = int(replay.event_at_us[0]) if len(replay) else 0
        last_us = int(replay.event_at_us[-1]) if len(replay) else 0
        pace = SPAN_US / max(1, last_us - first_us)
        for start in range(0, len(replay), size):
            part = slice(start, start + size)
            at = self.start_us + ((replay.event_at_us[part] - first_us) * pace).astype(np.int64)
            yield Events(
                topics=replay.topics[part],
                rows=replay.flights[part].astype(np.int64),
                partitions=murmur2_many(replay.keys[part]) % PARTITIONS,
                timestamps_ms=at // 1000,
                keys=replay.keys[part],
                values=replay.values[part],
            )


NAMES: Final = ("joined", "flights", "mixed", "strays", "corrections")


def open_workload(name: str, size: int, *, start_us: int, seed: int = 1) -> Workload:
    """The workload of this name, with so many predictions (of flights: at most so many)."""
    match name:
        case "joined":
            return Synthetic(name=name, predictions=size, start_us=start_us, seed=seed)
        case "mixed":
            return Synthetic(name=name, predictions=size, start_us=start_us, seed=seed, deployments=MIXED)
        case "strays":
            return Synthetic(name=name, predictions=size, start_us=start_us, seed=seed, strays=0.3)
        case "corrections":
            return Synthetic(name=name, predictions=size, start_us=start_us, seed=seed, corrections=0.05)
        case "flights":
            return Flights(name=name, replay=flights_replay().head(size), start_us=start_us)
    raise ValueError(f"no workload {name!r}: there are {', '.join(NAMES)}")
