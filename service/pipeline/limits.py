"""How much of everything one task may take on."""

from dataclasses import dataclass

from service.domain.records import Codec
from service.pipeline.retention import RetentionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes of one task's work."""

    max_records: int
    slot_bytes: int
    cells: int
    prefix: str
    retention: RetentionSpec = RetentionSpec()
    codec: Codec = Codec.ZSTD
    """Of what is published."""
    flood: int = 5_000
    """A longer run of records that do not decode pauses the task."""
