"""The numbers of a busy day against a slow, independent computation over the same input."""

import json
import math
import random
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.deployment import Deployment, TargetType
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.ports import AccuracyCellKey
from tests.builders import PREDICTED_AT, actual, deployment, prediction, regression
from tests.flow import plain_statistics as plain
from tests.flow.conftest import Opened
from tests.flow.world import FlowWorld

QUANTUM = 10**18
EDGES = (0.0, 10.5, 200.0)
ORIGINS = ("EWR", "JFK", "7", "true")
LAYOUT = FeatureLayout(
    features=(
        NumericBins(name="distance", first_slot=0, edges=EDGES),
        CategoricalBins(name="origin", first_slot=5, values=ORIGINS),
    )
)
SLOTS = [
    *(("distance", name) for name in ("<= 0.0", "<= 10.5", "<= 200.0", "> 200.0", "missing")),
    *(("origin", name) for name in (*ORIGINS, "other", "missing")),
]


class Day:
    """Records of one day, sent as they are drawn, and kept for the computation."""

    def __init__(self, world: FlowWorld, seed: int = 7) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.predictions: list[dict[str, Any]] = []
        self.actuals: list[dict[str, Any]] = []

    def predict(self, name: str, value: Any, **fields: Any) -> None:
        at = PREDICTED_AT + timedelta(seconds=self.random.randrange(20_000), microseconds=self.random.randrange(10**6))
        record = prediction(name, value, at=at, **fields)
        self.predictions.append(json.loads(record))
        self.world.predict(record)
        self._pause()

    def tell(self, name: str, value: Any) -> None:
        record = actual(name, value, at=PREDICTED_AT + timedelta(seconds=self.random.randrange(90_000)))
        self.actuals.append(json.loads(record))
        self.world.tell(record)
        self._pause()

    def _pause(self) -> None:
        if self.random.random() < 0.1:
            self.world.steps(self.random.randrange(30))

    def tell_some(self, names: list[str], values: list[Any]) -> None:
        """Actuals for some of the rows, several for many of them, some withdrawn, some for nobody."""
        for _ in range(3 * len(names) // 2):
            self.tell(self.random.choice(names), self.random.choice(values))
        self.tell("nobody", values[0])

    @property
    def pairs(self) -> list[tuple[plain.Event, Any]]:
        return plain.pairs(self.predictions, self.actuals)


def by_place(world: FlowWorld) -> dict[plain.Place, Accuracy]:
    places: dict[plain.Place, Accuracy] = {}
    for key, cell in world.numbers().accuracy.items():
        place = (key.deployment_id, key.model_id, datetime.fromtimestamp(key.hour / 1e6, UTC))
        places[place] = places.get(place, Accuracy()).merged(cell)
    return {place: cell for place, cell in places.items() if cell != Accuracy()}


def is_sum(quanta: int, expected: float) -> bool:
    return math.isclose(quanta / QUANTUM, expected, rel_tol=1e-12, abs_tol=1e-12)


def test_regression_sums(opened: Opened) -> None:
    day = Day(opened(regression()))
    names = [f"row-{number}" for number in range(150)]
    for name in names:
        day.predict(name, day.random.choice([0, 1e-9, day.random.gauss(100, 50), -day.random.random() * 1e6]))
    day.tell_some(names, [0, -3, 1e-7, 12345.678, 99.5, None])
    day.world.settle()
    expected, found = plain.regression(day.pairs), by_place(day.world)
    assert found.keys() == expected.keys()
    for place, cell in found.items():
        wanted = expected[place]
        assert cell.matched == wanted.matched
        assert is_sum(cell.error, float(wanted.error))
        assert is_sum(cell.absolute_error, float(wanted.absolute_error))
        assert is_sum(cell.squared_error, float(wanted.squared_error))
        assert is_sum(cell.actual, float(wanted.actual))
        assert is_sum(cell.actual_square, float(wanted.actual_square))
        assert (cell.confusion, cell.log_loss_rows) == ({}, 0)
    assert sum(cell.matched for cell in found.values()) > 50


def check_classes(world: FlowWorld, expected: dict[plain.Place, plain.Plain], classes: list[str]) -> None:
    found = by_place(world)
    assert found.keys() == expected.keys()
    for place, cell in found.items():
        wanted = expected[place]
        assert cell.matched == wanted.matched
        confusion = {(classes[pair // 1024], classes[pair % 1024]): rows for pair, rows in cell.confusion.items()}
        assert confusion == wanted.confusion
        assert cell.log_loss_rows == len(wanted.log_losses)
        assert is_sum(cell.log_loss, math.fsum(wanted.log_losses))
    assert sum(cell.matched for cell in found.values()) > 50


@pytest.mark.parametrize("positive", ["late", "on_time"])
def test_binary_confusion_and_log_loss(opened: Opened, positive: str) -> None:
    thresholds = {"model-1": 0.5, "m2": 0.83}
    day = Day(opened(deployment(positive_class=positive, models={"model-1": None, "m2": 0.83})))
    names = [f"row-{number}" for number in range(200)]
    for name in names:
        share = day.random.choice([0.0, 1.0, 0.5, 0.83, day.random.random()])
        value = day.random.choice(
            [{"late": share, "on_time": 1 - share}, {"late": share}, {"on_time": share}, "late", "on_time"]
        )
        day.predict(name, value, modelId=day.random.choice(["model-1", "m2"]))
    day.tell_some(names, ["late", "on_time", None])
    day.world.settle()
    negative = "late" if positive == "on_time" else "on_time"
    check_classes(day.world, plain.binary(day.pairs, positive, negative, thresholds), ["on_time", "late"])


def test_a_hot_cell_is_not_read_again(opened: Opened) -> None:
    world = opened(deployment())
    read: list[int] = []
    load = world.ledger.accuracy_cells

    async def counted(task: int, keys: Collection[AccuracyCellKey]) -> dict[AccuracyCellKey, Accuracy]:
        read.append(len(keys))
        return await load(task, keys)

    world.ledger.accuracy_cells = counted  # type: ignore[method-assign]
    world.predicted(prediction())
    for hours in range(4):
        world.told(actual(actual=["late", "on_time"][hours % 2], at=PREDICTED_AT + timedelta(hours=hours)))
    assert read == [1]
    assert world.accuracy().matched == 1


def test_binary_with_shares_only_is_judged_by_columns_to_the_same_effect(opened: Opened) -> None:
    day = Day(opened(deployment()))
    names = [f"row-{number}" for number in range(150)]
    for name in names:
        share = day.random.choice([0.5, day.random.random()])
        day.predict(
            name, day.random.choice([{"late": share, "on_time": 1 - share}, {"late": share}, {"on_time": share}])
        )
    day.tell_some(names, ["late", "on_time", None])
    day.world.settle()
    check_classes(day.world, plain.binary(day.pairs, "late", "on_time", {"model-1": 0.5}), ["on_time", "late"])


def test_multiclass_confusion_and_log_loss(opened: Opened) -> None:
    classes = ["red", "green", "blue", "1", "true"]
    index = {label: number for number, label in enumerate(classes)}
    day = Day(opened(deployment(target_type=TargetType.MULTICLASS, class_index=index, positive_class=None)))
    names = [f"row-{number}" for number in range(200)]
    for name in names:
        shares = {
            label: round(day.random.random(), 1) for label in day.random.sample(classes, day.random.randint(1, 5))
        }
        day.predict(name, day.random.choice([shares, day.random.choice(classes)]))
    day.tell_some(names, [*classes, None])
    day.world.settle()
    check_classes(day.world, plain.multiclass(day.pairs, classes), classes)


def test_a_class_may_be_written_as_number_or_boolean(opened: Opened) -> None:
    index = {"1": 0, "true": 1}
    world = opened(deployment(target_type=TargetType.MULTICLASS, class_index=index, positive_class=None))
    world.predicted(prediction("a", 1.0))
    world.predicted(prediction("b", True))
    assert world.told(actual("a", True)).fields["actual"] == "true"
    assert world.told(actual("b", 1)).fields["actual"] == "1"
    assert world.confusion() == {(1, 0): 1, (0, 1): 1}


# ------------------------------------------------------------------------------------------- traffic and features


def tracked() -> Deployment:
    return deployment(layouts={"model-1": LAYOUT}, models={"model-1": None, "plain": None})


def test_features_fall_into_their_bins(opened: Opened) -> None:
    day = Day(opened(tracked()))
    expected: dict[plain.Place, Counter[tuple[str, str]]] = {}
    for number in range(200):
        distance = day.random.choice([0, -1, 0.001, 10.5, 10.50001, 200, 1e9, None, "far", True])
        origin = day.random.choice(["EWR", "JFK", "LGA", "", 7, True, False, None])
        features: dict[str, object] = {"distance": distance, "origin": origin, "else": 1}
        for left_out in day.random.sample(list(features), day.random.choice([0, 0, 0, 1])):
            del features[left_out]
        day.predict(f"row-{number}", {"late": 0.5}, features=features)
        counts = expected.setdefault(plain.place_of(day.predictions[-1]), Counter())
        counts["distance", plain.numeric_bin(features.get("distance"), EDGES)] += 1
        counts["origin", plain.category(features.get("origin"), ORIGINS)] += 1
    day.world.settle()
    found: dict[plain.Place, Counter[tuple[str, str]]] = {}
    for key, cell in day.world.numbers().traffic.items():
        place = (key.deployment_id, key.model_id, datetime.fromtimestamp(key.hour / 1e6, UTC))
        found[place] = +Counter(dict(zip(SLOTS, cell.features.tolist(), strict=True)))
    assert found == expected


def test_predictions_are_counted_once_with_their_first_and_last_instant(opened: Opened) -> None:
    day = Day(opened(tracked()))
    for number in range(150):
        day.predict(f"row-{number}", {"late": 0.5}, modelId=day.random.choice(["model-1", "plain"]))
    for number in range(20):
        day.world.predict(prediction(f"row-{number}", {"late": 0.4}, at=PREDICTED_AT - timedelta(days=1)))
    day.world.predict(prediction("row-x", "early", at=PREDICTED_AT - timedelta(days=1)))
    day.world.settle()
    expected = plain.traffic(day.predictions)
    found = {
        (key.deployment_id, key.model_id, datetime.fromtimestamp(key.hour / 1e6, UTC)): cell
        for key, cell in day.world.numbers().traffic.items()
        if cell.predictions
    }
    assert {place: cell.predictions for place, cell in found.items()} == {
        place: wanted.predictions for place, wanted in expected.items()
    }
    epoch, tick = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
    for place, cell in found.items():
        wanted = expected[place]
        assert wanted.first is not None
        assert wanted.last is not None
        assert cell.first_at == (wanted.first - epoch) // tick
        assert cell.last_at == (wanted.last - epoch) // tick


def test_drift_tracking_can_be_skipped_for_a_record(opened: Opened) -> None:
    world = opened(tracked())
    world.predicted(prediction("a", features={"distance": 1}), headers=[("hindsight-skip-drift-tracking", b"true")])
    world.predicted(prediction("b", features={"distance": 1}), headers=[("hindsight-skip-drift-tracking", b"no")])
    (cell,) = world.numbers().traffic.values()
    assert (cell.predictions, cell.features.sum()) == (2, len(LAYOUT.features))


def test_features_of_a_duplicate_or_a_refused_prediction_do_not_count(opened: Opened) -> None:
    world = opened(tracked())
    for value in (prediction(), prediction(), prediction(features={"distance": 5}), prediction("x", "early")):
        world.predict(value)
    world.settle()
    assert sum(int(cell.features.sum()) for cell in world.numbers().traffic.values()) == len(LAYOUT.features)


def test_outcomes_are_counted_in_the_hour_of_the_row_or_of_the_record(opened: Opened) -> None:
    world = opened(deployment())
    world.predicted(prediction())
    world.told(actual())
    world.told(actual(actual="early"))
    world.told(actual("nobody"))
    counted = {
        (key.model_id, datetime.fromtimestamp(key.hour / 1e6, UTC)): int(cell.outcomes.sum())
        for key, cell in world.numbers().traffic.items()
    }
    early = datetime(2026, 1, 1, 13, tzinfo=UTC)
    assert counted[("model-1", PREDICTED_AT.replace(minute=0))] == 3
    assert counted[("", early)] == 1
