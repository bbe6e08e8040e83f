"""Order, at length: 500 records with corrections and withdrawals, in any order, end in the same rows and numbers."""

import os
import random
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from service.domain.records import Topic
from tests.builders import ACTUAL_AT, PREDICTED_AT, actual, prediction
from tests.flow.input import Sent, facts, send, world_of_rows
from tests.flow.world import FlowWorld

RECORDS, ROWS = 500, 120
MINUTE = timedelta(minutes=1)
SHUFFLES = 1000 if os.environ.get("LONG") else 20


def drawn(chance: random.Random) -> list[Sent]:
    """A prediction for nearly every row, and several actuals: repeated, corrected, withdrawn, at equal instants too."""
    records = []
    for number in range(ROWS):
        name, at = f"row-{number}", PREDICTED_AT + number * MINUTE
        value = prediction(name, {"late": chance.choice([0.2, 0.7])}, at=at, batchName="xy"[number % 2])
        if number % 12:
            records += [Sent(Topic.PREDICTIONS, value, name)] * chance.choice([1, 1, 1, 2])
    while len(records) < RECORDS:
        name = f"row-{chance.randrange(ROWS)}"
        value = actual(name, chance.choice(["late", "on_time", None]), at=ACTUAL_AT + chance.randrange(4) * MINUTE)
        records.append(Sent(Topic.ACTUALS, value, name))
    return records


def sent(world: FlowWorld, record: Sent, chance: random.Random) -> None:
    partition = chance.randrange(2) if chance.random() < 0.1 else None  # some come as strays
    send(world, record._replace(partition=partition))


def end_of(records: Sequence[Sent], chance: random.Random) -> dict[str, Any]:
    with closing(world_of_rows(max_records=chance.choice([20, 200, 10_000]))) as world:
        for record in records:
            sent(world, record, chance)
            if chance.random() < 0.05:
                world.steps(chance.randrange(60))
        world.settle()
        assert world.conservation_error() == 0
        found = facts(world)
        del found["statuses"], found["dead"]  # by source: the records have other offsets
        return found


@pytest.mark.timeout(1800)
def test_every_shuffle_ends_the_same() -> None:
    records = drawn(random.Random(2013))
    first = end_of(records, random.Random(0))
    assert len(first["rows"]) == ROWS
    for seed in range(1, SHUFFLES):
        chance = random.Random(seed)
        assert end_of(chance.sample(records, len(records)), chance) == first, f"seed {seed}"
