"""What happened to a record, as data, and the public status of each.

The numbers are stored (position in `prediction_cells.outcomes`): they are only ever appended.
"""

from enum import IntEnum


class Outcome(IntEnum):
    """The public row statuses; the name is what the status topic says."""

    ACCEPTED = 0
    MATCHED = 1
    EARLY = 2
    DUPLICATE = 3
    CONFLICT = 4
    CORRECTED = 5
    WITHDRAWN = 6
    UNMATCHED = 7
    LATE_CORRECTED = 8
    LATE_RECORDED = 9
    LATE_REJECTED = 10
    ORPHAN = 11
    INVALID = 12
    MISSING_ASSOCIATION_ID = 13
    BATCH_LOCKED = 14
    BATCH_DELETED = 15
    UNKNOWN_BATCH = 16
    EXPIRED = 17
    """An unmatched row was forgotten."""
    FORGOTTEN = 18
    """Any other row was forgotten."""


ENDS = frozenset({Outcome.EXPIRED, Outcome.FORGOTTEN})
"""Outcomes that end a row: a tombstone on the status topic, no status."""
REJECTIONS = frozenset(
    {
        Outcome.LATE_REJECTED,
        Outcome.INVALID,
        Outcome.MISSING_ASSOCIATION_ID,
        Outcome.BATCH_LOCKED,
        Outcome.BATCH_DELETED,
        Outcome.UNKNOWN_BATCH,
    }
)
"""Outcomes whose record is a dead letter, too."""
