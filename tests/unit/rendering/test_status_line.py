"""A status on one line of a terminal."""

import json
from typing import Any

from service.rendering.plain import plain
from service.rendering.status_line import status_line
from service.usecases.status_stream import Published, told_by


def line(row: str = "UA1", **fields: Any) -> str:
    value = {"deploymentId": "flights", "rowId": row, "status": "CORRECTED", "seq": 4, **fields}
    key = f"flights/{row}".encode()
    return status_line(told_by(Published(3, 4711, 1_767_261_420_123, key, json.dumps(value).encode(), ()))).plain


def test_what_a_line_holds() -> None:
    source = {"topic": "a", "partition": 3, "offset": 5}
    shown = line(revision=3, prediction={"late": 0.5}, actual="late", previousActual="on_time", source=source)
    assert shown == (
        '2026-01-01T09:57:00.123Z  3/4711    CORRECTED  flights/UA1  r3  predicted {"late": 0.5}  actual "late"'
        '  was "on_time"'
    )


def test_a_status_without_source_came_by_time_alone() -> None:
    assert line(status="UNMATCHED", reason="x").endswith("UNMATCHED  flights/UA1  x  by time alone")


def test_a_tombstone_is_shown_as_such() -> None:
    ended = told_by(Published(0, 1, 1_767_261_420_123, b"flights/UA1", None, ()))
    assert status_line(ended).plain == "2026-01-01T09:57:00.123Z  0/1       TOMBSTONE  flights/UA1"


def test_nothing_steers_the_terminal_or_breaks_the_line() -> None:
    assert plain("a\x1b[2Jb\nc\u202ed") == r"a\x1b[2Jb\nc\u202ed"
    assert plain("123456", 4) == "123…"
    assert "\x1b" not in line("x\x1b[31m") and "\n" not in line("x\ny")
