"""This dialect's words for what became of a row."""

from typing import Final

_PROCESSED: Final = (
    "ACCEPTED", "MATCHED", "EARLY", "CORRECTED", "LATE_CORRECTED", "LATE_RECORDED", "WITHDRAWN", "UNMATCHED",
)  # fmt: skip
_INVALID_TIMESTAMP: Final = "INVALID_TIMESTAMP"
_INVALID_ASSOCIATION_ID: Final = "INVALID_ASSOCIATION_ID"
_WORDS: Final = {
    **dict.fromkeys(_PROCESSED, "PROCESSED"),
    "DUPLICATE": "DUPLICATE",
    "CONFLICT": "DUPLICATE",
    "MISSING_ASSOCIATION_ID": "MISSING_ASSOCIATION_ID",
    "RATE_LIMITED": "RATE_LIMITED",
    "BATCH_LOCKED": "BATCH_LOCKED",
    "UNKNOWN_BATCH": "BATCH_DELETED",
    "BATCH_DELETED": "BATCH_DELETED",
    "EXPIRED": _INVALID_TIMESTAMP,
    "ORPHAN": "INVALID_ACTUAL",
    "LATE_REJECTED": "INVALID_ACTUAL",
}
_BY_REASON: Final = {
    "bad_timestamp": _INVALID_TIMESTAMP,
    "future_timestamp": _INVALID_TIMESTAMP,
    "bad_association_id": _INVALID_ASSOCIATION_ID,
}


def word_of(outcome: str, *, is_actual: bool) -> str:
    """The word for `OUTCOME`, or for `INVALID:reason`; of anything else, that the row itself was invalid."""
    name, _, reason = outcome.partition(":")
    return _WORDS.get(name) or _BY_REASON.get(reason) or ("INVALID_ACTUAL" if is_actual else "INVALID_PREDICTION")
