"""Input events as hypothesis draws them, and what the pipeline's decoder makes of one record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from service.domain.ids import MAX_ASSOCIATION_ID, is_association_id, is_object_id
from service.domain.instants import LATEST_US
from service.domain.records import Topic
from service.pipeline.columns import Decoded
from service.pipeline.decode import Decoder
from service.ports import Polled
from service.wire.events import canonical_association_id

TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBER: Final = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 70), 1 << 70)
SCALAR: Final = NUMBER | TEXT | st.booleans() | st.none()
JSON: Final = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
OBJECT_ID: Final = st.from_regex(r"\A[A-Za-z0-9._-]{1,128}\Z").filter(is_object_id)
ASSOCIATION_ID: Final = TEXT.filter(is_association_id) | st.lists(TEXT, min_size=1, max_size=4).filter(
    lambda parts: len(canonical_association_id(parts)) <= MAX_ASSOCIATION_ID
)
INSTANT: Final = st.datetimes(datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda at: at.isoformat().replace("+00:00", "Z")
) | st.floats(0, LATEST_US / 1_000_000 - 1)
PROBABILITIES: Final = st.dictionaries(TEXT, st.floats(0, 1), min_size=1, max_size=3)
FIGURES: Final = st.fixed_dictionaries(
    {},
    optional={
        "responseTimeMs": st.floats(0, 1e6),
        "executionTimeMs": st.none() | st.integers(0, 100),
        "requestId": TEXT,
        "consumerId": TEXT,
        "cacheHit": st.booleans(),
        "outcome": st.sampled_from(["ok", "user_error", "server_error"]),
    },
)
EVENTS: Final[dict[str, st.SearchStrategy[dict[str, Any]]]] = {
    "prediction": st.fixed_dictionaries(
        {"deploymentId": OBJECT_ID, "prediction": NUMBER | TEXT | st.booleans() | PROBABILITIES},
        optional={
            "associationId": ASSOCIATION_ID,
            "timestamp": INSTANT,
            "modelId": OBJECT_ID | st.none(),
            "batchId": OBJECT_ID,
            "batchName": st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=256
            ),
            "features": st.dictionaries(TEXT, SCALAR, max_size=4) | st.none(),
            "service": FIGURES | st.none(),
        },
    ),
    "actual": st.fixed_dictionaries(
        {"deploymentId": OBJECT_ID, "associationId": ASSOCIATION_ID, "actual": SCALAR},
        optional={
            "timestamp": INSTANT,
            "wasActedOn": st.booleans() | st.none(),
            "keepWithoutPrediction": st.booleans() | st.none(),
        },
    ),
}
KINDS: Final = pytest.mark.parametrize("kind", EVENTS)


@dataclass
class Arrived:
    """A record as a client library hands it out."""

    value: bytes | None
    offset: int = 0
    timestamp: int = 1_767_225_600_000
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def polled(kind: str, value: bytes | None) -> Decoded:
    """What the pipeline's decoder makes of one record at its home."""
    role = Topic.PREDICTIONS if kind == "prediction" else Topic.ACTUALS
    return Decoder(0, 1, "monitoring").decode(Polled({role: [Arrived(value)]}, {}), {})
