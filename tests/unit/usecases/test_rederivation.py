"""A few statuses, counted again by what they mean."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from service.adapters.memory import MemoryStores
from service.domain.errors import Invalid
from service.domain.row import RowPhase, RowState, encode_row
from service.ports import AccuracyCellKey, PredictionCellKey
from service.usecases.rederivation import Missing, Rederivation, Rules
from service.usecases.status_stream import Published
from service.wire.instants import rfc3339
from tests.builders import MODEL_ID, deployment

AT = 1_767_262_620_000_000
"""2026-01-01T10:17Z."""
HOUR = AT - AT % 3_600_000_000
CELL = PredictionCellKey("flights", MODEL_ID, "", HOUR, "")
LABELLED = AccuracyCellKey("flights", MODEL_ID, "", HOUR, "", 20_455)
OPEN = RowState(RowPhase.OPEN, 1, AT, 0, AT + 1, AT + 2, 1, 0, b'{"late":0.83}', b"", MODEL_ID, "")
MATCHED = RowState(RowPhase.MATCHED, 2, AT, AT, AT + 1, AT + 2, 1, 20_455, b'{"late":0.83}', b'"late"', MODEL_ID, "")


def rederivation(until: int = 100, **options: Any) -> Rederivation:
    rules = Rules(prefix="m", deployments={"flights": deployment()}, until=until)
    return Rederivation(MemoryStores().open(0), rules, **options)


def status(seq: int, word: str, row: RowState | None, topic: str | None, *, version: int = 1, **more: Any) -> Published:
    fields: dict[str, Any] = {"deploymentId": "flights", "rowId": "a", "status": word, "seq": seq}
    if row is not None:
        fields |= {"revision": row.revision, "modelId": row.model, "predictedAt": rfc3339(row.predicted_at)}
        fields |= {"prediction": json.loads(row.prediction)}
    if topic is not None:
        fields |= {"source": {"topic": f"m.{topic}.v1", "partition": 0, "offset": seq}}
    state = b"" if row is None else encode_row(row)
    headers = [("hindsight-state", state), ("hindsight-version", b"%d" % version)]
    return Published(0, seq, 1_000_000 + seq, b"flights/a", json.dumps(fields | more).encode(), headers)


def tombstone(version: int) -> Published:
    headers = [("hindsight-state", b""), ("hindsight-version", b"%d" % version)]
    return Published(0, 99, 1_000_000, b"flights/a", None, headers)


LIFE: Sequence[Published] = (
    status(0, "ACCEPTED", OPEN, "predictions"),
    status(1, "MATCHED", MATCHED, "actuals"),
    tombstone(2),
    status(2, "ACCEPTED", OPEN, "predictions", version=2),
)


def test_a_life_and_the_next() -> None:
    derived = rederivation()
    derived.take(LIFE)
    tally = derived.cells[CELL]
    assert (tally.predictions, tally.first_at, tally.last_at, tally.last_due) == (2, AT, AT, AT + 1)
    assert tally.outcomes == {"ACCEPTED": 2, "MATCHED": 1, "FORGOTTEN": 1}
    assert (derived.accuracy[LABELLED].matched, derived.accuracy[LABELLED].confusion) == (1, {1025: 1})
    assert derived.received == {("flights", "predictions"): 2, ("flights", "actuals"): 1}


@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_a_version_that_was_published_twice_counts_once(chunk: int) -> None:
    derived = rederivation()
    stream = [*LIFE[:2], *LIFE[:2], *LIFE[2:], *LIFE[2:]]
    for start in range(0, len(stream), chunk):
        derived.take(stream[start : start + chunk])
    assert derived.cells[CELL].outcomes == {"ACCEPTED": 2, "MATCHED": 1, "FORGOTTEN": 1}
    assert derived.statuses == 3 and derived.missing == []


def test_what_is_beyond_the_version_waits() -> None:
    derived = rederivation(until=1)
    derived.take(LIFE)
    assert derived.ahead == (2, 99) and derived.statuses == 2
    derived.close(2)
    assert derived.missing == []


def test_gaps() -> None:
    derived = rederivation()
    derived.take([LIFE[1], status(4, "DUPLICATE", MATCHED, "actuals")])
    derived.close(7)
    assert derived.missing == [
        Missing(0, 0, None, 1_000_001), Missing(2, 3, 1_000_001, 1_000_004), Missing(5, 6, 1_000_004, None),
    ]  # fmt: skip
    assert derived.accuracy[LABELLED].matched == 1
    for seq in range(8, 5_008, 2):
        derived.take([status(seq, "DUPLICATE", MATCHED, "actuals")])
    assert len(derived.missing) == 1_000
    assert sum(gap.statuses for gap in derived.missing) == 1 + 2 + 2 + 3 + 2_499
    late = rederivation(first_seq=None)
    late.take([LIFE[1]])
    assert late.missing == []


def test_a_correction_moves_between_label_days() -> None:
    derived = rederivation()
    row = replace(MATCHED, revision=3, label_day=20_456, actual=b'"on_time"')
    derived.take([*LIFE[:2], status(2, "CORRECTED", row, "actuals")])
    later = LABELLED._replace(label_day=20_456)
    assert {key: (one.matched, one.confusion) for key, one in derived.accuracy.items()} == {
        LABELLED: (0, {}), later: (1, {1: 1}),
    }  # fmt: skip
    assert derived.accuracy[LABELLED].log_loss == 0


def test_what_counts_nowhere() -> None:
    derived = rederivation()
    derived.take([status(0, "INVALID", None, "predictions"), status(1, "MATCHED", MATCHED, None, deploymentId="x")])
    assert derived.nowhere == {("flights", "INVALID"): 1}
    with pytest.raises(Invalid, match="offset 2 of the status topic: no status of this version: 'NEW'"):
        derived.take([status(2, "NEW", None, None)])
