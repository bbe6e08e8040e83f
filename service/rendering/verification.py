"""What `verify` has found, as text: first what is wrong, then what could not be compared."""

from collections.abc import Iterator

from service.rendering.plain import plain
from service.usecases.cell_differences import Difference
from service.usecases.verification import Verified, VerifiedTask

MOST_SHOWN = 200
COLUMNS = ("task", "deployment", "model", "batch", "hour", "label day", "figure", "expected", "in Postgres")


def difference_rows(found: Verified) -> list[dict[str, str]]:
    """A row of the table for each difference, by `COLUMNS`; the first ones where there are many."""
    every = [difference for task in found.tasks for difference in task.differences]
    return [dict(zip(COLUMNS, _row(one), strict=True)) for one in every[:MOST_SHOWN]]


def summary_lines(found: Verified) -> Iterator[str]:
    """What is left to say after the table."""
    count = sum(len(task.differences) for task in found.tasks)
    if count > MOST_SHOWN:
        yield f"and {count - MOST_SHOWN:,} more; --json has them all"
    for task in found.tasks:
        for fault in task.faults:
            yield f"wrong, task {task.task}: {plain(fault)}"
    for note, tasks in _notes(found.tasks).items():
        yield f"not checked, {_named(tasks, len(found.tasks))}: {plain(note)}"
    statuses, cells = sum(task.statuses for task in found.tasks), sum(task.cells for task in found.tasks)
    faults = sum(len(task.faults) for task in found.tasks)
    read = f"{statuses:,} statuses and {cells:,} cells of {len(found.tasks)} tasks compared"
    partly = " as far as could be checked" if any(task.unchecked for task in found.tasks) else ""
    yield f"{read}: equal{partly}" if found.equal else f"{read}: {count:,} differences, {faults:,} faults"


def _row(one: Difference) -> tuple[str, ...]:
    expected = "none" if one.expected is None else str(one.expected)
    return (
        str(one.task),
        plain(one.deployment_id),
        plain(one.model_id or ""),
        plain(one.batch_id or ""),
        "" if one.hour is None else f"{one.hour[:16]}Z",
        one.label_day or "",
        plain(one.figure),
        f"at least {expected}" if one.at_least else expected,
        "none" if one.found is None else str(one.found),
    )


def _notes(tasks: list[VerifiedTask]) -> dict[str, list[int]]:
    notes: dict[str, list[int]] = {}
    for task in tasks:
        for note in task.unchecked:
            notes.setdefault(note, []).append(task.task)
    return notes


def _named(tasks: list[int], of: int) -> str:
    if len(tasks) == of > 1:
        return "all tasks"
    return f"task {tasks[0]}" if len(tasks) == 1 else f"tasks {', '.join(map(str, tasks))}"
