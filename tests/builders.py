"""Events and deployments with defaults, so that a test shows only what matters to it.

The defaults fit together: `prediction()` opens the row that `actual()` matches, in the deployment of `deployment()`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from service.adapters.clock import SystemClock
from service.domain.deployment import Deployment, JoinSpec, TargetType
from service.ports import Checkpoint, MicroBatch

DEPLOYMENT_ID = "flights"
MODEL_ID = "model-1"
ASSOCIATION_ID = "UA1545-EWR-2026-01-01"
PREDICTED_AT = datetime(2026, 1, 1, 10, 17, tzinfo=UTC)
ACTUAL_AT = datetime(2026, 1, 1, 13, 30, tzinfo=UTC)
PROBABILITIES: Mapping[str, float] = {"late": 0.83, "on_time": 0.17}
FEATURES: Mapping[str, object] = {"origin": "EWR", "distance": 1400}

RECENT_MS = round(SystemClock().now().timestamp() * 1000) - 3_600_000
"""A Kafka timestamp for records on a real broker, which now and then deletes what its topics keep no longer."""

Value = float | str | bool | Mapping[str, float] | None


def prediction(
    association_id: str | Sequence[str] | None = ASSOCIATION_ID,
    prediction: Value = PROBABILITIES,
    *,
    deployment_id: str = DEPLOYMENT_ID,
    at: datetime | float | None = PREDICTED_AT,
    features: Mapping[str, object] | None = FEATURES,
    **fields: object,
) -> bytes:
    """Value of a prediction record. Further fields by their names in JSON (`modelId="m2"`); None leaves one out."""
    event = {
        "deploymentId": deployment_id,
        "associationId": association_id,
        "timestamp": _instant(at),
        "prediction": prediction,
        "features": features,
        **fields,
    }
    return _json({name: value for name, value in event.items() if value is not None})


def actual(
    association_id: str | Sequence[str] = ASSOCIATION_ID,
    actual: float | str | bool | None = "late",
    *,
    deployment_id: str = DEPLOYMENT_ID,
    at: datetime | float | None = ACTUAL_AT,
    **fields: object,
) -> bytes:
    """Value of an actual record; an actual of None withdraws. Further fields by their names in JSON."""
    event = {"deploymentId": deployment_id, "associationId": association_id, "timestamp": _instant(at), **fields}
    return _json({name: value for name, value in event.items() if value is not None} | {"actual": actual})


def deployment(id: str = DEPLOYMENT_ID, **fields: Any) -> Deployment:
    """A binary deployment that waits as long as the defaults of `JoinSpec` say; fields as in `Deployment`."""
    defaults: dict[str, Any] = {
        "target_type": TargetType.BINARY,
        "class_index": {"on_time": 0, "late": 1},
        "positive_class": "late",
        "current_model": MODEL_ID,
        "models": {MODEL_ID: None},
        "join": JoinSpec(),
    }
    return Deployment(id=id, **(defaults | fields))


def regression(id: str = DEPLOYMENT_ID, **fields: Any) -> Deployment:
    """A deployment that predicts a number."""
    return deployment(id, **{"target_type": TargetType.REGRESSION, "class_index": {}, "positive_class": None} | fields)


def _instant(at: datetime | float | None) -> str | float | None:
    return at.isoformat().replace("+00:00", "Z") if isinstance(at, datetime) else at


def _json(event: Mapping[str, object]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def after(checkpoint: Checkpoint, **fields: Any) -> MicroBatch:
    """An empty micro-batch that follows this checkpoint."""
    empty = MicroBatch(
        task=checkpoint.task,
        epoch=checkpoint.epoch,
        expected_version=checkpoint.version,
        seq=checkpoint.seq,
        offsets=checkpoint.offsets,
        origins=checkpoint.origins,
        slot=b"",
        prediction_cells={},
        accuracy_cells={},
        clocks={},
        submissions={},
        deployment_versions={},
        batch_versions={},
    )
    return replace(empty, **fields)
