"""The row status, `monitoring.status.v1`, and the headers that make that topic the changelog of the state store."""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

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


class Source(msgspec.Struct, gc=False, array_like=False):
    """Where the record first came in, before any forwarding."""

    topic: str
    partition: int
    offset: int


class RowStatus(msgspec.Struct, gc=False, rename="camel", omit_defaults=True):
    """What became of one record, and the row as it stands after it. Fields that are null are left out."""

    deployment_id: str
    row_id: str
    status: str
    seq: int
    association_id: str | None = None
    revision: int | None = None
    model_id: str | None = None
    batch_id: str | None = None
    predicted_at: Instant | None = None
    actual_at: Instant | None = None
    prediction: Raw | None = None
    actual: Raw | None = None
    previous_actual: Raw | None = None
    reason: str | None = None
    job_id: str | None = None
    row_number: int | None = None
    source: Source | None = None


encode_status = msgspec.json.Encoder().encode
decode_status = msgspec.json.Decoder(RowStatus).decode
