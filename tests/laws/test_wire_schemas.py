"""Schemas and service agree: what a schema accepts is taken as an event, and nothing else."""

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.deployment import Deployment
from service.domain.errors import Rejection
from service.domain.ids import MAX_ASSOCIATION_ID, is_object_id
from service.domain.stats.histogram import CategoricalBins, FeatureLayout, NumericBins
from service.wire.events import canonical_association_id
from service.wire.features import feature_slots
from service.wire.values import Prediction, check_prediction, class_label, decode_predictions
from tests.builders import deployment, regression
from tests.laws.schema_validator import SCHEMAS
from tests.laws.wire_events import EVENTS, JSON, KINDS, polled

NO_LAYOUT: Final = FeatureLayout()
LAYOUT: Final = NO_LAYOUT.extended(NumericBins(name="a", first_slot=0, edges=(0.0,))).extended(
    CategoricalBins(name="", first_slot=3, values=("a",))
)
TOO_LARGE: Final = "@1e999@"
"""Stands for a number that no double can hold."""
SPECIAL: Final = st.sampled_from(
    [
        None, True, "", "x" * 128, "x" * 129, "x" * 256, "x" * 257, "x" * 4096, "x" * 4097, "a\n", "a b", "\u00e4", ".",
        "..", "...", "job:1", "submission:1", "record:1", "jobs", 0, -0.0, -1, 1.5, 1.0000001, 1e308, 10**400,
        253_402_300_799.5, 253_402_300_800, TOO_LARGE, f"-{TOO_LARGE}", "1", "ok", "ok\n", "OK", [], {}, ["a"], [""],
        [1], ["a", None], ["x" * 124], ["x" * 125], [["a"]], {"a": 0.5}, {"a": 1.5}, {"a": -1}, {"a": "x"},
        {"a": None}, {"a": [1]}, {"a": {"b": 1}}, {"a": TOO_LARGE}, {"a": 10**400}, {"a": True}, {"outcome": "fine"},
        {"outcome": "ok"}, {"responseTimeMs": -1}, {"responseTimeMs": TOO_LARGE}, {"cacheHit": 1}, {"requestId": 5},
        "2026-01-01T00:00:00Z", "2026-01-01t00:00:00z", "2026-02-29T00:00:00Z", "2024-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T23:59:60Z", "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+23:59", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00Z", "2026-01-01", "yesterday",
        "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "1970-01-01T00:30:00+01:00", "1969-12-31T23:30:00-01:00",
        "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-01:00", "10000-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123456Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00,5Z",
    ]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, kind: str) -> str:
    """JSON text of an event with up to three fields left out or given another value."""
    event = draw(EVENTS[kind])
    optional = {
        "prediction": ["associationId", "timestamp", "modelId", "batchId", "batchName", "features", "service"],
        "actual": ["timestamp", "wasActedOn", "keepWithoutPrediction"],
    }[kind]
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*event, *optional]))
        if draw(st.integers(0, 4)) == 0:
            event.pop(name, None)
        else:
            event[name] = draw(SPECIAL | JSON)
    return json.dumps(event).replace(f'"{TOO_LARGE}"', "1e999").replace(f'"-{TOO_LARGE}"', "-1e999")


def described(kind: str, event: Any) -> bool:
    """Whether the schema accepts it, and the one rule in its descriptions that no schema can state."""
    composite = event.get("associationId")
    if isinstance(composite, list) and all(isinstance(part, str) for part in composite):
        if len(canonical_association_id(composite)) > MAX_ASSOCIATION_ID:
            return False
    return bool(SCHEMAS[kind].is_valid(event))


def taken(kind: str, value: bytes) -> bool:
    """Whether the service takes it as an event, as far as no deployment is needed to tell."""
    decoded = polled(kind, value)
    if decoded.refused:
        return False
    if kind == "actual":
        return is_object_id(decoded.actuals.events[0].deployment_id)
    (event,) = decoded.predictions.events
    named = (event.deployment_id, event.model_id, event.batch_id)
    if not all(is_object_id(name) for name in named if name is not None):
        return False
    with_layout, without = (feature_slots([bytes(event.features)], layout)[1] for layout in (LAYOUT, NO_LAYOUT))
    assert with_layout == without
    (prediction,) = decode_predictions([event.prediction])
    try:
        check_prediction(deployment_for(prediction), prediction)
    except Rejection:
        return False
    return not with_layout


def deployment_for(prediction: Prediction | None) -> Deployment:
    """One whose type and classes are those of the prediction."""
    if isinstance(prediction, float) and not isinstance(prediction, bool):
        return regression()
    labels = prediction if isinstance(prediction, dict) else [] if prediction is None else [class_label(prediction)]
    return deployment(class_index={label: position for position, label in enumerate(labels)})


@KINDS
@given(data=st.data())
@settings(max_examples=1000)
def test_the_schema_accepts_what_the_service_takes(kind: str, data: st.DataObject) -> None:
    text = data.draw(mutated(kind))
    assert taken(kind, text.encode()) == described(kind, json.loads(text))


@KINDS
@pytest.mark.parametrize(
    "timestamp",
    [0, -0.0, -1e-9, -5e-324, 253_402_300_799.5, 253_402_300_800, 1e300, "1970-01-01T00:00:00Z",
     "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-00:01"],
)  # fmt: skip
def test_they_agree_on_the_first_and_the_last_instant(kind: str, timestamp: float | str) -> None:
    event = {"deploymentId": "d", "associationId": "a", kind: 1, "timestamp": timestamp}
    assert taken(kind, json.dumps(event).encode()) == described(kind, event)
