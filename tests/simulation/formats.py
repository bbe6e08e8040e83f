"""What records, rows and statuses look like to somebody who only knows what is written about them."""

import json
import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.simulation.facts import ABSENT, MATCHED, PARKED, PARKED_WITHDRAWN
from tests.simulation.workload import EDGES, VALUES, Rules, Sent


def row_in(state: bytes) -> dict[str, Any]:
    """A packed row: a head of numbers, then its texts one after the other."""
    numbers = "phase model batch actual revision label_day predicted_at actual_at due drop content".split()
    form, *found = struct.unpack_from("<BBBBIIiqqqqQ", state)
    assert form == 2
    row = dict(zip(numbers, found, strict=True))
    del row["content"]
    texts, model, batch = state[56:], row["model"], row["batch"]
    row["model"], row["batch"] = texts[:model].decode(), texts[model : model + batch].decode()
    prediction = texts[model + batch : len(texts) - row["actual"]]
    row["actual"] = texts[len(texts) - row["actual"] :]
    row["prediction"] = json.loads(prediction) if prediction else None
    return row


def parsed(value: bytes) -> dict[str, Any]:
    """The JSON object; empty where there is none."""
    try:
        event = json.loads(value)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def event_time(event: Mapping[str, Any], sent: Sent) -> int:
    if "timestamp" not in event:
        return sent.timestamp_ms * 1000
    return micros(datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")) - datetime(1970, 1, 1, tzinfo=UTC))


def invalid(event: Mapping[str, Any], rules: Rules, sent: Sent) -> str | None:
    """Why a record is refused whatever its row is."""
    if event.get("timestamp") == "?":
        return "bad_timestamp"
    if sent.topic == "predictions":
        value = event["prediction"]
        if rules.regression and isinstance(value, str):
            return "bad_prediction"
        if not rules.regression and isinstance(value, int):
            return "unknown_class"
    if event_time(event, sent) > sent.timestamp_ms * 1000 + micros(rules.max_future_skew):
        return "future_timestamp"
    if sent.topic == "actuals" and event["actual"] == "nonsense":
        return "bad_actual" if rules.regression else "unknown_actual_class"
    return None


def canonical(value: Any, rules: Rules) -> bytes:
    if value is None:
        return b"null"
    return json.dumps(float(value) if rules.regression else value).encode()


def word_of(phase: int, withdrawn: bool, late: bool) -> str:
    """Status of an actual that a row takes."""
    if phase in (ABSENT, PARKED_WITHDRAWN):
        return "EARLY"
    if withdrawn:
        return "WITHDRAWN"
    if late:
        return "LATE_CORRECTED"
    return "CORRECTED" if phase in (PARKED, MATCHED) else "MATCHED"


def slots_of(features: Mapping[str, Any]) -> list[int]:
    """The bins that the two features fall into: three of numbers, missing; two values, other, missing."""
    distance, carrier = features.get("distance"), features.get("carrier")
    first = len(EDGES) + 1 if distance is None else sum(distance > edge for edge in EDGES)
    width = len(EDGES) + 2
    if carrier is None:
        return [first, width + len(VALUES) + 1]
    return [first, width + (VALUES.index(carrier) if carrier in VALUES else len(VALUES))]


def micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
