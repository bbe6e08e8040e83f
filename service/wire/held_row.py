"""One row as its store holds it, for people: what a worker answers when it is asked for a row.

`state` is the row exactly as it is packed; the other fields say the same in words.
"""

from datetime import date

import msgspec
from msgspec import Raw

from service.domain.row import RowPhase, RowState
from service.domain.watermark import NEVER
from service.wire.instants import rfc3339_clamped
from service.wire.status import Instant, Written

_UNIX_DAY = date(1970, 1, 1).toordinal()


class ShownRow(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """A row in words. What it has not is left out."""

    phase: str
    revision: int
    predicted_at: Instant | None = None
    actual_at: Instant | None = None
    due: Instant | None = None
    drop: Instant | None = None
    label_day: str | None = None
    prediction: Written = None
    actual: Written = None
    model_id: str | None = None
    batch_id: str | None = None


class HeldRow(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """What the store of a task holds under a row's name at one version, and how far time has come there."""

    deployment_id: str
    row_id: str
    task: int
    version: int
    watermark: Instant | None = None
    """None before both inputs were heard."""
    row: ShownRow | None = None
    state: bytes = b""
    """Empty where there is no row."""


encode_held = msgspec.json.Encoder().encode
decode_held = msgspec.json.Decoder(HeldRow).decode


def instant_text(at_us: int) -> str | None:
    """RFC 3339; None for the instant 0, which stands for none. Later than the year 9999 is its end."""
    return rfc3339_clamped(at_us) if at_us > 0 else None


def watermark_text(watermark: int) -> str | None:
    """RFC 3339; None before there is a watermark."""
    return None if watermark == NEVER else rfc3339_clamped(watermark)


def label_day_text(day: int) -> str:
    """ISO date of a label day."""
    return date.fromordinal(_UNIX_DAY + day).isoformat()


def shown_row(row: RowState) -> ShownRow:
    return ShownRow(
        phase=RowPhase(row.phase).name,
        revision=row.revision,
        predicted_at=instant_text(row.predicted_at) if row.prediction else None,
        actual_at=instant_text(row.actual_at) if row.actual else None,
        due=instant_text(row.due),
        drop=instant_text(row.drop),
        label_day=label_day_text(row.label_day) if row.actual else None,
        prediction=Raw(row.prediction) if row.prediction else None,
        actual=Raw(row.actual) if row.actual else None,
        model_id=row.model or None,
        batch_id=row.batch or None,
    )
