"""Where `up` shows what it does: one live table on a terminal, plain lines on standard error everywhere else.

Standard output holds what was asked for and nothing else, so that it can be piped.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import orjson
from rich.console import Console
from rich.live import Live
from rich.text import Text

from service.devstack.demo.screen import DemoView, render

EVERY_S: Final = 3.0
"""Between two plain lines."""
_REFRESHES: Final = 4

Show = Callable[[DemoView], None]


class Terminal:
    """`table`: standard output is a terminal that wants the live table."""

    def __init__(self, *, table: bool) -> None:
        self.table = table
        self._console = Console(stderr=not table)

    def say(self, line: str) -> None:
        """What happens now; above the table while there is one."""
        self._console.print(Text(line), soft_wrap=True)

    def tell(self, text: str) -> None:
        """A part of the result."""
        if self.table:
            self.say(text)
        else:
            _write(text)

    def tell_json(self, result: Mapping[str, Any]) -> None:
        _write(orjson.dumps(result).decode())

    @contextmanager
    def showing(self) -> Iterator[Show]:
        """Yields what shows a view: in place on a terminal, as a line now and then elsewhere."""
        if not self.table:
            yield self._now_and_then()
            return
        with Live(console=self._console, refresh_per_second=_REFRESHES) as live:
            yield lambda view: live.update(render(view))

    def _now_and_then(self) -> Show:
        clock = asyncio.get_running_loop().time
        due_at = 0.0

        def show(view: DemoView) -> None:
            nonlocal due_at
            if clock() >= due_at:
                self.say(plain(view))
                due_at = clock() + EVERY_S

        return show


def plain(view: DemoView) -> str:
    """The figures that matter, in one line."""
    outcomes = ", ".join(f"{name} {count:,}" for name, count in sorted(view.outcomes.items()))
    return (
        f"{view.elapsed_s:.0f} s: {view.produced:,} of {view.total:,} sent, {view.events_per_s:,.0f} events/s, "
        f"{view.lag_records:,} behind, {view.rows_open:,} open, lost or doubled {view.conservation_error:,}"
        f"{'; ' + outcomes if outcomes else ''}"
    )


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
