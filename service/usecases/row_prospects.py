"""What will become of a row as it stands, if nothing more comes, and when. All of it is measured on the watermark."""

from typing import assert_never

import msgspec

from service.domain.deployment import Deployment, LatePolicy
from service.domain.row import RowPhase, RowState
from service.wire.held_row import instant_text
from service.wire.status import Instant

_LATE = {
    LatePolicy.CORRECT: "an actual is late: it counts, and changes past numbers",
    LatePolicy.RECORD: "an actual is late: it is recorded as such, and changes no number",
    LatePolicy.REJECT: "an actual is late: it is refused",
}


class Expected(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """One thing that time alone will do to the row."""

    at: Instant
    what: str
    reached: bool = False
    """The watermark stands there already: it happens with the task's next look."""


def prospects(row: RowState, watermark: Instant | None, deployment: Deployment | None) -> list[Expected]:
    """In the order of time."""
    late = _LATE[deployment.join.late_policy] if deployment else "an actual is late"
    match RowPhase(row.phase):
        case RowPhase.OPEN | RowPhase.WITHDRAWN:
            found = [
                (row.due, f"counts as unmatched if no actual comes by then; after that {late}"),
                (row.drop, "is forgotten, and counts as expired if it is still unmatched"),
            ]
        case RowPhase.UNMATCHED | RowPhase.UNMATCHED_WITHDRAWN:
            found = [(row.drop, f"is forgotten, and counts as expired; until then {late}")]
        case RowPhase.MATCHED:
            found = [
                (row.due, f"until then another actual may correct it; after that {late}"),
                (row.drop, "is forgotten; what it counted for stays"),
            ]
        case RowPhase.PARKED | RowPhase.PARKED_WITHDRAWN:
            found = [(row.drop, "becomes an orphan and is forgotten if no prediction comes by then")]
        case RowPhase.ABSENT:
            found = []
        case unknown:
            assert_never(unknown)
    return [
        Expected(at=text, what=what, reached=watermark is not None and watermark >= text)
        for at, what in found
        if (text := instant_text(at)) is not None
    ]
