"""What the oracle keeps: rows, cells, monitoring batches and tasks as they must be."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NEVER = -(1 << 62)
HOUR_US = 3_600_000_000
WORDS = (
    "ACCEPTED MATCHED EARLY DUPLICATE CONFLICT CORRECTED WITHDRAWN UNMATCHED LATE_CORRECTED LATE_RECORDED "
    "LATE_REJECTED ORPHAN INVALID MISSING_ASSOCIATION_ID BATCH_LOCKED BATCH_DELETED UNKNOWN_BATCH EXPIRED FORGOTTEN"
).split()
"""Statuses by the number under which a cell counts them."""
ABSENT, PARKED, PARKED_WITHDRAWN, OPEN, WITHDRAWN, MATCHED, UNMATCHED, UNMATCHED_WITHDRAWN = range(8)
CLASSES = ("on_time", "late")
REFUSED = {"missing_association_id": "MISSING_ASSOCIATION_ID", "batch_locked": "BATCH_LOCKED"} | {
    "batch_deleted": "BATCH_DELETED",
    "unknown_batch": "UNKNOWN_BATCH",
}

Place = tuple[str, int, int]
"""Topic role, partition, offset: where a record first came in."""


class Violation(AssertionError):
    """Something was lost, counted twice, or answered wrongly."""


@dataclass(slots=True)
class Row:
    """A row as it must be."""

    phase: int = ABSENT
    revision: int = 0
    predicted_at: int = 0
    actual_at: int = 0
    due: int = 0
    drop: int = 0
    content: bytes = b""
    label_day: int = 0
    prediction: Any = None
    actual: bytes = b""
    model: str = ""
    batch: str = ""
    orphaned: bool = False
    """Its status ORPHAN is out, the tombstone follows."""

    @property
    def is_predicted(self) -> bool:
        return self.phase >= OPEN


@dataclass(slots=True)
class Traffic:
    predictions: int = 0
    first_at: int | None = None
    last_at: int | None = None
    last_due: int | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    features: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Accuracy:
    matched: int = 0
    error: float = 0.0
    squared_error: float = 0.0
    log_loss: float = 0.0
    log_loss_rows: int = 0
    confusion: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Batch:
    id: str
    name: str
    is_locked: bool = False
    is_deleted: bool = False


class Published(NamedTuple):
    """One record of the status topic."""

    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


class Letter(NamedTuple):
    """One dead letter: where the record came in, and why it was refused."""

    place: Place
    reason: str


@dataclass(slots=True)
class Task:
    """One task as it must be after its last commit."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    seq: int = 0
    watermarks: dict[str, int] = field(default_factory=dict)
    traffic: defaultdict[tuple[str, str, str, int], Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    accuracy: defaultdict[tuple[str, str, str, int, int], Accuracy] = field(
        default_factory=lambda: defaultdict(Accuracy)
    )
    received: Counter[tuple[str, str]] = field(default_factory=Counter)
    submissions: Counter[tuple[str, str]] = field(default_factory=Counter)


def facts_of(row: Row) -> dict[str, Any]:
    names = "phase revision predicted_at actual_at due drop label_day prediction actual model batch".split()
    return {name: getattr(row, name) for name in names}
