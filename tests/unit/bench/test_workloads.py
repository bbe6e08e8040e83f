"""What the benchmark loads: the same every time, of the shares that are promised, in an order that could have been."""

from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest

from bench.workloads import MIXED, NAMES, Events, Workload, open_workload
from service.devstack.demo.replay import ACTUAL, PREDICTION
from service.domain.ids import murmur2_many
from service.usecases.deployment_description import parse_description

_START_US = 1_790_000_000_000_000
_SIZE = 3_000


def workload(name: str, size: int = _SIZE) -> Workload:
    return open_workload(name, size, start_us=_START_US)


def joined_up(chunks: list[Events]) -> list[tuple[int, int, int, int, bytes, bytes]]:
    return [
        one
        for events in chunks
        for one in zip(
            events.topics.tolist(),
            events.rows.tolist(),
            events.partitions.tolist(),
            events.timestamps_ms.tolist(),
            events.keys,
            events.values,
            strict=True,
        )
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "flights"])
def test_a_workload_is_the_same_however_it_is_cut(name: str) -> None:
    whole = joined_up(list(workload(name).chunks()))
    parts = joined_up(list(workload(name).chunks(777)))
    assert whole == parts
    topics = Counter(topic for topic, *_ in whole)
    assert (topics[PREDICTION], topics[ACTUAL]) == (workload(name).predictions, workload(name).actuals)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "flights"])
def test_each_prediction_comes_before_its_actuals(name: str) -> None:
    (events,) = workload(name).chunks()
    assert (np.diff(events.timestamps_ms) >= 0).all()
    came = events.rows[events.topics == PREDICTION]
    assert came.tolist() == list(range(_SIZE))
    at = dict(zip(came.tolist(), events.timestamps_ms[events.topics == PREDICTION].tolist(), strict=True))
    actual = events.topics == ACTUAL
    waited = [
        time - at[row]
        for row, time in zip(events.rows[actual].tolist(), events.timestamps_ms[actual].tolist(), strict=True)
    ]
    assert min(waited) >= 60_000
    assert max(waited) <= 4 * 3_600_000


def test_an_event_says_what_its_columns_say() -> None:
    (events,) = workload("joined").chunks()
    keys: dict[int, bytes] = {}
    for topic, row, _, at_ms, key, value in joined_up([events]):
        event = orjson.loads(value)
        assert event["associationId"].encode() == key == keys.setdefault(row, key)
        assert np.datetime64(event["timestamp"].rstrip("Z"), "ms").astype(np.int64) == at_ms
        assert isinstance(event["prediction" if topic == PREDICTION else "actual"], float)
    assert len(set(keys.values())) == _SIZE
    predictions = [value for value, topic in zip(events.values, events.topics, strict=True) if topic == PREDICTION]
    assert all(len(orjson.loads(value)["features"]) == 20 for value in predictions)
    assert 480 < sum(map(len, predictions)) / _SIZE < 520


def test_strays_are_three_in_ten() -> None:
    (events,) = workload("strays", 20_000).chunks()
    strays = (events.partitions != murmur2_many(events.keys) % 4).mean()
    assert 0.29 < strays < 0.31
    (at_home,) = workload("joined", 20_000).chunks()
    assert (at_home.partitions == murmur2_many(at_home.keys) % 4).all()


def test_one_row_in_twenty_is_corrected() -> None:
    (events,) = workload("corrections").chunks()
    actuals: dict[int, list[float]] = {}
    for topic, row, *_, value in joined_up([events]):
        if topic == ACTUAL:
            actuals.setdefault(row, []).append(orjson.loads(value)["actual"])
    twice = [values for values in actuals.values() if len(values) == 2]
    assert len(twice) == _SIZE // 20
    assert all(first != second for first, second in twice)


def test_forty_deployments_are_mixed() -> None:
    (events,) = workload("mixed").chunks()
    names = [orjson.loads(value)["deploymentId"] for value in events.values]
    assert len(set(names)) == MIXED
    assert len(set(names[:200])) > MIXED * 3 / 4
    of_row: dict[int, str] = {}
    assert all(of_row.setdefault(row, name) == name for row, name in zip(events.rows.tolist(), names, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_deployments_are_described(name: str, tmp_path: Path) -> None:
    described = [parse_description(path.read_text()) for path in workload(name).write_deployments(tmp_path)]
    assert len(described) == (MIXED if name == "mixed" else 1)
    for one in described:
        assert one.baseline is not None
        assert (tmp_path / one.baseline.file).exists()


def test_flights_keep_their_order() -> None:
    flights = workload("flights", 500)
    events = list(flights.chunks(100))
    times = np.concatenate([one.timestamps_ms for one in events])
    assert (np.diff(times) >= 0).all()
    assert sum(map(len, events)) == flights.predictions + flights.actuals
