"""What callers have in their hands, and what becomes of it."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pytest

from service.client import instants, values
from service.client.values import BadValue
from service.domain import ids
from service.wire import events


class NAType:
    """As pandas has it: it can not even be compared."""

    def __eq__(self, other: object) -> bool:
        raise TypeError

    __hash__ = None  # type: ignore[assignment]


class Colour(StrEnum):
    RED = "red"


class Trap:
    def item(self) -> float:
        raise RuntimeError("of some library")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (1.5, 1.5),
        (True, True),
        (None, None),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(-3), -3),
        (np.uint8(3), 3),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(2.5), 2.5),
        (float("nan"), None),
        (np.float64("nan"), None),
        (np.float32("nan"), None),
        (float("inf"), None),
        (Decimal("0.25"), 0.25),
        (Decimal("NaN"), None),
        (NAType(), None),
        (Colour.RED, "red"),
        (1 << 63, 1 << 63),
        (1 << 70, float(1 << 70)),
    ],
)
def test_a_feature(given: object, said: object) -> None:
    told = orjson.loads(values.encoded({"features": values.features({"f": given, "g": 1})}))
    assert told == {"features": {"f": said, "g": 1}} and type(told["features"]["f"]) is type(said)


@pytest.mark.parametrize(
    "given", [[1], {"a": 1}, b"x", datetime(2026, 1, 1, tzinfo=UTC), np.arange(3), Trap(), 10**400]
)
def test_a_feature_that_is_none(given: object) -> None:
    with pytest.raises(BadValue, match=r"^features\.f: "):
        values.features({"f": given})


def test_features_of_other_mappings() -> None:
    assert values.features(MappingProxyType({"a": 1})) == {"a": 1}
    assert values.features({np.str_("a"): 1.5}) == {"a": 1.5}
    for wrong in ([("a", 1)], {1: 1}, "a", 3):
        with pytest.raises(BadValue, match="^features: "):
            values.features(wrong)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, 3),
        (np.float32(0.5), 0.5),
        ("late", "late"),
        (False, False),
        ({"a": 0.25, "b": np.float64(0.75)}, {"a": 0.25, "b": 0.75}),
        ({0: 0, 1: 1}, {"0": 0, "1": 1}),
        ({np.int64(7): 1.0}, {"7": 1.0}),
        ({True: 0.5, False: 0.5}, {"true": 0.5, "false": 0.5}),
    ],
)
def test_a_prediction(given: object, said: object) -> None:
    assert values.prediction(given) == said


@pytest.mark.parametrize(
    "given",
    [None, float("nan"), float("inf"), NAType(), [0.5], {}, {"a": 1.5}, {"a": -0.1}, {"a": float("nan")}, {"a": None}]
    + [{"a": True}, {"a": "0.5"}, {0.5: 1.0}, {1: 0.5, "1": 0.5}, "x" * 131_071, {"x" * 131_070: 1}, np.arange(2)]
    + [{f"{number:0>127}": 1 for number in range(1_020)}],
)
def test_a_prediction_that_is_none(given: object) -> None:
    with pytest.raises(BadValue, match="^prediction"):
        values.prediction(given)


def test_the_longest_predictions() -> None:
    assert values.prediction("x" * 131_070)
    assert values.prediction({f"{number:0>100}": 1 for number in range(1_000)})


@pytest.mark.parametrize("given", [0, 1.5, True, "late", None, "x" * 4096])
def test_an_actual(given: Any) -> None:
    assert values.actual(given) == given


@pytest.mark.parametrize("given", [float("nan"), np.float64("nan"), NAType(), [1], "x" * 4097, b"late"])
def test_an_actual_that_is_none_and_never_a_withdrawal(given: object) -> None:
    with pytest.raises(BadValue, match="^actual: "):
        values.actual(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (datetime(2026, 5, 6, 17, tzinfo=UTC), "2026-05-06T17:00:00.000000Z"),
        ("2026-05-06T19:00:00.25+02:00", "2026-05-06T17:00:00.250000Z"),
        ("2026-05-06t17:00:00z", "2026-05-06T17:00:00.000000Z"),
        ("2026-05-06T17:00:00.123456789Z", "2026-05-06T17:00:00.123456Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_778_086_800.5, "2026-05-06T17:00:00.500000Z"),
        (np.float64(1_778_086_800.5), "2026-05-06T17:00:00.500000Z"),
    ],
)
def test_an_instant(given: object, said: str) -> None:
    assert instants.instant(given) == said


@pytest.mark.parametrize(
    "given",
    [datetime(2026, 5, 6), -1, 1e12, float("nan"), True, "2026-05-06", "2026-05-06T17:00:00", "2026-02-30T17:00:00Z"]  # noqa: DTZ001
    + ["1969-12-31T23:59:59Z", "9999-12-31T23:59:59-01:00", "now", NAType(), np.datetime64("2026-05-06T17:00:00")]
    + [253_402_300_799.9999999],
)
def test_an_instant_that_is_none(given: object) -> None:
    with pytest.raises(BadValue, match="^timestamp: "):
        instants.instant(given)


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "job:1", "submission:1:2", "record:t:0:1", 17, None, [], ["a", 1], ["x" * 128]]
)
def test_an_association_id_that_is_none(given: object) -> None:
    with pytest.raises(BadValue, match="^associationId: "):
        values.association_id(given)


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (lambda: values.object_id("a b", "modelId"), "modelId: must be 1 to 128"),
        (lambda: values.object_id("..", "modelId"), "modelId: must be"),
        (lambda: values.object_id(None, "deploymentId"), "deploymentId: must be"),
        (lambda: values.batch_name(""), "batchName: must be"),
        (lambda: values.batch_name("a\0"), "batchName: must be"),
        (lambda: values.flag(1, "wasActedOn"), "wasActedOn: must be a boolean"),
        (lambda: values.service_figures({"responseTime": 1}), "service: every name must be one of responseTimeMs"),
        (
            lambda: values.service_figures({"responseTimeMs": -1}),
            "service.responseTimeMs: must be a number of at least 0",
        ),
        (lambda: values.service_figures({"cacheHit": 1}), "service.cacheHit: must be a boolean"),
        (lambda: values.service_figures({"outcome": "fine"}), "service.outcome: must be one of ok"),
        (lambda: values.service_figures({"consumerId": 1}), "service.consumerId: must be text"),
        (lambda: values.service_figures([]), "service: must be a mapping"),
        (lambda: values.encoded({"a": "\ud800"}), "can not be written as JSON"),
    ],
)
def test_other_fields_name_their_rule(said: Callable[[], object], rule: str) -> None:
    with pytest.raises(BadValue) as refused:
        said()
    assert str(refused.value).startswith(rule)


def test_the_figures_of_a_service() -> None:
    given = {"responseTimeMs": np.float32(1.5), "cacheHit": np.bool_(False), "outcome": "ok", "requestId": None}
    assert values.service_figures(given) == {
        "responseTimeMs": 1.5,
        "cacheHit": False,
        "outcome": "ok",
        "requestId": None,
    }


def test_the_rules_are_those_of_the_service() -> None:
    assert values.MAX_ASSOCIATION_ID == ids.MAX_ASSOCIATION_ID
    assert values.RESERVED_PREFIXES == ids.RESERVED_PREFIXES
    assert values.MAX_ACTUAL_CHARACTERS == events.MAX_ACTUAL_CHARACTERS
    known = {events.ServiceFigures.__struct_encode_fields__}
    assert known == {tuple(values.ServiceFigures.__annotations__)}
