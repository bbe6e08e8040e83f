"""Text that came from outside, made fit for a terminal."""

from typing import Final

CUT: Final = "…"


def plain(text: str, width: int | None = None) -> str:
    """On one line, without anything that would steer the terminal, and at most so wide."""
    shown = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return shown if width is None or len(shown) <= width else shown[: width - 1] + CUT
