"""What other versions of the program have written and will read: changed here, it is a migration."""

import numpy as np

from service.domain.deployment import MAX_CLASSES
from service.domain.join_window import Disposition
from service.domain.outcomes import ENDS, REJECTIONS, Outcome
from service.domain.row import RowPhase, RowState, decode_row, encode_row
from service.domain.stats.accuracy import PAIR_STRIDE
from service.domain.stats.moments import QUANTUM_DIGITS
from service.domain.stats.traffic import OUTCOMES, Traffic


def test_numbers_of_outcomes_are_places_in_the_stored_counts() -> None:
    assert [(outcome.value, outcome.name) for outcome in Outcome] == [
        (0, "ACCEPTED"),
        (1, "MATCHED"),
        (2, "EARLY"),
        (3, "DUPLICATE"),
        (4, "CONFLICT"),
        (5, "CORRECTED"),
        (6, "WITHDRAWN"),
        (7, "UNMATCHED"),
        (8, "LATE_CORRECTED"),
        (9, "LATE_RECORDED"),
        (10, "LATE_REJECTED"),
        (11, "ORPHAN"),
        (12, "INVALID"),
        (13, "MISSING_ASSOCIATION_ID"),
        (14, "BATCH_LOCKED"),
        (15, "BATCH_DELETED"),
        (16, "UNKNOWN_BATCH"),
        (17, "EXPIRED"),
        (18, "FORGOTTEN"),
    ]


def test_an_outcome_ends_a_row_or_refuses_a_record_or_neither() -> None:
    assert {outcome.name for outcome in ENDS} == {"EXPIRED", "FORGOTTEN"}
    assert {outcome.name for outcome in REJECTIONS} == {
        "LATE_REJECTED",
        "INVALID",
        "MISSING_ASSOCIATION_ID",
        "BATCH_LOCKED",
        "BATCH_DELETED",
        "UNKNOWN_BATCH",
    }


def test_numbers_of_phases_are_in_every_stored_row() -> None:
    assert [(phase.value, phase.name) for phase in RowPhase] == [
        (0, "ABSENT"),
        (1, "PARKED"),
        (2, "PARKED_WITHDRAWN"),
        (3, "OPEN"),
        (4, "WITHDRAWN"),
        (5, "MATCHED"),
        (6, "UNMATCHED"),
        (7, "UNMATCHED_WITHDRAWN"),
    ]


def test_dispositions_are_stored_by_name() -> None:
    assert {disposition.name for disposition in Disposition} == {
        "PREDICTION_DUPLICATE",
        "PREDICTION_CONFLICT",
        "PREDICTION_REJECTED",
        "PREDICTION_UNIDENTIFIED",
        "PREDICTION_EXPIRED",
        "PREDICTION_SETTLED",
        "ACTUAL_DUPLICATE",
        "ACTUAL_SUPERSEDED",
        "ACTUAL_WITHDRAWN",
        "ACTUAL_ORPHANED",
        "ACTUAL_REJECTED",
        "ACTUAL_SETTLED",
        "ACTUAL_LATE_RECORDED",
    }


def test_sums_and_confusion_pairs_mean_what_they_meant() -> None:
    """Quanta of 1e-18; actual index times 1024 plus predicted index, which no two pairs of classes share."""
    assert (QUANTUM_DIGITS, PAIR_STRIDE) == (18, 1024)
    assert MAX_CLASSES <= PAIR_STRIDE


def test_a_cell_begins_with_nothing() -> None:
    cell = Traffic()
    assert (cell.predictions, cell.outcomes.tolist(), cell.features.tolist()) == (0, [], [])
    assert cell.outcomes.dtype == cell.features.dtype == np.int64
    assert OUTCOMES == 19


def test_a_row_as_it_is_stored() -> None:
    """Little-endian: format, phase, lengths of model, batch (bytes each) and actual (4), revision, label day (4 each);
    predicted at, actual at, due, drop, content (8 each); then the texts of model, batch, prediction, actual."""
    row = RowState(RowPhase.MATCHED, 3, 1, 2, 4, 6, 2**64 - 1, 8, b"0.5", b'"late"', "mo", "b")
    head = "02 05 02 01 06000000 03000000 08000000 0100000000000000 0200000000000000 0400000000000000 0600000000000000"
    stored = bytes.fromhex(head) + b"\xff" * 8 + b'mob0.5"late"'
    assert encode_row(row) == stored
    assert decode_row(stored) == row
