"""One status as one line: time, place, status, row, revision, what was predicted and what came true, and the reason."""

from typing import Final

from msgspec import Raw
from rich.text import Text

from service.domain.outcomes import REJECTIONS, Outcome
from service.rendering.plain import plain
from service.usecases.status_stream import TOMBSTONE, Gap, Told

QUIET: Final = "dim"
_VALUE_WIDTH: Final = 60
_WORD_WIDTH: Final = 9
_STYLES: Final = {
    Outcome.MATCHED.name: "green",
    Outcome.ACCEPTED.name: "cyan",
    Outcome.EARLY.name: "blue",
    Outcome.DUPLICATE.name: QUIET,
    Outcome.UNMATCHED.name: "magenta",
    Outcome.ORPHAN.name: "magenta",
    Outcome.EXPIRED.name: "magenta",
    TOMBSTONE: QUIET,
    **{outcome.name: "red" for outcome in REJECTIONS},
}


def style_of(word: str) -> str:
    """Of a status; yellow where numbers were changed afterwards."""
    return _STYLES.get(word, "yellow")


def status_line(told: Told) -> Text:
    published, status = told.published, told.status
    line = Text(no_wrap=True, overflow="ignore")
    line.append(f"{published.at[:23]}Z  ", QUIET)
    line.append(f"{f'{published.partition}/{published.offset}':<8}  ", QUIET)
    line.append(f"{told.word:<{_WORD_WIDTH}}", style_of(told.word))
    line.append(f"  {plain(told.deployment_id)}/{plain(told.row_id)}")
    if status is None:
        return line
    if status.revision is not None:
        line.append(f"  r{status.revision}", QUIET)
    for name, value in (("predicted", status.prediction), ("actual", status.actual), ("was", status.previous_actual)):
        if (text := value_text(value)) is not None:
            line.append(f"  {name} ", QUIET)
            line.append(text)
    if status.reason is not None:
        line.append(f"  {plain(status.reason)}", "yellow")
    if status.source is None:
        line.append("  by time alone", QUIET)
    return line


def gap_line(gap: Gap) -> Text:
    return Text(f"warning: {gap}", "bold yellow", no_wrap=True, overflow="ignore")


def value_text(value: Raw | None, width: int | None = _VALUE_WIDTH) -> str | None:
    """JSON as it was sent, None where there is none."""
    raw = b"" if value is None else bytes(value)
    return plain(raw.decode(errors="replace"), width) if raw else None
