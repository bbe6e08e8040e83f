"""What must come of the input, worked out a second time: one record after the other, in plain Python.

It shares no code with the service. It is told which records each commit consumed, what was published for that commit,
and where the watermarks stood before and after it; from the records themselves it works out which answers are right,
what each row holds then, and what every cell must count. Where a record falls between the two watermarks of its
commit, both answers about time are right; the one that was published is taken, and everything later must agree with it.
"""

from collections.abc import Iterable, Mapping, Sequence

from tests.simulation.answers import Answers
from tests.simulation.facts import Batch, Letter, Place, Published, Task
from tests.simulation.workload import Rules, Sent


class Oracle:
    """Everything that must be so, as of the commits that it was told of."""

    def __init__(self, rules: Iterable[Rules], partitions: int) -> None:
        self.rules = {one.id: one for one in rules}
        self.batches: dict[str, list[Batch]] = {name: [] for name in self.rules}
        self.tasks = [Task() for _ in range(partitions)]
        self.answered: dict[Place, int] = {}
        """Version of the commit that answered each record."""

    # ---------------------------------------------------------------- what people do

    def opened(self, deployment: str, batch: str, name: str) -> None:
        self.batches[deployment].append(Batch(batch, name))

    def locked(self, deployment: str, batch: str, is_locked: bool) -> None:
        self._batch(deployment, batch).is_locked = is_locked

    def deleted(self, deployment: str, batch: str) -> None:
        """From here on nothing of the batch counts anywhere."""
        self._batch(deployment, batch).is_deleted = True
        for task in self.tasks:
            for key in [key for key in task.traffic if (key[0], key[2]) == (deployment, batch)]:
                del task.traffic[key]
            for labels in [key for key in task.accuracy if (key[0], key[2]) == (deployment, batch)]:
                del task.accuracy[labels]

    def _batch(self, deployment: str, batch: str) -> Batch:
        return next(one for one in self.batches[deployment] if one.id == batch)

    def is_deleted(self, deployment: str, batch: str) -> bool:
        return bool(batch) and self._batch(deployment, batch).is_deleted

    # ---------------------------------------------------------------- a commit

    def commit(
        self,
        task: int,
        version: int,
        consumed: Mapping[Place, Sent],
        statuses: Sequence[Published],
        letters: Sequence[Letter],
        before: Mapping[str, int],
        after: Mapping[str, int],
    ) -> None:
        """One commit and everything that was published for it. `consumed`: the records that live here."""
        answers = Answers(self, self.tasks[task], version, consumed, before, after)
        for status in statuses:
            answers.take(status)
        answers.end(letters)
