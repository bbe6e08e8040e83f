"""An independent judge of events: the `jsonschema` library with what its defaults leave open."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

_DIRECTORY: Final = Path(__file__).parents[2] / "schemas"
_FORMATS: Final = FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=(ValueError, OverflowError))
def _is_instant(text: object) -> bool:
    """What the pattern can not say: the day exists, and the instant lies in the years 1970 to 9999."""
    if not isinstance(text, str):
        return True
    at = datetime.fromisoformat(text.upper())
    return at.utcoffset() is not None and datetime(1970, 1, 1, tzinfo=UTC) <= at.astimezone(UTC)


def _pattern(_validator: Any, pattern: str, instance: object, _schema: Any) -> Iterator[ValidationError]:
    """As ECMA-262 has it: `$` is the end, not before a last line break."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_VALIDATOR: Final[Any] = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
SCHEMAS: Final = {
    kind: _VALIDATOR(json.loads((_DIRECTORY / f"{kind}.v1.json").read_text(encoding="utf-8")), format_checker=_FORMATS)
    for kind in ("prediction", "actual", "status")
}
