# ruff: noqa: E501
"""The join's transition table, printed: what a row in a phase makes of an event.

A change of the table shows here as a change of this page.
"""

from service.domain.join_window import TRANSITIONS
from service.domain.row import RowPhase

TABLE = """
phase               event              status         phase after         reason       disposed of
------------------- ------------------ -------------- ------------------- ------------ ----------------------------------
ABSENT              PREDICTION         ACCEPTED       OPEN                -            -
ABSENT              ACTUAL             EARLY          PARKED              -            -
ABSENT              WITHDRAWAL         EARLY          PARKED_WITHDRAWN    -            -

PARKED              PREDICTION         MATCHED        MATCHED             -            -
PARKED              ACTUAL             CORRECTED      PARKED              -            ACTUAL_SUPERSEDED
PARKED              ACTUAL_SAME        DUPLICATE      PARKED              -            ACTUAL_DUPLICATE
PARKED              ACTUAL_LESSER      DUPLICATE      PARKED              older_actual ACTUAL_DUPLICATE
PARKED              WITHDRAWAL         WITHDRAWN      PARKED_WITHDRAWN    -            ACTUAL_SUPERSEDED
PARKED              WITHDRAWAL_LESSER  DUPLICATE      PARKED              older_actual ACTUAL_DUPLICATE

PARKED_WITHDRAWN    PREDICTION         ACCEPTED       WITHDRAWN           -            ACTUAL_WITHDRAWN
PARKED_WITHDRAWN    ACTUAL             EARLY          PARKED              -            ACTUAL_SUPERSEDED
PARKED_WITHDRAWN    ACTUAL_LESSER      DUPLICATE      PARKED_WITHDRAWN    older_actual ACTUAL_DUPLICATE
PARKED_WITHDRAWN    WITHDRAWAL_SAME    DUPLICATE      PARKED_WITHDRAWN    -            ACTUAL_DUPLICATE

OPEN                PREDICTION_AGAIN   DUPLICATE      OPEN                -            PREDICTION_DUPLICATE
OPEN                PREDICTION_CHANGED CONFLICT       OPEN                -            PREDICTION_CONFLICT
OPEN                ACTUAL             MATCHED        MATCHED             -            -
OPEN                WITHDRAWAL         WITHDRAWN      WITHDRAWN           -            ACTUAL_WITHDRAWN

WITHDRAWN           PREDICTION_AGAIN   DUPLICATE      WITHDRAWN           -            PREDICTION_DUPLICATE
WITHDRAWN           PREDICTION_CHANGED CONFLICT       WITHDRAWN           -            PREDICTION_CONFLICT
WITHDRAWN           ACTUAL             MATCHED        MATCHED             -            -
WITHDRAWN           ACTUAL_LESSER      DUPLICATE      WITHDRAWN           older_actual ACTUAL_DUPLICATE
WITHDRAWN           WITHDRAWAL_SAME    DUPLICATE      WITHDRAWN           -            ACTUAL_DUPLICATE

MATCHED             PREDICTION_AGAIN   DUPLICATE      MATCHED             -            PREDICTION_DUPLICATE
MATCHED             PREDICTION_CHANGED CONFLICT       MATCHED             -            PREDICTION_CONFLICT
MATCHED             ACTUAL             CORRECTED      MATCHED             -            ACTUAL_SUPERSEDED
MATCHED             ACTUAL_SAME        DUPLICATE      MATCHED             -            ACTUAL_DUPLICATE
MATCHED             ACTUAL_LESSER      DUPLICATE      MATCHED             older_actual ACTUAL_DUPLICATE
MATCHED             WITHDRAWAL         WITHDRAWN      WITHDRAWN           -            ACTUAL_SUPERSEDED+ACTUAL_WITHDRAWN
MATCHED             WITHDRAWAL_LESSER  DUPLICATE      MATCHED             older_actual ACTUAL_DUPLICATE
MATCHED             LATE_ACTUAL        LATE_CORRECTED MATCHED             -            ACTUAL_SUPERSEDED
MATCHED             LATE_WITHDRAWAL    WITHDRAWN      WITHDRAWN           -            ACTUAL_SUPERSEDED+ACTUAL_WITHDRAWN

UNMATCHED           PREDICTION_AGAIN   DUPLICATE      UNMATCHED           -            PREDICTION_DUPLICATE
UNMATCHED           PREDICTION_CHANGED CONFLICT       UNMATCHED           -            PREDICTION_CONFLICT
UNMATCHED           LATE_ACTUAL        LATE_CORRECTED MATCHED             -            -
UNMATCHED           LATE_WITHDRAWAL    WITHDRAWN      UNMATCHED_WITHDRAWN -            ACTUAL_WITHDRAWN

UNMATCHED_WITHDRAWN PREDICTION_AGAIN   DUPLICATE      UNMATCHED_WITHDRAWN -            PREDICTION_DUPLICATE
UNMATCHED_WITHDRAWN PREDICTION_CHANGED CONFLICT       UNMATCHED_WITHDRAWN -            PREDICTION_CONFLICT
UNMATCHED_WITHDRAWN LATE_ACTUAL        LATE_CORRECTED MATCHED             -            -
UNMATCHED_WITHDRAWN ACTUAL_LESSER      DUPLICATE      UNMATCHED_WITHDRAWN older_actual ACTUAL_DUPLICATE
UNMATCHED_WITHDRAWN WITHDRAWAL_SAME    DUPLICATE      UNMATCHED_WITHDRAWN -            ACTUAL_DUPLICATE

OPEN                DUE                UNMATCHED      UNMATCHED           -            -
WITHDRAWN           DUE                UNMATCHED      UNMATCHED_WITHDRAWN -            -
UNMATCHED           DROP               EXPIRED        ABSENT              -            PREDICTION_EXPIRED
UNMATCHED_WITHDRAWN DROP               EXPIRED        ABSENT              -            PREDICTION_EXPIRED
MATCHED             DROP               FORGOTTEN      ABSENT              -            PREDICTION_SETTLED+ACTUAL_SETTLED
PARKED              DROP               ORPHAN         ABSENT              -            ACTUAL_ORPHANED
PARKED_WITHDRAWN    DROP               ORPHAN         ABSENT              -            ACTUAL_ORPHANED
"""


def printed() -> list[list[str]]:
    return [
        [
            phase.name,
            event.name,
            transition.outcome.name,
            RowPhase(transition.phase).name,
            transition.reason or "-",
            "+".join(disposition.name for disposition in transition.disposed) or "-",
        ]
        for (phase, event), transition in TRANSITIONS.items()
    ]


def test_the_table_is_as_printed() -> None:
    _, _, *rows = (line.split() for line in TABLE.splitlines() if line)
    assert sorted(printed()) == sorted(rows)
