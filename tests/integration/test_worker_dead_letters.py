"""What can not be used, and what came to the wrong partition: each exactly once, byte for byte."""

import os
import random
from collections import Counter

import pytest
import xxhash

from service.domain.errors import Reason
from tests.builders import RECENT_MS, actual, prediction
from tests.integration.rows import (
    assert_cells,
    assert_exact,
    assert_gapless,
    assert_one_status_each,
    good_and,
    traffic,
)
from tests.integration.worker import Event, Place, Read, Site

RANDOM_STRINGS = int(os.environ.get("RANDOM_STRINGS", "10000"))
OURS = ("__connect.errors.", "hindsight.")


def origin(letter: Read) -> Place:
    """Where the record came in, as the headers say."""
    named = letter.header
    return Place(
        named["__connect.errors.topic"].decode(),
        int(named["__connect.errors.partition"]),
        int(named["__connect.errors.offset"]),
    )


def assert_unchanged(letter: Read, event: Event) -> None:
    assert letter.value == event.value
    assert letter.key == event.key
    assert [header for header in letter.headers if not header[0].startswith(OURS)] == list(event.headers)
    if event.timestamp_ms is not None:
        assert letter.timestamp_ms == event.timestamp_ms


@pytest.mark.parametrize("killed", [False, True], ids=["in peace", "killed in the middle"])
async def test_any_bytes_are_dead_letters_exactly_once(site: Site, killed: bool) -> None:
    rng = random.Random(10_000)
    strings = [rng.randbytes(rng.randrange(0, 200)) for _ in range(RANDOM_STRINGS)]
    good = traffic(2_000, seed=11)
    events = good_and(strings, good, seed=12)
    places = await site.produce(events)
    sent = dict(zip(places, events, strict=True))
    values = {event.value for event in good.events}
    bad = {place: event for place, event in sent.items() if event.value not in values}
    assert len(bad) == RANDOM_STRINGS

    if killed:
        async with site.worker(PIPELINE__MAX_RECORDS="300") as worker:
            await site.progressed(worker, len(events) // 2)
            await worker.kill()
    async with site.worker() as worker:
        await site.processed(worker)
        figures = await worker.metrics()
        assert await worker.terminate() == 0

    letters = await site.read("dlq")
    assert Counter(origin(letter) for letter in letters) == Counter(list(bad))
    for letter in letters:
        assert_unchanged(letter, bad[origin(letter)])
        assert letter.header["hindsight.reason"].decode() in set(Reason)
        assert letter.header["hindsight.detail"]
    if not killed:
        counted = sum(value for name, value in figures.items() if name.startswith("dead_letters_total{"))
        assert counted == RANDOM_STRINGS
    await assert_exact(site, good, [place for place in places if place not in bad])


async def test_too_large_values(site: Site) -> None:
    """One byte too much for a record of ours is cut, with its length and hash; what just fits is kept whole."""
    rng = random.Random(13)
    fits, large = rng.randbytes(880_000), rng.randbytes(920_000)
    long_label = prediction("long", "x" * 200_000)
    events = [
        Event("predictions", b"fits", fits, [("a", b"1")]),
        Event("actuals", b"large", large, [("b", b"2")], RECENT_MS),
        Event("predictions", b"long", long_label),
        Event("predictions", b"r", prediction("r")),
        Event("actuals", b"r", actual("r")),
    ]
    places = await site.produce(events)
    async with site.worker() as worker:
        await site.processed(worker)
        assert await worker.terminate() == 0

    letters = {origin(letter): letter for letter in await site.read("dlq")}
    assert letters.keys() == set(places[:3])
    assert_unchanged(letters[places[0]], events[0])
    cut = letters[places[1]]
    assert cut.value == large[: len(cut.value or b"")]
    assert len(cut.value or b"") == 64 * 1024
    assert (cut.key, cut.timestamp_ms) == (b"large", RECENT_MS)
    note = cut.header["hindsight.truncated"].decode()
    assert note == f"length={len(large)};xxh3_64={xxhash.xxh3_64_hexdigest(large)}"
    assert_unchanged(letters[places[2]], events[2])
    assert letters[places[2]].header["hindsight.reason"] == b"too_large"
    last = {status.json["rowId"]: status.json["status"] for status in await site.statuses()}
    assert last["r"] == "MATCHED"


async def test_a_null_key_a_null_value_and_unknown_deployments(site: Site) -> None:
    """A tombstone is a dead letter; a null key costs a detour only; a deployment nobody knows stops nothing."""
    events = [
        Event("predictions", b"k", None, [("h", b"")], RECENT_MS),
        Event("predictions", None, prediction("no-key")),
        Event("predictions", b"u", prediction("u", deployment_id="nobody")),
        Event("actuals", b"u", actual("u", deployment_id="nobody")),
    ]
    places = await site.produce(events)
    async with site.worker() as worker:
        await site.processed(worker)
        await site.forwarded(1)
        assert await worker.terminate() == 0
    letters = {origin(letter): letter for letter in await site.read("dlq")}
    assert letters.keys() == {places[0], places[2], places[3]}
    assert_unchanged(letters[places[0]], events[0])
    reasons = [letters[place].header["hindsight.reason"] for place in (places[0], places[2], places[3])]
    assert reasons == [b"malformed", b"unknown_deployment", b"unknown_deployment"]
    assert_one_status_each(await site.statuses(), [places[1]])


async def test_the_character_that_postgres_keeps_no_text_with(site: Site) -> None:
    """NUL in any text: refused where it would be stored as text, and no record stops the task."""
    nul = "a\0b"
    events = [
        Event("predictions", b"1", prediction("1", batchName=nul)),
        Event("predictions", b"2", prediction("2", modelId=nul)),
        Event("predictions", b"3", prediction("3", nul)),
        Event("actuals", b"4", actual("4", nul)),
        Event("predictions", b"5", prediction("5", nul, deployment_id="learner")),
        Event("predictions", b"6", prediction("6", "b", deployment_id="learner")),
        Event("predictions", nul.encode(), prediction(nul, features={"origin": nul})),
        Event("actuals", nul.encode(), actual(nul)),
    ]
    places = await site.produce(events)
    async with site.worker(PIPELINE__AUTO_CREATE_DEPLOYMENTS="true", PIPELINE__MAX_RECORDS="3") as worker:
        await site.processed(worker)
        assert await worker.terminate() == 0
    found = {origin(letter): letter.header["hindsight.reason"].decode() for letter in await site.read("dlq")}
    reasons = [found.get(place) for place in places[:4]]
    assert reasons == ["bad_batch", "bad_model_id", "unknown_class", "unknown_actual_class"]
    last = {status.json["rowId"]: status.json["status"] for status in await site.statuses()}
    assert (last["5"], last["6"], last[nul]) == ("INVALID", "ACCEPTED", "MATCHED")


@pytest.mark.parametrize("killed", [False, True], ids=["in peace", "killed in the middle"])
async def test_strays_count_once_where_they_belong(site: Site, killed: bool) -> None:
    """Three in ten records were sent by somebody with another partitioner."""
    rng = random.Random(14)
    expected = traffic(3_000, seed=15)
    astray: dict[bytes, int] = {}
    events = []
    for event in expected.events:
        assert event.key is not None
        if event.key not in astray:  # a partitioner sends a key to one place
            wrong = (site.home(event.key) + rng.randrange(1, site.partitions)) % site.partitions
            astray[event.key] = wrong if rng.random() < 0.3 else site.home(event.key)
        events.append(event._replace(partition=astray[event.key]))
    places = await site.produce(events)
    strays = sum(astray[event.key or b""] != site.home(event.key or b"") for event in events)
    assert strays > 1_000

    if killed:
        async with site.worker(PIPELINE__MAX_RECORDS="200") as worker:
            await site.progressed(worker, len(events) // 2)
            await worker.kill()
    async with site.worker() as worker:
        await site.processed(worker)
        await site.forwarded(len(events))
        figures = await worker.metrics()
        assert await worker.terminate() == 0

    statuses = await site.statuses()
    assert_one_status_each(statuses, places)
    assert_gapless(statuses)
    assert all(status.partition == site.home(status.json["rowId"].encode()) for status in statuses)
    await assert_cells(site.pool, expected)
    if not killed:
        counted = sum(figures[f'records_total{{topic="{role}"}}'] for role in ("predictions", "actuals"))
        assert counted == len(events)
    forwarded = await site.read("rekey")
    assert len(forwarded) == strays
    assert {header[0] for record in forwarded for header in record.headers} == {"hindsight-origin"}
