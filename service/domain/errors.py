"""The two ways in which a caller can be wrong: one record (`Rejection`) or one request (`DomainError`)."""

import re
from enum import StrEnum
from typing import Final

_FIELD_AND_RULE: Final = re.compile(r"(?P<field>[A-Za-z0-9_.\-]+): (?P<rule>.+)")


class Reason(StrEnum):
    """Why a record was refused, or why its outcome is not the plain one. The words are public."""

    MALFORMED = "malformed"
    """The bytes are no JSON object, or name no deployment."""
    UNKNOWN_DEPLOYMENT = "unknown_deployment"
    MISPLACED_REKEY = "misplaced_rekey"
    """A forwarded record whose home is not the task that received it."""
    TOO_LARGE = "too_large"
    UNPROCESSABLE = "unprocessable"
    """It broke the service, for a reason that no rule foresaw."""
    BAD_ASSOCIATION_ID = "bad_association_id"
    MISSING_ASSOCIATION_ID = "missing_association_id"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    BAD_PREDICTION = "bad_prediction"
    UNKNOWN_CLASS = "unknown_class"
    BAD_ACTUAL = "bad_actual"
    UNKNOWN_ACTUAL_CLASS = "unknown_actual_class"
    BAD_FEATURES = "bad_features"
    BAD_SERVICE = "bad_service"
    BAD_MODEL_ID = "bad_model_id"
    TOO_MANY_MODELS = "too_many_models"
    BAD_BATCH = "bad_batch"
    BATCH_LOCKED = "batch_locked"
    BATCH_DELETED = "batch_deleted"
    UNKNOWN_BATCH = "unknown_batch"
    NO_ASSOCIATION_ID = "no_association_id"
    OLDER_ACTUAL = "older_actual"
    NOT_KEPT = "not_kept"
    DELETED = "deleted"
    LATE = "late"
    """The actual came after its row's window, and the deployment takes none then."""


class Rejection(Exception):
    """A record that can not be used: `reason` is the public code, `detail` names the field and the rule."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DomainError(Exception):
    """A request that can not be met; the text says which field broke which rule."""


class NotFound(DomainError):
    """The object that was named does not exist."""


class Forbidden(DomainError):
    """Whoever asks may not do that."""


class Conflict(DomainError):
    """The object is not in a state that allows the request."""


class Unsuited(DomainError):
    """The object is of a kind that does not know such a request."""


class Invalid(DomainError):
    """Fields of the request break rules: a line for each, `field: rule`; or one text where no field is to blame."""

    @property
    def fields(self) -> dict[str, str]:
        """Rule by field, as far as the lines name one."""
        found = (_FIELD_AND_RULE.fullmatch(line) for line in str(self).splitlines())
        return {one["field"]: one["rule"] for one in found if one is not None}


class Exceeded(DomainError):
    """A limit of so much in an hour is reached; `retry_after` seconds later there is room again."""

    def __init__(self, text: str, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after
