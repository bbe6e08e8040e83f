"""Records that a foreign partitioner sent elsewhere travel through `rekey` to their home task, and count once.

predictions/1   P                        offset 0, but home is task 3
                 \\ forwarded
rekey/3           P'                     headers + hindsight-origin: monitoring.predictions.v1/1/0
status/3          ACCEPTED               source: predictions/1/0
"""

from service.ports import OutRecord, Topic
from tests.builders import ASSOCIATION_ID, actual, deployment, prediction
from tests.flow.conftest import Opened
from tests.flow.published import words
from tests.flow.world import FlowWorld

ORIGIN = "hindsight-origin"


def elsewhere(world: FlowWorld, association_id: str = ASSOCIATION_ID) -> int:
    return (world.home(association_id) + 1) % world.broker.partitions


def test_a_stray_is_answered_at_its_home(world: FlowWorld) -> None:
    away = elsewhere(world)
    status = world.predicted(prediction(), partition=away, headers=[("h", b"1")], timestamp=world.now_ms - 7)
    assert (status.word, status.task) == ("ACCEPTED", world.home(ASSOCIATION_ID))
    assert status.source == ("monitoring.predictions.v1", away, 0)
    assert status.headers["hindsight-source"] == b"monitoring.predictions.v1/%d/0" % away
    (forwarded,) = world.forwarded()
    sent = world.broker.log(Topic.PREDICTIONS, away).records[0]
    assert (forwarded.key, forwarded.value, forwarded.timestamp) == (sent.key, sent.value, sent.timestamp)
    assert list(forwarded.headers) == [("h", b"1"), (ORIGIN, b"monitoring.predictions.v1/%d/0" % away)]
    assert world.told(actual(), partition=away).word == "MATCHED"
    assert world.confusion() == {(1, 1): 1}


def test_received_counts_at_the_home_task(world: FlowWorld) -> None:
    away, home = elsewhere(world), world.home(ASSOCIATION_ID)
    world.predicted(prediction(), partition=away)
    assert world.clocks(home)["flights"].predictions_received == 1
    assert world.clocks(away)["flights"].predictions_received == 0
    assert world.workers["one"].metric("records_total", topic="predictions") == 1


def test_a_forwarding_that_is_repeated_counts_once(world: FlowWorld) -> None:
    away, home = elsewhere(world), world.home(ASSOCIATION_ID)
    world.predicted(prediction(), partition=away)
    world.predict(prediction("next"), partition=away)
    world.settle()
    for record in list(world.broker.log(Topic.REKEY, home).records):
        world.broker.produce(
            Topic.REKEY, record.key, record.value, partition=home, headers=record.headers, timestamp=record.timestamp
        )
    assert world.settle() == []
    assert world.checkpoint(home).origins[f"monitoring.predictions.v1/{away}"] >= 0


def test_the_same_forwarding_twice_in_one_micro_batch_counts_once(opened: Opened) -> None:
    world = opened(deployment(), started=False)
    away, home = elsewhere(world), world.home(ASSOCIATION_ID)
    world.start("forwards", [away])
    world.tell(actual(), partition=away)
    world.settle()
    (record,) = world.forwarded()
    world.broker.produce(
        Topic.REKEY, record.key, record.value, partition=home, headers=record.headers, timestamp=record.timestamp
    )
    world.start("receives", [home])
    assert words(world.settle()) == ["EARLY"]
    assert world.checkpoint(home).origins == {f"monitoring.actuals.v1/{away}": 0}


def test_a_refused_stray_is_refused_at_its_home(world: FlowWorld) -> None:
    away = elsewhere(world)
    status = world.predicted(prediction(prediction="early"), partition=away, headers=[("h", b"1")])
    assert (status.word, status.task) == ("INVALID", world.home(ASSOCIATION_ID))
    (letter,) = world.dead_letters()
    assert letter.source == ("monitoring.predictions.v1", away, 0)
    assert (letter.headers["h"], ORIGIN in letter.headers) == (b"1", False)


def test_a_stray_that_does_not_decode_but_names_its_row_is_refused_at_its_home(world: FlowWorld) -> None:
    status = world.predicted(prediction(timestamp="soon"), partition=elsewhere(world))
    assert (status.word, status.task) == ("INVALID", world.home(ASSOCIATION_ID))


def test_a_stray_of_an_unknown_deployment_is_a_dead_letter_once(world: FlowWorld) -> None:
    world.predict(prediction(deployment_id="nobody"), partition=elsewhere(world))
    assert world.settle() == []
    assert [letter.reason for letter in world.dead_letters()] == ["unknown_deployment"]


def test_a_forwarded_record_whose_home_is_not_here_is_never_sent_on_again(world: FlowWorld) -> None:
    away = elsewhere(world)
    headers = [("h", b"1"), (ORIGIN, b"monitoring.predictions.v1/0/0")]
    world.broker.produce(Topic.REKEY, b"k", prediction(), partition=away, headers=headers, timestamp=7)
    assert world.settle() == []
    (letter,) = world.dead_letters()
    assert (letter.reason, letter.source) == ("misplaced_rekey", ("monitoring.rekey.v1", away, 0))
    assert (letter.value, letter.headers["h"], letter.timestamp) == (prediction(), b"1", 7)
    assert len(world.forwarded()) == 1


def test_what_was_not_forwarded_by_us_is_a_dead_letter(world: FlowWorld) -> None:
    marks = [None, b"", b"x/0/0", b"monitoring.predictions.v1/0", b"monitoring.predictions.v1/-1/0", b"\xff/1/1"]
    for mark in marks:
        headers = [] if mark is None else [(ORIGIN, mark)]
        world.broker.produce(Topic.REKEY, b"k", prediction(), partition=world.home(ASSOCIATION_ID), headers=headers)
    assert world.settle() == []
    assert [letter.reason for letter in world.dead_letters()] == ["misplaced_rekey"] * len(marks)


#   predictions/1   a b c d ...   every key, whatever its home
#   rekey/0..3      each at its home, in the order of its origin


def test_a_producer_with_another_partitioner_loses_nothing(world: FlowWorld) -> None:
    ids = [f"row-{number}" for number in range(40)]
    for one in ids:
        world.predict(prediction(one), partition=1)
    for one in ids:
        world.tell(actual(one), partition=2)
    assert words(world.settle()).count("MATCHED") == 40
    assert world.confusion() == {(1, 1): 40}
    assert {status.source[1] for status in world.statuses() if status.source} == {1, 2}


def test_a_stray_that_is_too_large_to_be_sent_on_is_a_dead_letter(world: FlowWorld) -> None:
    """Compressed, a producer's record may be larger than what we could send on to every broker."""
    huge = prediction(features={"text": "x" * 900_000})
    world.predict(huge, partition=elsewhere(world))
    assert world.settle() == []
    assert [letter.reason for letter in world.dead_letters()] == ["too_large"]
    assert world.forwarded() == []
    assert world.predicted(huge).word == "ACCEPTED", "at home it is welcome"


def test_a_row_without_any_id_is_at_home_anywhere(world: FlowWorld) -> None:
    assert world.predicted(prediction(None), partition=2).task == 2
    assert world.forwarded() == []


def test_outgoing_strays_keep_their_place_in_the_slot(world: FlowWorld) -> None:
    """A slot is republished as it is: what it holds of a stray must be all of it."""
    from service.wire.record_batch import records_of
    from service.wire.slot import unpack_slot

    away = elsewhere(world)
    world.predicted(prediction(), partition=away)
    (batch,) = unpack_slot(world.checkpoint(away).slot)
    (record,) = records_of(batch)
    assert isinstance(record, OutRecord)
    assert (record.topic, record.partition, record.value) == (Topic.REKEY, world.home(ASSOCIATION_ID), prediction())
