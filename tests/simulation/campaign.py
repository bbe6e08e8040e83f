"""Many schedules in processes of their own, and what they reached.

The processes have a fixed hash seed: the order of sets is part of what a seed must bring back.
"""

import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import structlog

from service.domain.join_window import TRANSITIONS
from service.pipeline import join, owned, restore
from service.ports import Fenced
from tests.simulation.planted import BUGS
from tests.simulation.schedule import play

TAKEOVER = (
    "overtaken while it opened its publisher",
    "slot was out",
    "slot published again",
    "slot published again: the broker has forgotten the group",
    "nothing was ever committed",
    "disk: none",
    "disk: as the ledger has it",
    "disk: behind, replayed from there",
    "disk: before the log's begin",
    "disk: too old",
    "disk: a restore that never came to its end, replayed on",
)
"""What a takeover can meet; each must be met."""

_CHUNKS_OF_A_POOL = 60


@dataclass(slots=True)
class Report:
    """What some schedules did. `failures`: seed and what was wrong."""

    schedules: int = 0
    records: int = 0
    commits: int = 0
    cpu_s: float = 0.0
    acts: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[Any, Any]] = field(default_factory=Counter)
    takeovers: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        self.schedules += other.schedules
        self.records += other.records
        self.commits += other.commits
        self.cpu_s += other.cpu_s
        self.acts += other.acts
        self.transitions += other.transitions
        self.takeovers += other.takeovers
        self.failures += other.failures

    @property
    def missed(self) -> list[str]:
        """Transitions and branches of the takeover that no schedule reached."""
        transitions = [
            f"{phase.name} {event.name}" for phase, event in TRANSITIONS if not self.transitions[phase, event]
        ]
        return transitions + [branch for branch in TAKEOVER if not self.takeovers[branch]]


class _Counting(dict[Any, Any]):
    """The transition table, counting who looks."""

    def __init__(self, counts: Counter[Any]) -> None:
        super().__init__(TRANSITIONS)
        self._counts = counts

    def __getitem__(self, pair: Any) -> Any:
        self._counts[pair] += 1
        return super().__getitem__(pair)


@contextmanager
def counting(report: Report) -> Iterator[None]:
    """Note which transitions and which branches of the takeover are taken."""
    took = report.takeovers
    check_epoch, publish_slot, trusted, restored_by = (
        owned._check_epoch, owned._publish_slot, restore._trusted, restore._restore,
    )  # fmt: skip

    async def checked(world: Any, checkpoint: Any) -> None:
        try:
            await check_epoch(world, checkpoint)
        except Fenced:
            took["overtaken while it opened its publisher"] += 1
            raise

    async def published(world: Any, publisher: Any, checkpoint: Any) -> int:
        committed = world.sink._target._broker.committed.get(checkpoint.task)  # asking the port would be another call
        version = None if committed is None else committed.version
        end = await publish_slot(world, publisher, checkpoint)
        if checkpoint.version == 0:
            took["nothing was ever committed"] += 1
        elif version is None and checkpoint.version > 1:
            took["slot published again: the broker has forgotten the group"] += 1
        else:
            took["slot was out" if version == checkpoint.version else "slot published again"] += 1
        return end

    def judged(log: Any, clock: Any, position: Any, checkpoint: Any) -> bool:
        right: bool = trusted(log, clock, position, checkpoint)
        if not right:
            took[_mistrust(log, position, checkpoint)] += 1
        return right

    def restored(log: Any, clock: Any, store: Any, checkpoint: Any, *rest: Any) -> int:
        position = store.position
        if position is None:
            took["disk: none"] += 1
        end: int = restored_by(log, clock, store, checkpoint, *rest)
        if position is not None and trusted(log, clock, position, checkpoint):
            took[_disk(position.version, checkpoint.version)] += 1
        return end

    with (
        patch.object(owned, "_check_epoch", checked),
        patch.object(owned, "_publish_slot", published),
        patch.object(restore, "_trusted", judged),
        patch.object(restore, "_restore", restored),
        patch.object(join, "TRANSITIONS", _Counting(report.transitions)),
    ):
        yield


def _disk(version: int, ledger: int) -> str:
    if version == ledger:
        return "disk: as the ledger has it"
    return "disk: behind, replayed from there" if version >= 0 else TAKEOVER[-1]


def _mistrust(log: Any, position: Any, checkpoint: Any) -> str:
    if position.status_offset < log.begin(checkpoint.task):
        return "disk: before the log's begin"
    return "disk: too old"


def run_here(seeds: Iterable[int]) -> Report:
    """These schedules, in this process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    report, started = Report(), time.process_time()
    with counting(report):
        for seed in seeds:
            report.schedules += 1
            try:
                played = play(seed)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                report.failures.append((seed, "".join(traceback.format_exception(error, limit=-6))))
            else:
                report.records += len(played.journal.sent)
                report.commits += played.commits
                report.acts.update(played.acts)
    report.cpu_s = time.process_time() - started
    return report


def first_caught(name: str, seeds: Iterable[int]) -> tuple[int, str] | None:
    """The first of these schedules in which a planted bug is seen, and by what."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    for seed in seeds:
        try:
            with BUGS[name]():
                play(seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return seed, f"{type(error).__name__}: {error}"
    return None


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    """One for each processor, all with the same order of sets."""
    with (
        patch.dict(os.environ, {"PYTHONHASHSEED": "0"}),
        ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        yield pool


def run(first: int, count: int, progress: Callable[[Report], None], chunk: int = 50) -> Report:
    """So many schedules from this seed on; `progress` hears of the whole so far.

    Processes are made anew now and then, since they grow: by hand, for a pool that is told to replace them by itself
    (`max_tasks_per_child`) comes to stand still in Python 3.11.
    """
    total = Report()
    chunks = [range(start, min(start + chunk, first + count)) for start in range(first, first + count, chunk)]
    for begin in range(0, len(chunks), _CHUNKS_OF_A_POOL):
        with processes() as pool:
            for report in pool.map(run_here, chunks[begin : begin + _CHUNKS_OF_A_POOL]):
                total.add(report)
                progress(total)
    return total
