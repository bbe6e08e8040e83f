"""The statements of `queries.sql`, by name. A name that is not there fails where a module asks for it: at import.

A statement begins with `-- name: the_name`, then comment lines that say what it is for, then its text.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import NamedTuple

_NAME = re.compile(r"^-- name: (?P<name>[a-z][a-z0-9_]*)$", re.MULTILINE)
_HEADING = re.compile(r"^-- =.*$", re.MULTILINE)


class UnknownStatement(LookupError):
    """No statement of that name is in `queries.sql`."""


class Statement(NamedTuple):
    description: str
    sql: str


def statement(name: str) -> str:
    """Text of the statement of that name."""
    try:
        return statements()[name].sql
    except KeyError:
        raise UnknownStatement(f"queries.sql has no statement {name!r}") from None


@cache
def statements() -> Mapping[str, Statement]:
    """Every statement of `queries.sql`."""
    return parse(files(__package__).joinpath("queries.sql").read_text(encoding="utf-8"))


def parse(script: str) -> Mapping[str, Statement]:
    """The statements of a script, by name. Raises ValueError where the script breaks the rules above."""
    names = list(_NAME.finditer(script))
    ends = [following.start() for following in names[1:]] + [len(script)]
    found: dict[str, Statement] = {}
    for name, end in zip(names, ends, strict=True):
        if name["name"] in found:
            raise ValueError(f"statement {name['name']} is there twice")
        found[name["name"]] = _statement(name["name"], _HEADING.sub("", script[name.end() : end]))
    return MappingProxyType(found)


def _statement(name: str, text: str) -> Statement:
    lines = text.strip().splitlines()
    body = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    description = " ".join(line.removeprefix("--").strip() for line in lines[:body])
    sql = "\n".join(lines[body:]).strip()
    if not description:
        raise ValueError(f"statement {name} has no description")
    if not sql.endswith(";"):
        raise ValueError(f"statement {name} does not end with a semicolon")
    return Statement(description, sql)
