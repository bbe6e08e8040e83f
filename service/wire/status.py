"""The row status, `monitoring.status.v1`, and the headers that make that topic the changelog of the state store."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Raw

from service.domain.errors import Reason
from service.domain.outcomes import ENDS, Outcome

HEADER_STATE = "hindsight-state"
HEADER_VERSION = "hindsight-version"
HEADER_SOURCE = "hindsight-source"
HEADER_ORIGIN = "hindsight-origin"
HEADER_SUBMISSION = "hindsight-submission-id"
HEADER_JOB = "hindsight-job-id"
HEADER_ROW_NUMBER = "hindsight-row-number"
HEADER_SKIP_DRIFT = "hindsight-skip-drift-tracking"
HEADER_TRACE = "traceparent"

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Count = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
StatusWord = Annotated[
    str, Meta(extra_json_schema={"enum": [outcome.name for outcome in Outcome if outcome not in ENDS]})
]
ReasonWord = Annotated[str, Meta(examples=[str(reason) for reason in Reason])]
if TYPE_CHECKING:
    Written = Raw | None
else:
    Written = Raw  # of `Raw | None` msgspec decodes null only


class Source(msgspec.Struct, gc=False, array_like=False):
    """Where the record first came in, before any forwarding."""

    topic: str
    """Full name of the input topic."""
    partition: Count
    """Partition of that topic."""
    offset: Count
    """Offset in that partition."""


class RowStatus(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    """What became of one record, and the row as it stands after it. Fields that are null are left out."""

    deployment_id: str
    """The deployment of the row."""
    row_id: str
    """Names the row within its deployment: the association ID where there is one, else made of the job, submission or
    record that it came with."""
    status: StatusWord
    """What happened to the record."""
    seq: Count
    """Counts the statuses of this partition from 0 on without gaps: one that you have seen is a repetition to drop, a
    gap (within the compaction lag) a loss. A tombstone has none."""
    association_id: str | None = None
    """The association ID in its canonical form."""
    revision: Count | None = None
    """Counts the changes of the row."""
    model_id: str | None = None
    """The model that made the prediction."""
    batch_id: str | None = None
    """The monitoring batch in which the prediction counts."""
    predicted_at: Instant | None = None
    """When the prediction was made; UTC, with microseconds."""
    actual_at: Instant | None = None
    """The timestamp of the actual that is held; UTC, with microseconds."""
    prediction: Written = None
    """The prediction as it was sent."""
    actual: Written = None
    """The actual that is held: a number for a regression, else the class label as text; null where it was withdrawn."""
    previous_actual: Written = None
    """The actual that this record replaced."""
    reason: ReasonWord | None = None
    """Why the record was refused, or why the status is not the plain one. Further words may come."""
    job_id: str | None = None
    """The job that brought the record."""
    row_number: Count | None = None
    """Number of the row within its job or submission."""
    source: Source | None = None
    """Where the record first came in. Left out where time alone brought the status about."""


encode_status = msgspec.json.Encoder().encode
decode_status = msgspec.json.Decoder(RowStatus).decode
