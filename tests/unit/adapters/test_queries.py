"""The loader of named statements."""

import pytest

from service.adapters.postgres.queries import UnknownStatement, parse, statement, statements

SCRIPT = """
-- Words at the top.

-- ============ a heading

-- name: one
-- What it is for,
-- in two lines.
SELECT 1;

-- ============ another heading

-- name: two
-- Something else.
SELECT 2 -- with a remark
     , 3;
"""


def test_parses_names_descriptions_and_texts() -> None:
    found = parse(SCRIPT)
    assert found["one"] == ("What it is for, in two lines.", "SELECT 1;")
    assert found["two"].sql == "SELECT 2 -- with a remark\n     , 3;"


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("-- name: a\nSELECT 1;", "no description"),
        ("-- name: a\n-- It is.\nSELECT 1", "semicolon"),
        ("-- name: a\n-- It is.\n", "semicolon"),
        ("-- name: a\n-- It is.\nSELECT 1;\n-- name: a\n-- It is.\nSELECT 1;", "twice"),
    ],
)
def test_refuses_what_breaks_the_rules(script: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(script)


def test_the_package_has_statements_and_no_others() -> None:
    assert statement("lock_exclusive").startswith("SELECT pg_advisory_xact_lock")
    assert len(statements()) > 1
    with pytest.raises(UnknownStatement, match="no statement 'nothing'"):
        statement("nothing")
