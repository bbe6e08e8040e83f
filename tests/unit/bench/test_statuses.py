"""The benchmark's judge of statuses: it takes the right ones, and finds each one that is wrong, missing or doubled."""

from collections.abc import Callable
from itertools import count

import msgspec
import numpy as np
import orjson
import pytest

from bench.expected import Expected, expect
from bench.statuses import Judge, Published, WrongStatus
from bench.workloads import PARTITIONS, Events, open_workload
from service.devstack.demo.replay import PREDICTION
from service.domain.records import INPUT_TOPICS, topic_name
from service.domain.row import RowPhase, RowState, decode_row, encode_row

_SIZE = 300
_PREFIX = "made"
Statuses = dict[int, list[Published]]


def workload() -> Events:
    (events,) = open_workload("corrections", _SIZE, start_us=1_790_000_000_000_000).chunks()
    return events


def right_statuses(events: Events) -> Statuses:
    """What the service would publish, of each partition."""
    rows: dict[int, RowState] = {}
    statuses: Statuses = {partition: [] for partition in range(PARTITIONS)}
    offsets = {(topic, partition): count() for topic in (0, 1) for partition in range(PARTITIONS)}
    columns = zip(events.topics.tolist(), events.rows.tolist(), events.partitions.tolist(), events.values, strict=True)
    for topic, number, partition, value in columns:
        event = orjson.loads(value)
        at = int(np.datetime64(event["timestamp"].rstrip("Z"), "us").astype(np.int64))
        old = rows.get(number)
        if topic == PREDICTION:
            word, text = "ACCEPTED", orjson.dumps(event["prediction"])
            row = RowState(RowPhase.OPEN, 1, at, 0, 0, 0, 0, 0, text, b"", "first", "")
        else:
            assert old is not None
            word, text = ("CORRECTED" if old.actual else "MATCHED"), orjson.dumps(event["actual"])
            row = msgspec.structs.replace(
                old, phase=RowPhase.MATCHED, revision=old.revision + 1, actual=text, actual_at=at
            )
        rows[number] = row
        source = (topic, partition, next(offsets[topic, partition]))
        statuses[partition].append(published(event, word, row, old, source, len(statuses[partition])))
    return statuses


def published(
    event: dict[str, str], word: str, row: RowState, old: RowState | None, source: tuple[int, int, int], seq: int
) -> Published:
    topic, partition, offset = source
    status = {
        "deploymentId": event["deploymentId"],
        "rowId": event["associationId"],
        "status": word,
        "seq": seq,
        "revision": row.revision,
        "predictedAt": instant(row.predicted_at),
        "prediction": orjson.Fragment(row.prediction),
        "source": {"topic": topic_name(_PREFIX, INPUT_TOPICS[topic]), "partition": partition, "offset": offset},
    }
    if row.actual:
        status |= {"actualAt": instant(row.actual_at), "actual": orjson.Fragment(row.actual)}
    if word == "CORRECTED" and old is not None:
        status["previousActual"] = orjson.Fragment(old.actual)
    key = f"{event['deploymentId']}/{event['associationId']}".encode()
    return Published(seq, key, orjson.dumps(status), encode_row(row), seq)


def instant(at_us: int) -> str:
    return f"{np.datetime64(at_us, 'us')}Z"


@pytest.fixture(scope="module")
def expected() -> Expected:
    return expect([workload()], _SIZE, {})


def judged(expected: Expected, statuses: Statuses) -> Judge:
    judge = Judge(expected, _PREFIX)
    for partition, found in statuses.items():
        of_partition = judge.partition(partition)
        of_partition.take(found)
        of_partition.close()
    judge.close()
    return judge


def test_the_right_statuses_are_taken(expected: Expected) -> None:
    judge = judged(expected, right_statuses(workload()))
    assert judge.outcomes == {
        ("corrections", "ACCEPTED"): _SIZE,
        ("corrections", "MATCHED"): _SIZE,
        ("corrections", "CORRECTED"): _SIZE // 20,
    }


def the_last_matched(statuses: Statuses) -> tuple[int, int]:
    """Partition and place of a status that ends its row."""
    corrected = {one.key for one in statuses[2] if b'"CORRECTED"' in (one.value or b"")}
    ends = [i for i, one in enumerate(statuses[2]) if b'"MATCHED"' in (one.value or b"") and one.key not in corrected]
    return 2, ends[-1]


def changed(statuses: Statuses, **fields: object) -> None:
    partition, place = the_last_matched(statuses)
    one = statuses[partition][place]
    assert one.value is not None
    statuses[partition][place] = one._replace(value=orjson.dumps(orjson.loads(one.value) | fields))


def renumbered(statuses: Statuses) -> None:
    """So that nothing but what was taken out or put in is wrong."""
    for found in statuses.values():
        for seq, one in enumerate(found):
            assert one.value is not None
            found[seq] = one._replace(
                offset=seq, version=seq, value=orjson.dumps(orjson.loads(one.value) | {"seq": seq})
            )


def missing(statuses: Statuses) -> None:
    partition, place = the_last_matched(statuses)
    del statuses[partition][place]


def missing_without_a_gap(statuses: Statuses) -> None:
    missing(statuses)
    renumbered(statuses)


def doubled(statuses: Statuses) -> None:
    partition, place = the_last_matched(statuses)
    statuses[partition].append(statuses[partition][place])


def doubled_without_a_repeated_seq(statuses: Statuses) -> None:
    doubled(statuses)
    renumbered(statuses)


def swapped(statuses: Statuses) -> None:
    found = statuses[1]
    first, second = [i for i, one in enumerate(found) if b'"ACCEPTED"' in (one.value or b"")][:2]
    found[first], found[second] = found[second], found[first]
    renumbered(statuses)


def of_an_older_micro_batch(statuses: Statuses) -> None:
    statuses[1][-1] = statuses[1][-1]._replace(version=0)


def the_correction_first(statuses: Statuses) -> None:
    """Both actuals of a row came in one micro-batch, which took the later one first."""
    found = statuses[2] = [one._replace(version=0) for one in statuses[2]]
    corrected = next(i for i, one in enumerate(found) if b'"CORRECTED"' in (one.value or b""))
    row = found[corrected].key
    matched = next(i for i, one in enumerate(found) if one.key == row and b'"MATCHED"' in (one.value or b""))
    earlier, later = orjson.loads(found[matched].value or b""), orjson.loads(found[corrected].value or b"")
    taken = later | {"status": "MATCHED", "seq": matched, "revision": earlier["revision"]}
    del taken["previousActual"]
    state = msgspec.structs.replace(decode_row(found[corrected].state), revision=earlier["revision"])
    found[matched] = found[matched]._replace(value=orjson.dumps(taken), state=encode_row(state))
    then = later | {"source": earlier["source"]}
    found[corrected] = found[corrected]._replace(value=orjson.dumps(then))


def elsewhere(statuses: Statuses) -> None:
    partition, place = the_last_matched(statuses)
    statuses[1].append(statuses[partition].pop(place))
    renumbered(statuses)


def old_state(statuses: Statuses) -> None:
    partition, place = the_last_matched(statuses)
    one = statuses[partition][place]
    state = msgspec.structs.replace(decode_row(one.state), actual=b"1.5")
    statuses[partition][place] = one._replace(state=encode_row(state))


def forgotten(statuses: Statuses) -> None:
    partition, place = the_last_matched(statuses)
    statuses[partition].append(statuses[partition][place]._replace(value=None, state=b""))


@pytest.mark.parametrize(
    ("plant", "told"),
    [
        (missing, "was next"),
        (missing_without_a_gap, "does not end as it must"),
        (doubled, "was next"),
        (doubled_without_a_repeated_seq, "had a status before"),
        (swapped, "micro-batches later"),
        (of_an_older_micro_batch, "micro-batch 0 comes after"),
        (the_correction_first, "of the same partition and row"),
        (elsewhere, "not at home here"),
        (old_state, "the state of the row"),
        (forgotten, "before its window has ended"),
        (lambda statuses: changed(statuses, status="CORRECTED"), "it must be MATCHED"),
        (lambda statuses: changed(statuses, revision=7), "they must be"),
        (lambda statuses: changed(statuses, prediction=1.25), "they must be"),
        (lambda statuses: changed(statuses, actual=1.25), "they must be"),
        (lambda statuses: changed(statuses, actualAt="2026-01-01T00:00:00Z"), "they must be"),
        (lambda statuses: changed(statuses, rowId="other"), "different rows"),
        (lambda statuses: changed(statuses, source=None), "before its window has ended"),
    ],
)
def test_a_wrong_one_is_found(expected: Expected, plant: Callable[[Statuses], None], told: str) -> None:
    statuses = right_statuses(workload())
    plant(statuses)
    with pytest.raises(WrongStatus, match=told):
        judged(expected, statuses)


def test_a_prediction_without_its_status_is_found(expected: Expected) -> None:
    statuses = right_statuses(workload())
    row = next(one.key for one in statuses[0])
    statuses[0] = [one for one in statuses[0] if one.key != row]
    renumbered(statuses)
    with pytest.raises(WrongStatus, match="rows of"):
        judged(expected, statuses)


def test_rows_of_one_micro_batch_may_come_in_any_order(expected: Expected) -> None:
    statuses = right_statuses(workload())
    swapped(statuses)
    judged(expected, {place: [one._replace(version=0) for one in found] for place, found in statuses.items()})
