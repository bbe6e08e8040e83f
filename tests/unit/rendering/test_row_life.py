"""The life of a row as people read it."""

from service.domain.monitoring_batch import MonitoringBatch
from service.domain.row import RowPhase
from service.rendering.row_life import life_lines
from tests.builders import actual, prediction
from tests.unit.usecases.test_row_life import BATCH, MATCHED, OPEN, ROW, Life, held, moved

LATE = "an actual is late: it counts, and changes past numbers"
CELL = "hour 2026-01-01T10:00Z, model model-1, batch 2026-01-01"
A_MATCHED_ROW = """\
flights/UA1545   task and partition 3

 1  ACCEPTED  revision 1  status 3/100, seq 0, version 10
    prediction  m.predictions.v1 3/100
    said        {"late":0.83,"on_time":0.17}
    event time  2026-01-01T10:17:00Z
    arrived     2026-01-01T13:30:00.100Z
    published   2026-01-03T09:00:00.100Z
    row         OPEN
    counted     1 prediction and 1 ACCEPTED in the cell of CELL

 2  MATCHED  revision 2  status 3/101, seq 1, version 11
    actual      m.actuals.v1 3/101
    said        "late"
    event time  2026-01-01T13:30:00Z
    arrived     2026-01-01T13:30:00.101Z
    published   2026-01-03T09:00:00.101Z
    row         OPEN -> MATCHED
    counted     1 MATCHED in the cell of CELL
    accuracy    added: actual late, predicted late, log-loss 0.186330; in the cell of CELL, label day 2026-01-02

 3  DUPLICATE  older_actual  revision 2  status 3/102, seq 2, version 12
    actual      m.actuals.v1 3/102
    said        "on_time"
    event time  2026-01-01T13:30:00Z
    arrived     2026-01-01T13:30:00.102Z
    published   2026-01-03T09:00:00.102Z
    row         MATCHED
    counted     1 DUPLICATE in the cell of CELL

As it stands  by the last status, m.status.v1 partition 3 at version 12
    row         MATCHED, revision 2
    predicted   {"late":0.83,"on_time":0.17} at 2026-01-01T10:17:00Z by model model-1, batch 2026-01-01
    actual      "late" at 2026-01-01T13:30:00Z, label day 2026-01-02
    batch ID    0000000000000000000000b1
    due         2026-01-31T10:17:00Z
    drop        2026-04-01T10:17:00Z
What comes
    2026-01-31T10:17:00Z until then another actual may correct it; after that LATE
    2026-04-01T10:17:00Z is forgotten; what it counted for stays
    measured on the watermark of the deployment in this task, which stands at 2026-01-02T00:00:00Z by the ledger
"""


def shown(life: Life) -> list[str]:
    batch = MonitoringBatch(deployment_id="flights", id=BATCH, version=1, name="2026-01-01")
    told = life.told(batches={"b": batch}, watermark="2026-01-02T00:00:00.000000Z")
    return [line.plain for line in life_lines(told)]


def test_a_matched_row() -> None:
    story = Life().add("ACCEPTED", OPEN, prediction(ROW)).add("MATCHED", MATCHED, actual(ROW))
    story.add("DUPLICATE", MATCHED, actual(ROW, "on_time"), reason="older_actual")
    assert shown(story) == A_MATCHED_ROW.replace("CELL", CELL).replace("LATE", LATE).splitlines()


def test_what_time_alone_brings_about() -> None:
    story = Life().add("ACCEPTED", OPEN, prediction(ROW)).add("UNMATCHED", moved(OPEN, RowPhase.UNMATCHED)).end()
    lines = shown(story)
    at = next(i for i, line in enumerate(lines) if "UNMATCHED" in line)
    assert lines[at + 1 : at + 4] == [
        "    record      none: time alone brought it about",
        "    published   2026-01-03T09:00:00.101Z",
        "    row         OPEN -> UNMATCHED",
    ]
    assert f"    counted     1 UNMATCHED in the cell of {CELL}" in lines
    assert f"    counted     1 EXPIRED in the cell of {CELL}" in lines
    assert lines[-4:] == [
        "    note        the row is forgotten; a record of its ID opens a new one",
        "",
        "As it stands  by the last status, m.status.v1 partition 3",
        "    row         none is kept",
    ]


def test_a_withdrawn_actual_and_what_was_replaced() -> None:
    gone = held(MATCHED, RowPhase.WITHDRAWN, b"null", hours=1)
    story = Life().add("MATCHED", MATCHED, actual(ROW)).add("WITHDRAWN", gone, actual(ROW, None), previousActual="late")
    lines = shown(story)
    assert '    instead of  "late"' in lines
    assert "    actual      withdrawn at 2026-01-01T14:30:00Z, label day 2026-01-02" in lines
    assert any(line.startswith("    accuracy    taken away: actual late, predicted late") for line in lines)
    assert lines[-1] == "note: earlier statuses of the row are not in the topic any more"
