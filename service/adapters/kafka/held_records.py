"""Records of one task that were fetched and wait for their turn: the topics are read in the order of their time.

Predictions and actuals come at their own pace: of a backlog, the smaller actuals would be read far ahead of their
predictions, and each would have to be parked first. So the oldest records are taken first, by Kafka timestamp,
whatever their topic. That is a matter of speed and of fewer `EARLY`; what comes out is the same in any order.
"""

from collections.abc import Collection, Sequence

import numpy as np

from service.ports import Record


class HeldRecords:
    """Records by role (topic), in order of their offsets."""

    def __init__(self) -> None:
        self._held: dict[str, list[Record]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def count(self, role: str) -> int:
        return len(self._held.get(role, ()))

    def add(self, role: str, records: Sequence[Record]) -> None:
        self._held.setdefault(role, []).extend(records)

    def clear(self) -> None:
        self._held.clear()

    def take(self, most: int, coming: Collection[str]) -> dict[str, list[Record]]:
        """The oldest records, at most so many, at least one if there is one.

        `coming` names the roles of which more is on its way: nothing is taken that is newer than the newest held
        record of such a role.
        """
        counts = {role: len(records) for role, records in self._held.items()}
        if sum(counts.values()) > most or not counts.keys().isdisjoint(coming):
            counts = self._oldest(most, coming)
        taken = {role: self._held[role][:count] for role, count in counts.items() if count}
        for role, records in taken.items():
            del self._held[role][: len(records)]
            if not self._held[role]:
                del self._held[role]
        return taken

    def _oldest(self, most: int, coming: Collection[str]) -> dict[str, int]:
        """How many of each role. Within a topic the order of offsets holds, so a time never counts as going back."""
        times = {
            role: np.maximum.accumulate(np.array([record.timestamp for record in records], dtype=np.int64))
            for role, records in self._held.items()
        }
        horizon = min((int(times[role][-1]) for role in coming if role in times), default=np.iinfo(np.int64).max)
        counts = {role: int(np.searchsorted(found, horizon, side="right")) for role, found in times.items()}
        if sum(counts.values()) <= most:
            return counts
        merged = np.concatenate([found[: counts[role]] for role, found in times.items()])
        last = np.partition(merged, most - 1)[most - 1]
        taken = {role: min(counts[role], int(np.searchsorted(found, last))) for role, found in times.items()}
        room = most - sum(taken.values())
        for role, found in times.items():
            more = min(counts[role], int(np.searchsorted(found, last, side="right"))) - taken[role]
            taken[role] += min(more, room)
            room -= min(more, room)
        return taken
