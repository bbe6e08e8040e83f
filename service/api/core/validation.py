"""What is wrong with fields, from pydantic's words to ours: by dotted path, every one at once."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

_OPENINGS: Final = ("Input should", "String should", "List should", "Value should", "Dictionary should")
_LONGEST: Final = 300


def fields_of(errors: Iterable[Mapping[str, Any]], *, skip: int = 0) -> dict[str, str]:
    """Rule by path, without the first `skip` steps of each path."""
    return {".".join(str(step) for step in error["loc"][skip:]): _rule(error) for error in errors}


def _rule(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "Is required."
    text = str(error["msg"])[:_LONGEST]
    for opening in _OPENINGS:
        if text.startswith(opening):
            text = "Must" + text.removeprefix(opening)
    return text if text.endswith(".") else text + "."
