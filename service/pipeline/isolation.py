"""A record that breaks a stage is found by halving its micro-batch until it stands alone; then it is a dead letter.

For what no rule foresaw: a fault of ours in reading some value, or a value that the database refuses. What may pass by
itself, and what the protocol raises, is not of that kind.
"""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.ports import (
    INPUT_TOPICS,
    Fenced,
    LedgerMismatch,
    Polled,
    Record,
    SettingsMoved,
    Unavailable,
)

_NOT_OF_A_RECORD = (Unavailable, Fenced, SettingsMoved, LedgerMismatch, MemoryError, OSError)


class Broken(Exception):
    """Some record, or something of ours, has broken a stage; nothing was written. The cause says how."""


@contextmanager
def breaking() -> Iterator[None]:
    """Around what depends on the content of records. Raises `Broken`."""
    try:
        yield
    except (Broken, *_NOT_OF_A_RECORD):
        raise
    except Exception as error:
        raise Broken from error


def cause_of(broken: Broken) -> str:
    """What broke, and where; nothing of the record, whose values are nobody's business."""
    error = broken.__cause__
    if error is None:
        return "unknown"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def halves(polled: Polled, offsets: Mapping[str, int]) -> tuple[Polled, Polled]:
    """The records in two parts that keep the order within each topic."""
    first: dict[str, Sequence[Record]] = {}
    second: dict[str, Sequence[Record]] = {}
    positions = {}
    room = polled.size // 2
    for role in INPUT_TOPICS:
        records = polled.records.get(role, ())
        first[role], second[role] = records[:room], records[room:]
        room -= len(first[role])
        whole = polled.positions.get(role, offsets[role])
        positions[role] = second[role][0].offset if second[role] else whole
    return Polled(first, positions), Polled(second, polled.positions)
