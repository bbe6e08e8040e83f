"""The flood limit: a long run of records that do not decode pauses their task, until a person lets it go on.

One bad record is a dead letter. Thousands in a row are a producer that has gone wrong, or a topic that is not ours: all
that follow would be dead letters, too. A record that decodes ends the run of its topic. The verdict does not depend on
where micro-batches begin and end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """How many of the last records of each topic (by role) did not decode, and which topic has paused the task."""

    runs: Mapping[str, int] = field(default_factory=dict)
    """Without those of length 0; of the topic that has paused the task, the longest one."""
    paused_by: str = ""
    """A role; empty while the task is not paused."""

    @property
    def records(self) -> int:
        """Length of the run that has paused the task."""
        return self.runs.get(self.paused_by, 0)

    def after(self, undecoded: Mapping[str, Sequence[bool]], limit: int) -> "Flood":
        """After these records, in order by role: paused by a run of more than `limit`, until a person resumes it."""
        if self.paused_by:
            return self
        runs, paused_by = dict(self.runs), ""
        for role, marks in undecoded.items():
            longest, runs[role] = _run_after(runs.get(role, 0), marks)
            if longest > limit and not paused_by:
                paused_by, runs[role] = role, longest
        return Flood(runs={role: run for role, run in runs.items() if run}, paused_by=paused_by)


def _run_after(run: int, marks: Sequence[bool]) -> tuple[int, int]:
    """The longest run that these records make or lengthen, and the one that they leave."""
    longest = 0
    for is_undecoded in marks:
        run = run + 1 if is_undecoded else 0
        longest = max(longest, run)
    return longest, run
