"""What one task has at rest, against what it must have by the oracle: no cell and no row is missing or left over."""

from collections.abc import Mapping
from fractions import Fraction

from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.ports import AccuracyCellKey, PredictionCellKey
from tests.simulation import facts
from tests.simulation.facts import WORDS, Violation, facts_of
from tests.simulation.formats import row_in


def check_cells(
    number: int,
    task: facts.Task,
    traffic: Mapping[PredictionCellKey, Traffic],
    accuracy: Mapping[AccuracyCellKey, Accuracy],
) -> None:
    """Every cell of the task."""
    for key in traffic.keys() | {PredictionCellKey(*one, "") for one in task.traffic}:
        same_traffic(number, key, traffic.get(key, Traffic()), task.traffic.get(key[:4], facts.Traffic()))
    for label in accuracy.keys() | {AccuracyCellKey(*one[:4], "", one[4]) for one in task.accuracy}:
        mine = task.accuracy.get(labelled(label), facts.Accuracy())
        same_accuracy(number, label, accuracy.get(label, Accuracy()), mine)


def check_rows(number: int, task: facts.Task, states: Mapping[bytes, bytes]) -> None:
    """Every row of its store."""
    found = {key.decode(): row_in(state) for key, state in states.items()}
    must = {"/".join(key): facts_of(row) for key, row in task.rows.items()}
    if found != must:
        keys = [key for key in found.keys() | must.keys() if found.get(key) != must.get(key)]
        raise Violation(f"task {number}: the store differs in {keys}")


def labelled(key: AccuracyCellKey) -> tuple[str, str, str, int, int]:
    return (*key[:4], key.label_day)


def same_traffic(task: int, key: PredictionCellKey, cell: Traffic, must: facts.Traffic) -> None:
    counts = {WORDS[code]: count for code, count in enumerate(cell.outcomes.tolist()) if count}
    features = {slot: count for slot, count in enumerate(cell.features.tolist()) if count}
    found = (cell.predictions, cell.first_at, cell.last_at, cell.last_due, counts, features)
    wanted = (must.predictions, must.first_at, must.last_at, must.last_due, +must.outcomes, +must.features)
    if found != wanted:
        raise Violation(f"task {task}: cell {key} is {found}, not {wanted}")


def same_accuracy(task: int, key: AccuracyCellKey, cell: Accuracy, must: facts.Accuracy) -> None:
    confusion = {pair: rows for pair, rows in must.confusion.items() if rows}
    sums = [int(Fraction(value) * 10**18) for value in (must.error, must.squared_error)]
    found = (cell.matched, cell.error, cell.squared_error, cell.log_loss_rows, cell.confusion)
    wanted = (must.matched, *sums, must.log_loss_rows, confusion)
    if found != wanted or abs(cell.log_loss / 1e18 - must.log_loss) > 1e-9:
        raise Violation(f"task {task}: cell {key} is {found}, not {wanted}")
