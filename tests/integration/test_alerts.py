"""`hindsight alerts` on a real Apache Kafka, before a real webhook."""

import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from service.devstack.kafka import Kafka
from service.domain.ids import murmur2
from service.domain.records import Topic
from tests.integration.alerts import PARTITIONS, AlertsSite, Process, Receiver, open_alerts_site, open_receiver, until


@pytest.fixture
async def alerts_site(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> AsyncIterator[AlertsSite]:
    async with open_alerts_site(kafka.bootstrap_servers, topic_prefix.rstrip("."), tmp_path) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with open_receiver(Receiver()) as opened:
        yield opened


async def test_each_is_told_once_and_in_order(alerts_site: AlertsSite, receiver: Receiver) -> None:
    await alerts_site.happen("b0", "CREATED")  # before it is started for the first time
    async with alerts_site.alerts(receiver.url) as alerts:
        await alerts.ready()
        for number in range(1, 10):
            await alerts_site.happen(f"b{number}", "CREATED", "LOCKED")
        await alerts_site.happen("b0", "SERVICE_HEALTH_CHANGED", health={"status": "failing"}, batchName=None)
        await receiver.heard(20)

        assert await alerts.terminate() == 0
        assert all(json.loads(line)["level"] == "info" for line in alerts.text().splitlines()), alerts.text()

    per_batch = {batch: [event for b, event, _ in receiver.told() if b == batch] for batch, _, _ in receiver.told()}
    assert per_batch.pop("b0") == ["CREATED", "SERVICE_HEALTH_CHANGED"]
    assert list(per_batch.values()) == [["CREATED", "LOCKED"]] * 9
    assert {changes for _, _, changes in receiver.told()} == {1}
    assert len({one["id"] for one in receiver.accepted}) == 20
    unknown = next(one for one in receiver.accepted if one["event"] == "SERVICE_HEALTH_CHANGED")
    assert unknown["details"] == {"health": {"status": "failing"}}

    async with alerts_site.alerts(receiver.url) as again:  # what was told was committed
        await again.ready()
        await alerts_site.happen("last", "CREATED")
        await receiver.heard(21)
    assert len(receiver.accepted) == 21


async def test_what_flaps_is_told_twice(alerts_site: AlertsSite, receiver: Receiver) -> None:
    """The first change at once; of the other nineteen the last one, once they have ended."""
    async with alerts_site.alerts(receiver.url) as alerts:
        await alerts.ready()
        await alerts_site.happen("b", *["LOCKED", "UNLOCKED"] * 10)
        await receiver.heard(2)
        await alerts_site.happen("other", "CREATED")
        await receiver.heard(3)
        assert await alerts.metric("alert_changes_suppressed_total") == 18
        assert await alerts.metric('alert_events_total{outcome="held"}') == 19
    assert receiver.told() == [("b", "LOCKED", 1), ("b", "UNLOCKED", 19), ("other", "CREATED", 1)]


async def test_back_to_what_was_told_is_not_told(alerts_site: AlertsSite, receiver: Receiver) -> None:
    async with alerts_site.alerts(receiver.url) as alerts:
        await alerts.ready()
        await alerts_site.happen("b", "LOCKED", "UNLOCKED", "LOCKED")

        async def settled() -> bool:
            return await alerts.metric("alert_changes_suppressed_total") == 2

        await until(settled, what="two changes that led back")
        await alerts_site.happen("b", "UNLOCKED")  # quiet before: told at once
        await receiver.heard(2)
    assert receiver.told() == [("b", "LOCKED", 1), ("b", "UNLOCKED", 1)]


async def test_only_what_is_wanted(alerts_site: AlertsSite, receiver: Receiver) -> None:
    async with alerts_site.alerts(receiver.url, ALERTS__EVENTS="LOCKED, DELETED") as alerts:
        await alerts.ready()
        await alerts_site.happen("b", "CREATED", "LOCKED", "UNLOCKED", "DELETED")
        await receiver.heard(2)
        assert await alerts.metric('alert_events_total{outcome="unwanted"}') == 2
    assert receiver.told() == [("b", "LOCKED", 1), ("b", "DELETED", 1)]


async def test_a_busy_receiver_is_tried_again(alerts_site: AlertsSite, receiver: Receiver) -> None:
    receiver.answers.extend([503, 429])
    signed = {"ALERTS__SIGNING_KEY": "a key", "ALERTS__BEARER_TOKEN": "a token"}
    async with alerts_site.alerts(receiver.url, **signed) as alerts:
        await alerts.ready()
        await alerts_site.happen("b", "CREATED", "LOCKED")
        await receiver.heard(2)
        assert await alerts.terminate() == 0
        assert "a token" not in alerts.text() and "a key" not in alerts.text()
    assert receiver.told() == [("b", "CREATED", 1), ("b", "LOCKED", 1)]
    assert len(receiver.requests) == 4
    assert len({body for _, body in receiver.requests[:3]}) == 1
    for headers, body in receiver.requests:
        assert headers["Authorization"] == "Bearer a token"
        assert headers["X-Hindsight-Signature"] == "sha256=" + hmac.new(b"a key", body, "sha256").hexdigest()


async def test_what_is_refused_is_a_dead_letter(alerts_site: AlertsSite, receiver: Receiver) -> None:
    receiver.answers.extend([400, 302])
    async with alerts_site.alerts(receiver.url) as alerts:
        await alerts.ready()
        await alerts_site.happen("b", "CREATED", "LOCKED")
        await alerts_site.producer.send_and_wait(alerts_site.name(Topic.BATCHES), b"no event", key=b"k", partition=0)
        letters = {letter.headers["hindsight.detail"]: letter for letter in await alerts_site.letters(3)}
        await alerts_site.happen("c", "CREATED")
        await receiver.heard(1)
    refused = letters["HTTP 400 Bad Request"]
    assert refused.key == b"flights/b"
    assert refused.headers | {"hindsight.source": ""} == {
        "hindsight.reason": "refused",
        "hindsight.detail": "HTTP 400 Bad Request",
        "hindsight.source": "",
        "hindsight.attempts": "1",
        "hindsight.status": "400",
    }
    assert refused.value == receiver.requests[0][1]
    assert receiver.told() == [("c", "CREATED", 1)]
    assert letters["HTTP 302 Found"].headers["hindsight.reason"] == "refused"
    (unreadable,) = (letter for letter in letters.values() if letter.headers["hindsight.reason"] == "unreadable")
    assert (unreadable.key, unreadable.value) == (b"k", b"no event")


async def test_whoever_stays_away_is_given_up(alerts_site: AlertsSite, receiver: Receiver) -> None:
    receiver.always = 503
    async with alerts_site.alerts(receiver.url, ALERTS__GIVE_UP_AFTER_S="1") as alerts:
        await alerts.ready()
        await alerts_site.happen("b", "CREATED")
        (letter,) = await alerts_site.letters(1)
    assert (letter.headers["hindsight.reason"], letter.headers["hindsight.status"]) == ("gave_up", "503")
    assert int(letter.headers["hindsight.attempts"]) == len(receiver.requests) > 1
    assert {body for _, body in receiver.requests} == {letter.value}


async def test_nothing_is_lost_by_a_kill(alerts_site: AlertsSite) -> None:
    """What was under way comes again under its ID; what was held is told by the next process."""
    receiver = Receiver()
    async with open_receiver(receiver):
        async with alerts_site.alerts(receiver.url, ALERTS__WINDOW_S="600") as alerts:
            await alerts.ready()
            await alerts_site.happen("held", "LOCKED", "UNLOCKED")
            await receiver.heard(1)

            async def held() -> bool:
                return await alerts.metric('alert_events_total{outcome="held"}') == 1

            await until(held, what="a held change")
            receiver.always = 503
            await alerts_site.happen("away", "CREATED", "LOCKED")
            await until(lambda: len(receiver.requests) > 2, what="attempts")
            await alerts.kill()
    async with alerts_site.alerts(receiver.url, ALERTS__WINDOW_S="1") as alerts:  # nobody listens
        await alerts.ready()
        await until(lambda: _trouble_seen(alerts), what="trouble with the receiver")
        receiver.always = None
        async with open_receiver(receiver):
            await receiver.heard(4)
            assert await alerts.terminate() == 0
    assert {(one["batchId"], one["event"], one["changes"]) for one in receiver.accepted} == {
        ("held", "LOCKED", 1),
        ("held", "UNLOCKED", 1),
        ("away", "CREATED", 1),
        ("away", "LOCKED", 1),
    }
    assert len({one["id"] for one in receiver.accepted}) == 4
    tried = [json.loads(body) for _, body in receiver.requests if b'"away"' in body and b"CREATED" in body]
    assert len({one["id"] for one in tried}) == 1


async def _trouble_seen(alerts: Process) -> bool:
    answer = await alerts.get("readyz")
    return answer is not None and answer.status_code == 200 and "receiver" in answer.json()["detail"]


async def test_an_aborted_transaction_is_never_told(alerts_site: AlertsSite, receiver: Receiver) -> None:
    topic = alerts_site.name(Topic.BATCHES)
    transactional = AIOKafkaProducer(bootstrap_servers=alerts_site.bootstrap_servers, transactional_id=f"{topic}-t")

    async def publish(batch: str, *, commit: bool) -> None:
        await transactional.begin_transaction()
        key, value = alerts_site.record(batch, "CREATED")
        await transactional.send_and_wait(topic, value, key=key, partition=0)
        await (transactional.commit_transaction() if commit else transactional.abort_transaction())

    async with transactional, alerts_site.alerts(receiver.url) as alerts:
        await publish("aborted-first", commit=False)
        await publish("first", commit=True)
        await alerts.ready()
        await receiver.heard(1)
        await publish("aborted", commit=False)
        await publish("second", commit=True)
        await receiver.heard(2)
        assert await alerts.terminate() == 0
    assert receiver.told() == [("first", "CREATED", 1), ("second", "CREATED", 1)]
    async with alerts_site.alerts(receiver.url) as alerts:  # markers and gaps kept no offset back
        await alerts.ready()
        await alerts_site.happen("third", "CREATED")
        await receiver.heard(3)
    assert len(receiver.accepted) == 3


async def test_another_goes_on_with_the_table(alerts_site: AlertsSite, receiver: Receiver) -> None:
    """Two share the partitions; one is stopped while changes of both are held."""
    batches = [f"b{number}" for number in range(8)]
    long = {"ALERTS__WINDOW_S": "600"}
    async with alerts_site.alerts(receiver.url, **long) as one, alerts_site.alerts(receiver.url, **long) as two:
        await one.ready(tasks=1)
        await two.ready(tasks=1)
        for batch in batches:
            await alerts_site.happen(batch, "LOCKED", "UNLOCKED", "LOCKED", "UNLOCKED")

        async def held(count: int, *processes: Process) -> bool:
            return sum([await p.metric('alert_events_total{outcome="held"}') for p in processes]) == count

        await until(lambda: held(24, one, two), what="24 held changes")
        before = int(await two.metric('alert_events_total{outcome="held"}'))
        assert 0 < before < 24
        assert await one.terminate() == 0
        await two.ready(tasks=2)
        for batch in batches:
            await alerts_site.happen(batch, "LOCKED", "UNLOCKED")
        await until(lambda: held(before + 16, two), what="16 more, of all partitions")
        assert receiver.told() == [(batch, "LOCKED", 1) for batch in dict.fromkeys(b for b, _, _ in receiver.told())]
        await two.kill()
    async with alerts_site.alerts(receiver.url, ALERTS__WINDOW_S="1"):  # by now all is quiet
        await receiver.heard(16)
    assert sorted(receiver.told()[8:]) == [(batch, "UNLOCKED", 5) for batch in batches]


async def test_it_does_not_start_without_a_webhook_or_its_topics(
    alerts_site: AlertsSite, receiver: Receiver, admin: AIOKafkaAdminClient
) -> None:
    async with alerts_site.alerts("") as alerts:
        assert await alerts.ended() == 2
        assert "HINDSIGHT_ALERTS__WEBHOOK_URL: hindsight alerts requires it" in alerts.text()
    changelog = alerts_site.name(Topic.ALERTS_CHANGELOG)
    await admin.delete_topics([changelog])

    async def gone() -> bool:
        return changelog not in await admin.list_topics()

    await until(gone, what="deletion")
    async with alerts_site.alerts(receiver.url) as alerts:
        assert await alerts.ended() == 1
        create = f"hindsight topics create --partitions {PARTITIONS}"
        assert f"{changelog} does not exist; create it: {create}" in alerts.text()
        assert "Traceback" not in alerts.text()
    assert changelog not in await admin.list_topics()


async def test_probes_and_lag(alerts_site: AlertsSite, receiver: Receiver) -> None:
    async with alerts_site.alerts(receiver.url) as alerts:
        await alerts.ready()
        for path in ("livez", "startupz"):
            answer = await alerts.get(path)
            assert answer is not None and answer.status_code == 200
        key, _ = alerts_site.record("b", "CREATED")
        series = f'consumer_lag_records{{partition="{murmur2(key) % PARTITIONS}",'
        series += f'topic="{alerts_site.name(Topic.BATCHES)}"}}'

        async def lag(records: int) -> bool:
            answer = await alerts.get("metrics")
            assert answer is not None
            return f"hindsight_{series} {records:.1f}" in answer.text

        receiver.always = 503
        await alerts_site.happen("b", "CREATED", "LOCKED", "DELETED")
        await until(lambda: lag(3), what="lag of what waits for the receiver")
        receiver.always = None
        await until(lambda: lag(0), what="no lag")
        assert await alerts.metric('notifications_total{result="delivered"}') == 2
        assert await alerts.metric("notification_seconds_count") == 2
