"""The life of a row as text for a terminal, in the order in which it happened."""

from collections.abc import Iterator, Mapping

from rich.text import Text

from service.rendering.plain import plain
from service.rendering.status_line import QUIET, style_of, value_text
from service.usecases.row_life import Came, RowLife, Step
from service.usecases.row_shares import AccuracyShare, Cell, TrafficShare
from service.usecases.status_stream import TOMBSTONE
from service.wire.held_row import ShownRow

_INDENT = 4
_LABEL = 11
Names = Mapping[str, str]
"""Of monitoring batches, by ID."""


def life_lines(life: RowLife) -> Iterator[Text]:
    """Line by line."""
    heading = Text()
    heading.append(f"{plain(life.deployment_id)}/{plain(life.row_id)}", "bold")
    heading.append(f"   task and partition {life.partition}", QUIET)
    yield heading
    phase = ""
    for number, step in enumerate(life.steps, 1):
        yield Text()
        yield from _step_lines(number, step, phase, life.batches)
        phase = step.row.phase if step.row else ""
    yield Text()
    yield from _standing_lines(life)
    for note in life.notes:
        yield Text(f"note: {plain(note)}", "yellow")


def _step_lines(number: int, step: Step, phase: str, names: Names) -> Iterator[Text]:
    """`phase` is that of the row before."""
    yield _headline(number, step)
    if step.came is not None:
        yield from _came_lines(step.came)
    elif step.status != TOMBSTONE:
        yield _line("record", "none: time alone brought it about")
    yield _line("published", _instant(step.published_at))
    if step.row is not None:
        changed = phase and phase != step.row.phase
        yield _line("row", f"{phase} -> {step.row.phase}" if changed else step.row.phase)
        if step.came is None or step.came.said is None:
            yield from _value_lines(step.row, names)
    if (was := value_text(step.previous_actual)) is not None:
        yield _line("instead of", was)
    if step.traffic is not None:
        yield _line("counted", _traffic_text(step.traffic, names))
    for share in step.accuracy:
        yield _line("accuracy", _accuracy_text(share, names))
    if step.note is not None:
        yield _line("note", step.note)


def _headline(number: int, step: Step) -> Text:
    line = Text(f"{number:>2}  ")
    line.append(step.status, f"bold {style_of(step.status)}")
    if step.reason is not None:
        line.append(f"  {plain(step.reason)}", "yellow")
    if step.revision is not None:
        line.append(f"  revision {step.revision}")
    seq = "" if step.seq is None else f", seq {step.seq}"
    version = "" if step.version is None else f", version {step.version}"
    line.append(f"  status {step.partition}/{step.offset}{seq}{version}", QUIET)
    return line


def _came_lines(came: Came) -> Iterator[Text]:
    source = came.source
    yield _line(came.kind, f"{plain(source.topic)} {source.partition}/{source.offset}")
    if (said := value_text(came.said)) is not None:
        yield _line("said", said)
    arrived = _instant(came.arrived_at) if came.arrived_at else "not known any more: its topic holds it no longer"
    yield _line("event time", _instant(came.event_at) if came.event_at else "not known")
    yield _line("arrived", arrived)


def _value_lines(row: ShownRow, names: Names) -> Iterator[Text]:
    if (predicted := value_text(row.prediction)) is not None:
        batch = f", batch {_batch_text(row.batch_id, names)}" if row.batch_id else ""
        at = _instant(row.predicted_at or "")
        yield _line("predicted", f"{predicted} at {at} by model {row.model_id}{batch}")
    if (actual := value_text(row.actual)) is not None:
        value = "withdrawn" if actual == "null" else actual
        yield _line("actual", f"{value} at {_instant(row.actual_at or '')}, label day {row.label_day}")


def _traffic_text(share: TrafficShare, names: Names) -> str:
    counted = "1 prediction and " if share.predictions else ""
    return f"{counted}1 {share.outcome} in the cell of {_cell_text(share.cell, names)}"


def _accuracy_text(share: AccuracyShare, names: Names) -> str:
    done = "added" if share.sign > 0 else "taken away"
    if share.actual_class is not None:
        what = f"actual {plain(share.actual_class)}, predicted {plain(share.predicted_class or '')}"
        what += "" if share.log_loss is None else f", log-loss {share.log_loss:.6f}"
    else:
        what = f"error {share.error}, absolute {share.absolute_error}, squared {share.squared_error}"
    return f"{done}: {what}; in the cell of {_cell_text(share.cell, names)}"


def _cell_text(cell: Cell, names: Names) -> str:
    parts = [f"hour {cell.hour[:13]}:00Z" if cell.hour else "an hour that is not known"]
    parts.append(f"model {cell.model_id}" if cell.model_id else "no model")
    parts.append(f"batch {_batch_text(cell.batch_id, names)}" if cell.batch_id else "no batch")
    if cell.label_day is not None:
        parts.append(f"label day {cell.label_day}")
    return ", ".join(parts)


def _batch_text(batch_id: str, names: Names) -> str:
    return plain(names[batch_id], 60) if batch_id in names else batch_id


def _standing_lines(life: RowLife) -> Iterator[Text]:
    version = "" if life.row_version is None else f" at version {life.row_version}"
    line = Text("As it stands", "bold")
    line.append(f"  by {life.row_from}{version}", QUIET)
    yield line
    if life.row is None:
        yield _line("row", "none is kept")
        return
    row = life.row
    yield _line("row", f"{row.phase}, revision {row.revision}")
    yield from _value_lines(row, life.batches)
    if row.batch_id in life.batches:
        yield _line("batch ID", row.batch_id or "")
    if row.due is not None:
        yield _line("due", _instant(row.due))
    yield _line("drop", _instant(row.drop or ""))
    yield Text("What comes", "bold")
    for expected in life.prospects:
        reached = " (the watermark has reached it)" if expected.reached else ""
        yield _line(_instant(expected.at), f"{expected.what}{reached}")
    stands = f"stands at {_instant(life.watermark)} by {life.watermark_from}" if life.watermark else "is not known"
    yield _line("measured on", f"the watermark of the deployment in this task, which {stands}")


def _instant(text: str) -> str:
    """Without zeros at its end."""
    return text.replace("000Z", "Z").replace(".000Z", "Z")


def _line(label: str, text: str) -> Text:
    line = Text(" " * _INDENT)
    line.append(f"{label:<{_LABEL}} ", QUIET)
    line.append(text)
    return line
