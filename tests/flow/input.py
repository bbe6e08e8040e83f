"""Input as hypothesis draws it, and what must come of it however it is delivered."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from service.domain.deployment import JoinSpec
from service.domain.records import Topic
from service.domain.stats.accuracy import Accuracy
from tests.builders import ACTUAL_AT, PREDICTED_AT, actual, deployment, prediction
from tests.flow.world import FlowWorld

HOUR: Final = timedelta(hours=1)
ROWS: Final = "abcdefgh"
STRAYS: Final = "gh"
"""Rows whose records all come to the wrong partition."""
PATIENT: Final = JoinSpec(allowed_lateness=timedelta(days=3650))
"""The watermark stays behind every event, so that `due` and `drop` depend on the events alone."""


class Sent(NamedTuple):
    """One record, and the partition that it is sent to if that is not its home."""

    topic: str
    value: bytes
    row: str = ""
    partition: int | None = None
    submission: bytes | None = None


def _prediction(row: str, share: float, submission: bytes | None = None) -> Sent:
    number = ROWS.index(row)
    fields: dict[str, Any] = {"batchName": "xy"[number % 2]} if number % 3 else {}
    at = PREDICTED_AT + number * HOUR / 2
    value = prediction(row, {"late": share}, at=at, features=None, **fields)
    return Sent(Topic.PREDICTIONS, value, row, submission=submission)


def _actual(row: str, value: str | None, hours: int, submission: bytes | None = None) -> Sent:
    return Sent(Topic.ACTUALS, actual(row, value, at=ACTUAL_AT + hours * HOUR), row, submission=submission)


SUBMISSIONS: Final = st.none() | st.sampled_from([b"s1", b"s2"])
PREDICTIONS: Final = st.builds(_prediction, st.sampled_from(ROWS), st.just(0.75), SUBMISSIONS)
"""Of each row always the same, so that no order makes a difference."""
CHANGED: Final = st.builds(_prediction, st.sampled_from(ROWS), st.sampled_from([0.75, 0.25]), SUBMISSIONS)
ACTUALS: Final = st.builds(
    _actual, st.sampled_from(ROWS), st.sampled_from(["late", "on_time", None]), st.integers(0, 3), SUBMISSIONS
)
ODD: Final = st.sampled_from(
    [
        Sent(Topic.PREDICTIONS, b"?", partition=0),
        Sent(Topic.ACTUALS, b"{}", partition=1),
        Sent(Topic.PREDICTIONS, prediction("a", "early"), "a"),
        Sent(Topic.PREDICTIONS, prediction("g", batchId="none"), "g"),
        Sent(Topic.ACTUALS, actual("h", "early"), "h"),
        Sent(Topic.PREDICTIONS, prediction(None), partition=1),
        Sent(Topic.ACTUALS, actual("x", deployment_id="nobody"), "x"),
    ]
)


def world_of_rows(**settings: Any) -> FlowWorld:
    """Two tasks and a deployment that waits."""
    return FlowWorld(deployment(batch_enabled=True, join=PATIENT), partitions=2, **settings)


def send(world: FlowWorld, sent: Sent) -> None:
    partition = (world.home(sent.row) + 1) % 2 if sent.row and sent.row in STRAYS else sent.partition
    headers = [("hindsight-submission-id", sent.submission)] if sent.submission else []
    (world.predict if sent.topic == Topic.PREDICTIONS else world.tell)(sent.value, partition=partition, headers=headers)


def facts(world: FlowWorld) -> dict[str, Any]:
    """What must not depend on how the input was delivered: rows, numbers, dead letters, events of batches.

    Left out is what a prediction or an actual is answered when the other is not there yet, and how often a row changed.
    Monitoring batches go by name: their IDs count how they came.
    """
    ids = {("flights", f"{number:024x}") for number in range(1, 20)}
    names = {batch.id: batch.name for batch in asyncio.run(world.catalog.batches(ids)).values()} | {"": ""}
    numbers = world.numbers()
    return {
        "rows": {
            name: (row.phase, row.predicted_at, row.actual_at, row.due, row.drop,
                   row.content, row.label_day, row.prediction, row.actual, row.model, names[row.batch])
            for name, row in world.rows().items()
        },
        "traffic": {
            (key.model_id, names[key.batch_id], key.hour): (
                cell.predictions, cell.first_at, cell.last_at, cell.last_due)
            for key, cell in numbers.traffic.items()
            if cell.predictions
        },
        "accuracy": {
            (key.model_id, names[key.batch_id], key.hour, key.label_day): cell
            for key, cell in numbers.accuracy.items()
            if cell != Accuracy()
        },
        "statuses": Counter(status.source for status in world.statuses()),
        "dead": Counter((letter.reason, letter.source, letter.value) for letter in world.dead_letters()),
        "events": Counter(world.batch_events()),
        "submissions": Counter(
            {name: sum(n for (one, _), n in world.submissions().items() if one == name) for name in ("s1", "s2")}
        ),
    }  # fmt: skip
