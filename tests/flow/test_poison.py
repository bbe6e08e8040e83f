"""A record that breaks a stage, as no rule foresaw: it alone becomes a dead letter, and everything else is counted."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.pipeline import flow
from service.pipeline.isolation import Broken
from service.ports import MicroBatch, Topic
from tests.builders import actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.invariants import check
from tests.flow.published import words
from tests.flow.world import FlowWorld

STAGES = ("assign", "keys_of", "aggregate", "advance_clocks", "status_records")


class Fault(Exception):
    """Ours, on seeing the record."""


@contextmanager
def breaking(stage: str, *names: str) -> Iterator[None]:
    """This stage breaks on rows of these names, as it might through a fault of ours."""
    real = getattr(flow, stage)

    def broken(*args: Any) -> Any:
        seen = set(re.findall(r"(?<!b)'([\w-]+)'", repr(args)))  # in columns, not as the key of a dead letter
        if seen & set(names):
            raise Fault("secret")
        return real(*args)

    with patch.object(flow, stage, broken):
        yield


@pytest.mark.parametrize("stage", STAGES)
def test_one_among_many(stage: str, world: FlowWorld) -> None:
    for number in range(20):
        world.predict(prediction(f"row-{number}"))
        world.tell(actual(f"row-{number}"))
    offset = world.predict(prediction("boom"), partition=world.home("boom"))
    with breaking(stage, "boom"):
        world.settle()
    (letter,) = world.dead_letters()
    assert (letter.reason, letter.source[2], letter.value) == ("unprocessable", offset, prediction("boom"))
    assert letter.detail.startswith("it breaks the service: Fault in test_poison.py, line ")
    assert "secret" not in letter.detail
    assert world.accuracy().matched == 20
    assert "flights/boom" not in world.rows()
    check(world)


def test_one_that_was_forwarded(world: FlowWorld) -> None:
    home = world.home("boom")
    stray = (home + 1) % world.broker.partitions
    with breaking("aggregate", "boom"):
        offset = world.predict(prediction("boom"), partition=stray)
        world.tell(actual("fine"))
        world.settle()
    (letter,) = world.dead_letters()
    assert letter.source == ("monitoring.predictions.v1", stray, offset)
    assert dict(letter.headers).keys().isdisjoint({"hindsight-origin"})
    assert words(world.statuses()) == ["EARLY"]
    check(world)


def test_what_the_database_refuses(world: FlowWorld) -> None:
    """A value that it can not hold breaks the commit; nothing of it was written."""
    persist = world.ledger.persist

    async def refusing(batch: MicroBatch) -> None:
        if any(key.model_id == "odd" for key in batch.prediction_cells):
            raise Fault("no such text")
        await persist(batch)

    world.ledger.persist = refusing  # type: ignore[method-assign]
    for number in range(10):
        world.predict(prediction(f"row-{number}"))
    world.predict(prediction("row-x", modelId="odd"))
    assert sorted(words(world.settle())) == ["ACCEPTED"] * 10
    assert [letter.reason for letter in world.dead_letters()] == ["unprocessable"]
    check(world)


def test_a_fault_that_no_record_brings_about_ends_the_worker(world: FlowWorld) -> None:
    """It would break every record: none of them is to blame."""
    with patch.object(flow, "pack_slot", side_effect=Fault), pytest.raises(Broken):
        world.predicted(prediction())
    world.unchecked = True
    world.workers.clear()


def test_a_flood_of_them_waits_for_a_person(opened: Opened) -> None:
    world = opened(deployment(), partitions=1, flood=5)
    with breaking("aggregate", *(f"boom-{number}" for number in range(20))):
        for number in range(20):
            world.predict(prediction(f"boom-{number}"))
        world.wait(timedelta(seconds=5))
    assert world.checkpoint(0).flood.paused_by == Topic.PREDICTIONS
    world.predict(prediction("fine"))
    world.wait(timedelta(seconds=60))
    assert not world.rows()
    world.resume()
    assert words(world.settle()) == ["ACCEPTED"]


@settings(max_examples=30)
@given(st.lists(st.sampled_from(["fine", "boom"]), max_size=30), st.data())
def test_any_of_them_any_where(kinds: list[str], data: st.DataObject) -> None:
    world = FlowWorld(deployment(), partitions=2, max_records=data.draw(st.sampled_from([3, 100])))
    with breaking("assign", *(f"boom-{number}" for number in range(len(kinds)))):
        for number, kind in enumerate(kinds):
            world.predict(prediction(f"{kind}-{number}"))
        world.settle()
        assert len(world.rows()) == kinds.count("fine")
        assert [letter.reason for letter in world.dead_letters()] == ["unprocessable"] * kinds.count("boom")
        check(world)
        world.close()
