"""Laws of the client: what it takes the service understands, what it refuses the service would; and no row is lost
from its counts, whatever befalls the transport."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.client import AsyncClient, Limits
from service.client.complaints import Complaints
from service.client.partition import partition_of
from service.client.parts import Parts
from service.client.rows import Outcome, Parcel, Row
from service.client.values import BadValue
from service.client.wording import Actual, EventWording, Prediction
from service.domain.ids import home_of, murmur2
from service.wire.events import (
    Unusable,
    association_id,
    canonical_association_id,
    compact,
    decode_actual,
    decode_prediction,
)
from service.wire.instants import instant_us, rfc3339
from tests.flow.virtual_loop import VirtualLoop
from tests.laws.wire_events import ASSOCIATION_ID, EVENTS, INSTANT, TEXT

NOW = datetime(2026, 5, 6, 17, tzinfo=UTC)
WORDING = EventWording()


def prediction_of(event: dict[str, Any]) -> Row:
    names = ("associationId", "timestamp", "features", "modelId", "batchId", "batchName", "service")
    return WORDING.prediction(
        Prediction(NOW, event["deploymentId"], event["prediction"], *(event.get(name) for name in names))
    )


def actual_of(event: dict[str, Any]) -> Row:
    names = ("associationId", "actual", "timestamp", "wasActedOn", "keepWithoutPrediction")
    return WORDING.actual(Actual(NOW, event["deploymentId"], *(event.get(name) for name in names)))


@given(EVENTS["prediction"])
def test_every_prediction_of_the_schema_is_said_as_it_is(event: dict[str, Any]) -> None:
    row = prediction_of(event)
    ours, theirs = decode_prediction(row.value), decode_prediction(orjson_of(event))
    assert (ours.deployment_id, ours.association_id) == (theirs.deployment_id, theirs.association_id)
    assert (ours.model_id, ours.batch_id, ours.batch_name) == (theirs.model_id, theirs.batch_id, theirs.batch_name)
    assert orjson.loads(bytes(ours.features)) == orjson.loads(bytes(theirs.features) or b"{}") or not event["features"]
    assert orjson.loads(bytes(ours.prediction)) == orjson.loads(bytes(theirs.prediction))
    assert compact(ours.service) == compact(theirs.service)
    assert_instant(ours.timestamp, event.get("timestamp"))
    if event.get("associationId") is None:
        assert row.key is None
    else:
        assert row.key == association_id(event["associationId"], event["deploymentId"]).encode()


@given(EVENTS["actual"])
def test_every_actual_of_the_schema_is_said_as_it_is(event: dict[str, Any]) -> None:
    row = actual_of(event)
    ours, theirs = decode_actual(row.value), decode_actual(orjson_of(event))
    assert (ours.deployment_id, ours.association_id, ours.actual) == (
        theirs.deployment_id,
        theirs.association_id,
        theirs.actual,
    )
    assert (ours.was_acted_on, ours.keep_without_prediction) == (theirs.was_acted_on, theirs.keep_without_prediction)
    assert_instant(ours.timestamp, event.get("timestamp"))
    assert row.key == association_id(event["associationId"], event["deploymentId"]).encode()


def orjson_of(event: dict[str, Any]) -> bytes:
    """As another producer would write it: integers beyond 64 bits need another encoder."""
    return json.dumps(event).encode()


def assert_instant(said: datetime | float | None, meant: str | float | None) -> None:
    assert isinstance(said, datetime)
    if meant is None:
        assert said == NOW
    elif isinstance(meant, str):
        assert said == datetime.fromisoformat(meant)
    else:
        assert abs(instant_us(said) - instant_us(meant)) <= 16  # that many are in the double's last place


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=3)
    | st.datetimes()
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(ANYTHING, min_size=9, max_size=9))
def test_whatever_is_given_becomes_an_event_or_is_refused(anything: list[Any]) -> None:
    deployment, prediction, *rest = anything
    for label in (deployment, "d"):
        try:
            row = WORDING.prediction(Prediction(NOW, label, prediction, *rest))
        except BadValue:
            continue
        decode_prediction(row.value)


@given(st.lists(ANYTHING, min_size=6, max_size=6))
def test_whatever_is_given_as_actual_becomes_an_event_or_is_refused(anything: list[Any]) -> None:
    _, association, *rest = anything
    for given_id in (association, "a1"):
        try:
            row = WORDING.actual(Actual(NOW, "d", given_id, *rest))
        except BadValue:
            continue
        decode_actual(row.value)


@given(st.text(max_size=140) | st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_it_knows_association_ids_as_the_service_does(given_id: str | list[str]) -> None:
    try:
        key = actual_of({"deploymentId": "d", "associationId": given_id, "actual": 1}).key
    except BadValue:
        assume("".join(given_id).isprintable() or all(not 0xD800 <= ord(one) < 0xE000 for one in "".join(given_id)))
        with pytest.raises(Unusable):
            association_id(given_id, "d")
    else:
        assert key == canonical_association_id(given_id).encode()
        assert key == association_id(given_id, "d").encode()


def said_at(at: str | float | datetime) -> str:
    event = orjson.loads(actual_of({"deploymentId": "d", "associationId": "a", "actual": 1, "timestamp": at}).value)
    return str(event["timestamp"])


@given(INSTANT)
def test_instants_are_those_of_the_service(given_at: str | float) -> None:
    said = said_at(given_at)
    meant = datetime.fromisoformat(given_at) if isinstance(given_at, str) else given_at
    if isinstance(given_at, str):
        assert said == rfc3339(instant_us(meant))
    assert len(said) == len("2026-05-06T17:00:00.000000Z")


@given(st.binary(min_size=1, max_size=80), st.integers(1, 64))
def test_a_key_is_at_home_where_the_service_says(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == murmur2(key) % partitions


@given(ASSOCIATION_ID | TEXT.filter(bool), st.integers(1, 16))
def test_a_row_is_at_home_where_the_service_says(given_id: str | list[str], partitions: int) -> None:
    canonical = canonical_association_id(given_id)
    assert partition_of(canonical.encode(), partitions) == home_of(canonical, partitions)


Step = tuple[str, float]
FAULTS = ["sent", "refused", "failed", "again", "split", "part", "raise", "later"]
CALLS = ["log", "bad", "flush", "sleep", "many"]


class Troubled:
    """A transport that does what the schedule says, and then sends all."""

    at_once = 2

    def __init__(self, faults: list[Step]) -> None:
        self._faults = list(reversed(faults))
        self.sent: list[Row] = []
        self.names: dict[str, bytes] = {}

    async def send(self, parcel: Parcel) -> Outcome:
        content = b"".join(row.value for row in parcel.rows)
        assert self.names.setdefault(parcel.name, content) == content, "another submission under the same name"
        assert len({row.group for row in parcel.rows}) == 1
        fault, seconds = self._faults.pop() if self._faults else ("sent", 0.0)
        await asyncio.sleep(seconds)
        if fault == "raise":
            raise RuntimeError("a defect")
        outcome = self._outcome(fault, parcel, seconds)
        if outcome.sent:
            self.sent += parcel.rows
        return outcome

    @staticmethod
    def _outcome(fault: str, parcel: Parcel, seconds: float) -> Outcome:
        rows, half = len(parcel.rows), len(parcel.rows) // 2
        first, second = Parcel(parcel.rows[:half]), Parcel(parcel.rows[half:])
        outcomes = {
            "refused": Outcome(refused=rows),
            "failed": Outcome(failed=rows),
            "again": Outcome(again=(parcel,)),
            "later": Outcome(again=(parcel,), pause_s=seconds),
        }
        if half:
            outcomes["split"] = Outcome(again=(first, second), pause_s=0)
            outcomes["part"] = Outcome(refused=half, again=(second,), pause_s=0)
        return outcomes.get(fault, Outcome(sent=rows))

    async def close(self) -> None:
        pass


class Lanes(EventWording):
    """Rows of one deployment go together."""

    def prediction(self, given: Prediction) -> Row:
        return super().prediction(given)._replace(group=given.deployment_id)


def run_schedule(faults: list[Step], calls: list[tuple[str, int, float]], limits: Limits, patience: float) -> None:
    transport = Troubled(faults)

    async def story() -> None:
        parts = Parts.over(transport, Lanes(), limits, Complaints())
        client = AsyncClient(parts, close_timeout=patience)
        answers, numbers = 0, count()

        async def log(lane: int) -> None:
            nonlocal answers
            taken = await client.log_prediction(f"d{lane}", next(numbers))
            answers += taken

        def hold() -> None:
            counts = client.counts
            decided = counts.sent + counts.refused_by_service + counts.failed
            assert counts.taken == decided + counts.buffered == answers
            assert counts.buffered <= limits.buffer_rows
            assert counts.sent == len(transport.sent)
            assert counts.buffered or (parts.buffer._bytes, parts.buffer.lanes()) == (0, [])

        actions: dict[str, Callable[[int, float], Awaitable[object]]] = {
            "log": lambda lane, _: log(lane),
            "bad": lambda *_: client.log_prediction("d", float("nan")),
            "flush": lambda _, seconds: client.flush(seconds),
            "sleep": lambda _, seconds: asyncio.sleep(seconds),
            "many": lambda lane, _: asyncio.gather(*(log(lane) for _ in range(7))),
        }
        async with client:
            for action, lane, seconds in calls:
                await actions[action](lane, seconds)
                hold()
        hold()
        assert client.counts.buffered == 0
        assert not await client.log_prediction("d0", 1)
        assert client.counts.refused_closed == 1
        assert client.counts.refused_bad == sum(action == "bad" for action, *_ in calls)
        values = [row.value for row in transport.sent]
        assert len(values) == len(set(values)), "a row was sent twice"
        for deployment in {row.group for row in transport.sent}:
            told = [orjson.loads(row.value)["prediction"] for row in transport.sent if row.group == deployment]
            assert told == sorted(told), "rows of a group changed places"

    loop = VirtualLoop(lambda seconds: None)
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()


@given(
    st.lists(st.tuples(st.sampled_from(FAULTS), st.floats(0, 3)), max_size=30),
    st.lists(st.tuples(st.sampled_from(CALLS), st.integers(0, 3), st.floats(0, 0.2)), max_size=30),
    st.integers(1, 5),
    st.integers(1, 12),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from([0.0, 60.0]),
)
def test_no_row_is_lost_from_the_counts(
    faults: list[Step],
    calls: list[tuple[str, int, float]],
    batch_rows: int,
    buffer_rows: int,
    wait_when_full: float,
    patience: float,
) -> None:
    limits = Limits(batch_rows=batch_rows, buffer_rows=buffer_rows, wait_when_full=wait_when_full)
    run_schedule(faults, calls, limits, patience)


def test_an_instant_of_another_zone_is_the_same_instant() -> None:
    at = datetime(2026, 5, 6, 19, tzinfo=timezone(timedelta(hours=2)))
    assert said_at(at) == "2026-05-06T17:00:00.000000Z"
