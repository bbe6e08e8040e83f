"""What the first look shows while it runs: one view of the figures in, one picture out, made for 100 columns.

It draws and does nothing else: whoever measures the figures builds a `DemoView` and hands it to `render`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

GOOD: Final = "green"
BAD: Final = "bold red"
QUIET: Final = "dim"
UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthFigure:
    """One month of departures: what was predicted, what came true of it, and how good it was."""

    month: str
    predictions: int
    matched: int
    accuracy: float | None
    log_loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoView:
    """Every figure on the screen at one instant."""

    elapsed_s: float
    produced_predictions: int
    produced_actuals: int
    total: int
    events_per_s: float
    lag_records: int
    rows_open: int
    outcomes: Mapping[str, int]
    months: Sequence[MonthFigure]
    batches: int
    conservation_error: int
    broker: str
    urls: Mapping[str, str] = field(default_factory=dict)
    worker_restarts: int = 0

    @property
    def produced(self) -> int:
        return self.produced_predictions + self.produced_actuals

    @property
    def caught_up(self) -> bool:
        return 0 < self.total <= self.produced and self.lag_records == 0


def render(view: DemoView) -> RenderableType:
    """The whole screen."""
    figures = Table.grid(expand=True, padding=(0, 2))
    figures.add_column(ratio=43)
    figures.add_column(ratio=57)
    figures.add_row(Group(_stream(view), Text(), _outcomes(view)), _months(view))
    return Panel(
        Group(_progress(view), Text(), figures, _places(view)),
        title="[bold]Hindsight[/] · the flights of 2013",
        subtitle=f"[{QUIET}]{_state(view)}[/]",
        border_style="cyan",
        padding=(0, 2),
    )


def _state(view: DemoView) -> str:
    return "every event is counted · Ctrl-C ends it" if view.caught_up else "running · Ctrl-C ends it"


def _progress(view: DemoView) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 2))
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=max(view.total, 1), completed=view.produced, finished_style=GOOD)
    share = view.produced / max(view.total, 1)
    line.add_row(bar, f"[bold]{view.produced:,}[/] of {view.total:,} events · {share:.0%}")
    return line


def _stream(view: DemoView) -> RenderableType:
    table = _titled("Stream")
    table.add_row("elapsed", _clock(view.elapsed_s))
    table.add_row("predictions sent", f"{view.produced_predictions:,}")
    table.add_row("actuals sent", f"{view.produced_actuals:,}")
    table.add_row("events a second", f"[bold]{view.events_per_s:,.0f}[/]")
    table.add_row("behind", f"{view.lag_records:,}")
    table.add_row("rows waiting for truth", f"{view.rows_open:,}")
    table.add_row("daily batches", f"{view.batches:,}")
    table.add_row("records lost or doubled", _should_be_none(view.conservation_error))
    table.add_row("worker restarts", f"{view.worker_restarts:,}")
    return table


def _outcomes(view: DemoView) -> RenderableType:
    table = _titled("Outcomes")
    for outcome, count in sorted(view.outcomes.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(outcome, f"{count:,}")
    if not view.outcomes:
        table.add_row(Text("none yet", style=QUIET), "")
    return table


def _titled(title: str) -> Table:
    table = _plain(title)
    table.show_header = False
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    return table


def _plain(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, expand=True, pad_edge=False)


def _months(view: DemoView) -> RenderableType:
    table = _plain("Worth of the model, by month of departure")
    for heading in ("month", "predicted", "matched", "accuracy", "log loss"):
        table.add_column(heading, justify="left" if heading == "month" else "right", header_style=QUIET, no_wrap=True)
    for month in view.months:
        table.add_row(
            month.month,
            f"{month.predictions:,}",
            f"{month.matched:,}",
            _figure(month.accuracy, ".2%"),
            _figure(month.log_loss, ".4f"),
        )
    if not view.months:
        table.add_row(Text("none yet", style=QUIET))
    return table


def _places(view: DemoView) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style=QUIET, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("", "")
    table.add_row("broker", Text(view.broker))
    for name, url in view.urls.items():
        table.add_row(Text(name), Text(url, style=f"cyan link {url}"))
    return table


def _figure(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _should_be_none(count: int) -> Text:
    return Text(f"{count:,}", style=BAD if count else GOOD)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
