"""In plain words: what of a task could not be compared, and why."""

from collections.abc import Iterator

from service.usecases.cell_differences import Compared, Scope, Snapshot
from service.usecases.rederivation import Missing, Rederivation
from service.wire.instants import rfc3339_clamped


def unchecked(
    snapshot: Snapshot, derived: Rederivation, compared: Compared, scope: Scope, *, waits: bool, ended: bool
) -> list[str]:
    """One sentence for each reason."""
    return [
        *_of_the_log(snapshot, derived, compared, waits=waits, ended=ended),
        *_of_features(compared),
        *_of_deployments(snapshot, derived, scope),
    ]


def _of_the_log(
    snapshot: Snapshot, derived: Rederivation, compared: Compared, *, waits: bool, ended: bool
) -> Iterator[str]:
    if waits:
        yield f"version {snapshot.version} is not published yet: its statuses were taken from the outbox slot"
    if not ended and derived.missing and derived.missing[-1].after_ms is None:
        yield "the status partition could not be read to its end: a transaction stays open there; try again"
    if not derived.missing:
        return
    yield f"{_gaps(derived.missing)} What the other statuses add up to is the least that must be there"
    if compared.partly:
        yield f"{compared.partly} cells were compared with that lower bound only, their sums not at all"


def _gaps(missing: list[Missing]) -> str:
    count = sum(gap.statuses for gap in missing)
    first = missing[0]
    if first.before_ms is None and len(missing) == 1:
        return f"the status topic begins after seq {first.last}: retention or a person has taken {count} statuses."
    return (
        f"{count} statuses between seq {first.first} and {missing[-1].last} are not in the status topic any more: "
        "compaction keeps the last of a row, retention takes the oldest."
    )


def _of_features(compared: Compared) -> Iterator[str]:
    if compared.unread:
        yield (
            f"the features of {compared.unread} predictions: their records are gone from the input topic, or can not "
            "be read. What is left is the least that must be there"
        )
    if compared.too_early:
        count = compared.too_early
        yield f"the features of {count} cells: their first predictions came before a baseline fixed the bins"


def _of_deployments(snapshot: Snapshot, derived: Rederivation, scope: Scope) -> Iterator[str]:
    if scope.since is not None:
        yield (
            "what was received, and records that no prediction stands for: they are counted from the beginning, not "
            f"from {rfc3339_clamped(scope.since)} on"
        )
    for name in sorted(derived.unknown):
        yield f"deployment {name}: {derived.unknown[name]} statuses, but it is not in the database"
    for name in sorted(snapshot.deployments):
        if scope.deployment_id in (None, name):
            yield from _of_deployment(snapshot, derived, name, with_totals=scope.since is None)


def _of_deployment(snapshot: Snapshot, derived: Rederivation, name: str, *, with_totals: bool) -> Iterator[str]:
    clock = snapshot.clocks.get(name)
    if clock is not None and clock.dropped_until:
        yield (
            f"deployment {name}: figures before {rfc3339_clamped(clock.dropped_until)} were dropped "
            "(HINDSIGHT_PIPELINE__KEPT_DAYS), and with them those of records that no prediction stands for"
        )
    if clock is not None and clock.rolled_until > clock.dropped_until:
        until = rfc3339_clamped(clock.rolled_until)
        yield f"deployment {name}: single hours before {until}: they were rolled up, and compared by the day"
    batches = sum(deployment == name for deployment, _ in snapshot.deleted_batches)
    rows = sum(count for (deployment, _), count in derived.deleted.items() if deployment == name)
    if batches:
        yield (
            f"deployment {name}: {batches} deleted monitoring batches with {rows} statuses; up to so many records may "
            "be counted as without a prediction"
        )
    if with_totals and any(deployment == name for deployment, _ in derived.nowhere):
        yield (
            f"deployment {name}: the hours of records that no prediction stands for: a status does not tell them, so "
            "they were compared in all"
        )
