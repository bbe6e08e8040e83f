"""What is wrong with a task as a whole: ledger and topics do not fit together, or statuses are lost."""

from typing import Final

from service.domain.outcomes import ENDS, Outcome
from service.usecases.cell_differences import Snapshot
from service.usecases.rederivation import Missing, Rederivation

COMPACTION_LAG_MS: Final = 24 * 3_600_000
"""The least `min.compaction.lag.ms` with which a worker starts: what is younger can not have been compacted."""


def restored(published: int, version: int) -> str:
    return (
        f"version {published} was published, but the ledger in the database stands at version {version}: the database "
        "was restored from an older copy. No worker starts on it. What to do: README, 'A database from an older backup'"
    )


def log_faults(
    snapshot: Snapshot, derived: Rederivation, out: int | None, written: int, ended: bool, now_ms: int
) -> list[str]:
    faults = []
    on_topic = derived.ahead if derived.ahead is not None and derived.ahead[1] < written else None
    if (out is not None and out > snapshot.version) or on_topic is not None:
        faults.append(restored(max(out or 0, on_topic[0] if on_topic else 0), snapshot.version))
    elif out is not None and out < snapshot.version - 1:
        faults.append(
            f"version {out} was published last, but the ledger stands at {snapshot.version}: the topics or the group's "
            "offsets were restored from an older copy. No worker starts on them"
        )
    lost = [gap for gap in derived.missing if is_lost(gap, now_ms)]
    if inside := [gap for gap in lost if gap.after_ms is not None]:
        count = sum(gap.statuses for gap in inside)
        faults.append(
            f"{count} statuses lost from the status topic, between seq {inside[0].first} and {inside[-1].last}: "
            "too young to have been compacted"
        )
    if ended and lost and lost[-1].after_ms is None:
        faults.append(f"the status topic ends at seq {lost[-1].first - 1}, the ledger has published {lost[-1].last}")
    return faults


def total_faults(snapshot: Snapshot) -> list[str]:
    """Every status is counted in one cell, so the ledger's `seq` is their number: whatever the topic still holds."""
    clocks = snapshot.clocks.values()
    if snapshot.deleted_batches or any(row.dropped_until for row in clocks):
        return []
    counted = sum(
        int(records)
        for cell in snapshot.prediction_cells.values()
        for code, records in enumerate(cell.outcomes.tolist())
        if Outcome(code) not in ENDS
    )
    if counted == snapshot.seq:
        return []
    return [f"the cells count {counted} statuses, the ledger has numbered {snapshot.seq}"]


def is_lost(gap: Missing, now_ms: int) -> bool:
    """Whether neither retention nor compaction explains it: the last status of a partition is never compacted."""
    if gap.before_ms is None:
        return False
    return gap.after_ms is None or gap.before_ms > now_ms - COMPACTION_LAG_MS
