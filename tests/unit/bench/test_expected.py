"""What the benchmark expects of a workload, checked by hand on a few events."""

import numpy as np
import pytest

from bench.expected import expect, feature_counts
from bench.workloads import Events, open_workload
from service.devstack.demo.replay import ACTUAL, PREDICTION

_LAYOUT = (
    {"name": "amount", "kind": "numeric", "first_slot": 0, "edges": [1.0, 2.0]},
    {"name": "code", "kind": "categorical", "first_slot": 4, "values": ["a", "b"]},
)


def test_features_fall_into_their_slots() -> None:
    rows: list[dict[str, float | str | None]] = [
        {"amount": 1.0, "code": "a"},
        {"amount": 1.5, "code": "c"},
        {"amount": 9.0, "code": None},
        {"amount": None, "code": "b"},
    ]
    assert feature_counts(rows, _LAYOUT).tolist() == [1, 1, 1, 1, 1, 1, 1, 1]


def test_the_newest_actual_counts() -> None:
    def event(topic: int, body: str, at: int) -> bytes:
        return f'{{"deploymentId":"d","associationId":"a","timestamp":"2026-01-01T00:00:{at:02}Z",{body}}}'.encode()

    events = Events(
        topics=np.array([PREDICTION, ACTUAL, ACTUAL], dtype=np.int8),
        rows=np.zeros(3, dtype=np.int64),
        partitions=np.array([1, 1, 1]),
        timestamps_ms=np.arange(3),
        keys=[b"a"] * 3,
        values=[
            event(PREDICTION, '"prediction":10,"features":{"amount":1.5}', 1),
            event(ACTUAL, '"actual":8.0', 2),
            event(ACTUAL, '"actual":7.5', 3),
        ],
    )
    expected = expect([events], 1, {"d": _LAYOUT})
    figures = expected.figures["d"]
    assert (figures.predictions, figures.matched) == (1, 1)
    assert figures.sums == {
        "error": 2.5,
        "absolute_error": 2.5,
        "squared_error": 6.25,
        "actual": 7.5,
        "actual_square": 56.25,
    }
    assert figures.features.tolist() == [0, 1, 0, 0, 0, 0, 0, 1]
    assert [len(expected.places[topic, 1]) for topic in (PREDICTION, ACTUAL)] == [1, 2]


@pytest.mark.parametrize("name", ["joined", "mixed", "corrections"])
def test_every_row_is_to_be_matched(name: str) -> None:
    workload = open_workload(name, 2_000, start_us=1_790_000_000_000_000)
    whole = expect(workload.chunks(), 2_000, {})
    parts = expect(workload.chunks(333), 2_000, {})
    assert sum(figures.matched for figures in whole.figures.values()) == 2_000
    assert (whole.texts == parts.texts).all()
    assert all((whole.places[place] == parts.places[place]).all() for place in whole.places)
