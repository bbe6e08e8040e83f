"""Records of one task that were fetched and wait for their turn: the topics are read in the order of their time.

Predictions and actuals come at their own pace: of a backlog, the smaller actuals would be read far ahead of their
predictions, and each would have to be parked first. So the oldest records are taken first, by Kafka timestamp,
whatever their topic. That is a matter of speed and of fewer `EARLY`; what comes out is the same in any order.
"""

from collections.abc import Collection, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from service.ports import Record

_time = attrgetter("timestamp")
_NO_HORIZON = np.iinfo(np.int64).max


class HeldRecords:
    """Records by role (topic), in order of their offsets."""

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = {}
        self._times: dict[str, NDArray[np.int64]] = {}
        """Kafka timestamps; within a topic the order of offsets holds, so none counts as going back."""

    def __len__(self) -> int:
        return sum(map(len, self._records.values()))

    def count(self, role: str) -> int:
        return len(self._records.get(role, ()))

    def add(self, role: str, records: Sequence[Record]) -> None:
        times = np.fromiter(map(_time, records), np.int64, len(records))
        if role in self._records:
            self._records[role].extend(records)
            self._times[role] = np.maximum.accumulate(np.concatenate([self._times[role], times]))
        else:
            self._records[role], self._times[role] = list(records), np.maximum.accumulate(times)

    def clear(self) -> None:
        self._records.clear()
        self._times.clear()

    def take(self, most: int, coming: Collection[str]) -> dict[str, list[Record]]:
        """The oldest records, at most so many, at least one if there is one.

        `coming` names the roles of which more is on its way: nothing is taken that is newer than the newest held
        record of such a role.
        """
        counts = {role: len(records) for role, records in self._records.items()}
        if sum(counts.values()) > most or not counts.keys().isdisjoint(coming):
            counts = self._oldest(most, coming)
        taken = {}
        for role, count in counts.items():
            if count:
                taken[role], self._records[role] = self._records[role][:count], self._records[role][count:]
                self._times[role] = self._times[role][count:]
        for role in taken:
            if not self._records[role]:
                del self._records[role], self._times[role]
        return taken

    def _oldest(self, most: int, coming: Collection[str]) -> dict[str, int]:
        """How many of each role."""
        horizon = min((int(times[-1]) for role, times in self._times.items() if role in coming), default=_NO_HORIZON)
        known = {role: times[: np.searchsorted(times, horizon, side="right")] for role, times in self._times.items()}
        counts = {role: len(times) for role, times in known.items()}
        if sum(counts.values()) <= most:
            return counts
        last = np.partition(np.concatenate(list(known.values())), most - 1)[most - 1]
        counts = {role: int(np.searchsorted(times, last)) for role, times in known.items()}
        room = most - sum(counts.values())
        for role, times in known.items():  # of the records at the last time, as many as there is room for
            more = min(room, int(np.searchsorted(times, last, side="right")) - counts[role])
            counts[role] += more
            room -= more
        return counts
