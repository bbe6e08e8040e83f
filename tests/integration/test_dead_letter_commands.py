"""`hindsight dlq` on real Kafka: what it shows, and that each letter is sent again exactly once."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced

from service.adapters.kafka.dead_letters import KafkaDeadLetters, open_dead_letters
from service.adapters.kafka.topics import create_topics
from service.devstack.processes import Child, Command, start_child
from service.devstack.tansu import open_tansu
from service.domain.errors import Conflict
from service.domain.records import OutRecord, Topic, topic_name
from service.usecases.dead_letters import wanted
from service.usecases.replay import Replayed, replay
from service.wire.dead_letter import dead_letter_headers, replay_mark, truncated
from tests.builders import RECENT_MS, actual, prediction
from tests.integration.worker import DEPLOYMENT, Event, Read, Said, Site

LETTERS = 12_000
AT = RECENT_MS
"""Within retention, which goes by the timestamps of the records."""


async def dlq(site: Site, *arguments: str) -> Said:
    return await site.said("dlq", *arguments)


@asynccontextmanager
async def replaying(site: Site, log: Path) -> AsyncIterator[Child]:
    command = Command(argv=(sys.executable, "-m", "service", "dlq", "replay", "--all"), environment=site.settings())
    child = await start_child(command, output=log)
    try:
        yield child
    finally:
        await child.kill()


@asynccontextmanager
async def dead_letters(site: Site) -> AsyncIterator[KafkaDeadLetters]:
    options = {"bootstrap_servers": site.bootstrap_servers}
    async with open_dead_letters(options, prefix=site.prefix, group_id=site.prefix, transactions=True) as log:
        yield log


async def replay_all(log: KafkaDeadLetters) -> Replayed:
    return await replay(log, wanted(), now_ms=AT, dry_run=False, tell=lambda _: None, progress=lambda read, total: None)


def letter(  # noqa: PLR0913
    site: Site,
    partition: int,
    value: bytes | None,
    *,
    key: bytes | None = b"k",
    role: str = Topic.PREDICTIONS,
    source: tuple[int, int] = (0, 0),
    headers: tuple[tuple[str, bytes], ...] = (),
) -> Event:
    """A dead letter as a worker publishes it."""
    ours = dead_letter_headers(site.name(role), *source, "malformed", "no JSON", headers)
    return Event(Topic.DLQ, key, value, ours, AT + (source[1]), partition)


def many(site: Site, count: int) -> list[Event]:
    return [letter(site, i % 4, b"%d" % i, key=b"k%d" % i, source=(i % 4, i)) for i in range(count)]


async def sent_again(site: Site) -> Counter[bytes | None]:
    """Values on the predictions topic; nothing else has ever been sent there."""
    return Counter(record.value for record in await site.read(Topic.PREDICTIONS))


async def test_from_refusal_to_status(site: Site) -> None:
    """The deployment was registered too late: its records are sent again, and counted once."""
    late = DEPLOYMENT.replace("id: flights", "id: late-comer")
    events = [
        Event("predictions", b"r1", prediction("r1", deployment_id="late-comer"), [("own", b"\xff")], AT),
        Event("actuals", b"r1", actual("r1", deployment_id="late-comer"), [], AT + 1),
        Event("predictions", b"bad", b"\x1b[31mno JSON", [], AT + 2),
    ]
    await site.produce(events)
    async with site.worker() as worker:
        await site.processed(worker)
        shown = {one["reason"]: one for one in json.loads((await dlq(site, "ls", "--json")).out)}
        assert shown.keys() == {"unknown_deployment", "malformed"}
        assert (shown["malformed"]["deploymentId"], shown["malformed"]["replayed"]) == (None, False)
        of_deployment = json.loads((await dlq(site, "ls", "--deployment", "late-comer", "--json")).out)
        assert [one["source"]["topic"] for one in of_deployment] == [site.name("predictions"), site.name("actuals")]
        since = json.loads((await dlq(site, "ls", "--since", shown["malformed"]["timestamp"], "--json")).out)
        assert [one["reason"] for one in since] == ["malformed"]

        one = await dlq(site, "show", shown["malformed"]["place"])
        assert "\\x1b[31mno JSON" in one.out and "\x1b" not in one.out
        table = (await dlq(site, "ls", "--reason", "malformed")).out.splitlines()
        assert [table[0].split()[0], table[1].split()[0]] == ["place", shown["malformed"]["place"]]

        (site.directory / "late.yaml").write_text(late)
        await site.run("deployments", "apply", str(site.directory / "late.yaml"))
        dry = await dlq(site, "replay", "--deployment", "late-comer", "--dry-run")
        assert dry.out.splitlines()[-1] == "2 would be sent, 0 were sent before, 0 can not be sent"
        assert len(await site.read("predictions")) == 2
        done = await dlq(site, "replay", "--deployment", "late-comer")
        assert done.out == "2 sent, 0 were sent before, 0 can not be sent\n"
        again = await dlq(site, "replay", *(one["place"] for one in of_deployment))
        assert (again.code, again.out) == (0, "0 sent, 2 were sent before, 0 can not be sent\n"), again

        async def both_counted() -> bool:
            return len(await site.statuses()) == 2

        await worker.until(both_counted, what="two statuses")

        async def no_lag() -> bool:
            figures = await worker.metrics()
            return not any(value for name, value in figures.items() if name.startswith("consumer_lag_records"))

        await worker.until(no_lag, what="no lag")
        assert await worker.terminate() == 0
    _, resent = [one for one in await site.read("predictions") if one.key == b"r1"]
    assert (resent.key, resent.value) == (events[0].key, events[0].value)
    assert (resent.headers, resent.timestamp_ms) == ([("own", b"\xff")], AT)
    marked = json.loads((await dlq(site, "ls", "--json")).out)
    assert {one["place"]: one["replayed"] for one in marked} == {
        shown["malformed"]["place"]: False, **{one["place"]: True for one in of_deployment},
    }  # fmt: skip


async def killed_while_sending(site: Site, log: Path) -> None:
    """Start a replay and kill it as soon as the broker has more from it."""
    partitions = [TopicPartition(site.name(Topic.PREDICTIONS), number) for number in range(site.partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=site.bootstrap_servers) as consumer:
        before = await consumer.end_offsets(partitions)
        async with replaying(site, log) as child, asyncio.timeout(60):
            while child.running and await consumer.end_offsets(partitions) == before:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert child.running, f"it has ended: {log}"
            await child.kill()


async def test_killed_again_and_again(site: Site) -> None:
    """Whenever it is killed, each letter is sent once, byte for byte, to the partition of its key."""
    events = many(site, LETTERS)
    await site.produce(events)
    written = 0
    for attempt in range(10):
        await killed_while_sending(site, site.directory / f"replay-{attempt}.txt")
        written = len(await site.read(Topic.PREDICTIONS, isolation="read_uncommitted"))
        if attempt and written > (await sent_again(site)).total():
            break
    assert (await sent_again(site)).total() < min(written, LETTERS), "no kill was in the middle of a transaction"

    done = await dlq(site, "replay", "--all")
    assert done.code == 0, done.err
    assert await sent_again(site) == Counter(event.value for event in events)
    assert (await dlq(site, "replay", "--all")).out == f"0 sent, {LETTERS} were sent before, 0 can not be sent\n"
    for record in await site.read(Topic.PREDICTIONS):
        assert record.key == b"k" + (record.value or b"")
        assert record.partition == site.home(record.key)
        assert (record.headers, record.timestamp_ms) == ([], AT + int(record.value or b""))


async def test_a_run_that_hangs_is_ended_by_the_next(site: Site) -> None:
    """Its letters were out but not committed: they never were, for whoever reads committed."""
    await site.produce([letter(site, 0, b"one"), letter(site, 0, b"two")])
    async with dead_letters(site) as hanging, dead_letters(site) as other, hanging.replaying(0) as slow:
        producer: AIOKafkaProducer = slow._producer  # type: ignore[attr-defined]
        await producer.begin_transaction()
        await producer.send_and_wait(site.name(Topic.PREDICTIONS), b"one", partition=site.home(b"k"))
        assert await replay_all(other) == Replayed(sent=2, before=0, refused=0)
        with pytest.raises(ProducerFenced):
            await producer.commit_transaction()
    assert await sent_again(site) == Counter([b"one", b"two"])


async def test_a_run_that_wakes_up_has_lost_the_right(site: Site) -> None:
    await site.produce([letter(site, 0, b"one")])
    async with dead_letters(site) as asleep, dead_letters(site) as other, asleep.replaying(0) as slow:
        assert await replay_all(other) == Replayed(sent=1, before=0, refused=0)
        with pytest.raises(Conflict):
            await slow.send([OutRecord(Topic.PREDICTIONS, 0, b"k", b"one", [], AT)])
    assert await sent_again(site) == Counter([b"one"])


async def test_two_at_once(site: Site) -> None:
    await site.produce(many(site, 2_000))
    said = await asyncio.gather(*(dlq(site, "replay", "--all") for _ in range(3)))
    assert 0 in {one.code for one in said}
    assert all(one.code == 0 or "another replay" in one.err for one in said), said
    assert (await dlq(site, "replay", "--all")).code == 0
    assert await sent_again(site) == Counter(b"%d" % i for i in range(2_000))


async def test_a_mark_behind_an_open_transaction_counts(site: Site) -> None:
    """Committed marks can not be read while an earlier transaction on the topic is open: the next run waits for it."""
    await site.produce([letter(site, 0, b"one")])
    producer = AIOKafkaProducer(bootstrap_servers=site.bootstrap_servers, transactional_id=f"{site.prefix}-other")
    async with producer, dead_letters(site) as log:
        async with log.replaying(0) as replayer:
            await log.settled(0)
            await producer.begin_transaction()
            late = letter(site, 0, b"late")
            await producer.send_and_wait(site.name("dlq"), late.value, late.key, 0, headers=list(late.headers))
            value, headers = replay_mark([0])
            mark = OutRecord(Topic.DLQ, 0, None, value, headers, AT)
            await replayer.send([OutRecord(Topic.PREDICTIONS, 0, b"k", b"one", [], AT), mark])
        running = asyncio.create_task(replay_all(log))
        await asyncio.sleep(1)
        assert not running.done()
        await producer.commit_transaction()
        assert await running == Replayed(sent=1, before=1, refused=0)
    assert await sent_again(site) == Counter([b"one", b"late"])


async def test_what_can_and_can_not_be_sent(site: Site) -> None:
    own = (("hindsight.reason", b"mine"), ("__connect.errors.topic", b"theirs"), ("h", b""))
    kept, note = truncated(b"x" * 100_000)
    cut = letter(site, 1, kept)
    places = await site.produce(
        [
            letter(site, 0, None, key=None, source=(3, 5), headers=own),
            letter(site, 0, b"e", key=b"", role=Topic.ACTUALS),
            letter(site, 1, b"large" * 100_000),
            cut._replace(headers=[*cut.headers, note]),
            letter(site, 1, b"r", role=Topic.REKEY),
            Event(Topic.DLQ, b"foreign", b"none of ours", [], AT, 1),
        ]
    )
    named = [f"{place.partition}/{place.offset}" for place in places]
    said = await dlq(site, "replay", *named, "2/7")
    assert (said.code, said.out) == (1, "3 sent, 0 were sent before, 4 can not be sent\n")
    told = dict(line.split(" can not be sent: ") for line in said.err.splitlines())
    assert told.keys() == {*named[3:], "2/7"}
    assert "its value was cut (length=100000;" in told[named[3]]
    assert "which is no partition of" in told[named[4]]
    assert "there is no dead letter at" in told[named[5]] and "there is no dead letter at 2/7" in told["2/7"]

    (null,) = [one for one in await site.read(Topic.PREDICTIONS) if one.value is None]
    assert (null.partition, null.key, null.headers) == (3, None, list(own))
    (empty,) = await site.read(Topic.ACTUALS)
    assert (empty.partition, empty.key, empty.value) == (site.home(b""), b"", b"e")
    shown = json.loads((await dlq(site, "show", named[0], "--json")).out)
    assert shown["headers"][0] == {"name": "hindsight.reason", "text": "mine"}
    assert (shown["key"], shown["value"], shown["replayed"]) == ({"text": None}, {"text": None}, True)
    assert (await dlq(site, "show", "1/99")).code == 1
    assert "there are 0 to 3" in (await dlq(site, "show", "9/0")).err
    for wrong in (("replay",), ("replay", "--all", "--limit", "1", "0/1"), ("show", "x"), ("ls", "--since", "today")):
        said = await dlq(site, *wrong)
        assert (said.code, len(said.err.splitlines())) == (2, 1), said


async def test_marks_are_no_letters(site: Site) -> None:
    """Also where one chunk does not hold all."""
    await site.produce([letter(site, 0, b"%d" % i, source=(0, i)) for i in range(1_200)])
    assert (await dlq(site, "replay", "--partition", "0", "--limit", "1100")).out.startswith("1100 sent")
    everything: list[Read] = await site.read("dlq")
    marks = [one for one in everything if "hindsight.reason" not in one.header]
    assert [one.header["hindsight.replayed"] for one in marks] == [b"500", b"500", b"100"]
    listed = json.loads((await dlq(site, "ls", "--partition", "0", "--json")).out)
    assert len(listed) == 1_200
    assert Counter(one["replayed"] for one in listed) == {True: 1_100, False: 100}


async def test_without_transactions(tmp_path: Path, topic_prefix: str) -> None:
    """Tansu: sent and marked all the same, as long as nobody kills it between."""
    async with open_tansu(tmp_path) as tansu:
        options = {"bootstrap_servers": tansu.bootstrap_servers, "security_protocol": "PLAINTEXT"}
        await create_topics(options, topic_prefix, partitions=2, replication_factor=1, min_insync=1)
        name = topic_name(topic_prefix, Topic.DLQ)
        headers = dead_letter_headers(topic_name(topic_prefix, Topic.ACTUALS), 1, 0, "malformed", "no JSON", [])
        async with AIOKafkaProducer(**options) as producer:
            for value in (b"a", b"b"):
                await producer.send_and_wait(name, value, b"k", 1, timestamp_ms=AT, headers=headers)
        opening = open_dead_letters(options, prefix=topic_prefix, group_id="g", transactions=False)
        async with opening as log:
            assert await replay_all(log) == Replayed(sent=2, before=0, refused=0)
            assert await replay_all(log) == Replayed(sent=0, before=2, refused=0)
