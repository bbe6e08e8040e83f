"""Examples of every event, as `schemas/` shows them."""

from typing import Final

_DEPLOYMENT: Final = "6622f0a1c3d4e5f607182930"
_ROW: Final = "UA1545-EWR-2013-01-01"
_PREDICTED: Final = {"late": 0.83, "on_time": 0.17}

PREDICTIONS: Final[list[object]] = [
    {
        "deploymentId": _DEPLOYMENT,
        "associationId": _ROW,
        "timestamp": "2013-01-01T10:17:00Z",
        "prediction": _PREDICTED,
        "modelId": "late-arrival-3",
        "batchName": "2013-01-01",
        "features": {"origin": "EWR", "distance": 1400, "dep_delay": 2.0, "tailnum": None},
        "service": {"responseTimeMs": 12.1, "executionTimeMs": 8.2, "cacheHit": False, "outcome": "ok"},
    },
    {
        "deploymentId": "house-prices",
        "associationId": ["berlin", "4711"],
        "timestamp": 1767225600.25,
        "prediction": 412500.0,
    },
    {"deploymentId": "spam-filter", "prediction": "spam"},
]

ACTUALS: Final[list[object]] = [
    {
        "deploymentId": _DEPLOYMENT,
        "associationId": _ROW,
        "actual": "late",
        "timestamp": "2013-01-01T13:30:00Z",
        "wasActedOn": False,
    },
    {"deploymentId": "house-prices", "associationId": ["berlin", "4711"], "actual": 398000},
    {"deploymentId": _DEPLOYMENT, "associationId": _ROW, "actual": None, "timestamp": "2013-01-02T08:00:00+01:00"},
]

STATUSES: Final[list[object]] = [
    {
        "deploymentId": _DEPLOYMENT,
        "rowId": _ROW,
        "status": "MATCHED",
        "seq": 918234,
        "associationId": _ROW,
        "revision": 2,
        "modelId": "late-arrival-3",
        "batchId": "b-2013-01-01",
        "predictedAt": "2013-01-01T10:17:00.000000Z",
        "actualAt": "2013-01-01T13:30:00.000000Z",
        "prediction": _PREDICTED,
        "actual": "late",
        "source": {"topic": "monitoring.actuals.v1", "partition": 3, "offset": 4711},
    },
    {
        "deploymentId": _DEPLOYMENT,
        "rowId": "record:monitoring.predictions.v1:0:42",
        "status": "INVALID",
        "seq": 918235,
        "reason": "unknown_class",
        "source": {"topic": "monitoring.predictions.v1", "partition": 0, "offset": 42},
    },
]

BATCH_EVENTS: Final[list[object]] = [
    {
        "deploymentId": _DEPLOYMENT,
        "batchId": "b-2013-01-01",
        "batchName": "2013-01-01",
        "event": "CREATED",
        "at": "2013-01-01T10:17:00.250000Z",
    }
]

NOTIFICATIONS: Final[list[object]] = [
    {
        "schemaVersion": 1,
        "id": "5f0c8f6f3d7b4a5e9c2d1b0a7e6f5d4c",
        "deploymentId": _DEPLOYMENT,
        "batchId": "b-2013-01-01",
        "batchName": "2013-01-01",
        "event": "UNLOCKED",
        "at": "2013-01-01T10:17:00.250000Z",
        "changes": 19,
        "details": {},
    }
]

UNDELIVERED_HEADERS: Final[dict[str, object]] = {
    "hindsight.reason": "gave_up",
    "hindsight.detail": "HTTP 503 Service Unavailable",
    "hindsight.source": "monitoring.batches.v1/3/4711",
    "hindsight.attempts": "21",
    "hindsight.status": "503",
}

DEAD_LETTER_HEADERS: Final[dict[str, object]] = {
    "__connect.errors.topic": "monitoring.predictions.v1",
    "__connect.errors.partition": "0",
    "__connect.errors.offset": "42",
    "__connect.errors.stage": "hindsight",
    "__connect.errors.exception.message": "prediction: 'lat' is no class of the deployment",
    "hindsight.reason": "unknown_class",
    "hindsight.detail": "prediction: 'lat' is no class of the deployment",
}
