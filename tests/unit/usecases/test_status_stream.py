"""Statuses one after the other: what is shown, what is a repeat, what is missing."""

import json
from typing import Any

import pytest

from service.domain.errors import Invalid
from service.domain.ids import home_of
from service.usecases.status_stream import Following, Gap, Published, Told, Wanted, checked_words, document, told_by


def published(seq: int | None, *, partition: int = 0, row: str = "a/b", offset: int = 0, **fields: Any) -> Published:
    value = None
    if seq is not None:
        shown = {"deploymentId": "flights", "rowId": row, "status": "ACCEPTED", "seq": seq, **fields}
        value = json.dumps(shown).encode()
    return Published(partition, offset, 1_767_261_420_123, f"flights/{row}".encode(), value, ())


def told(seq: int | None, **fields: Any) -> Told:
    return told_by(published(seq, **fields))


def taken(*records: Published) -> list[str]:
    following = Following()
    return [
        str(one) if isinstance(one, Gap) else f"{one.word} {one.status.seq if one.status else ''}".strip()
        for record in records
        for one in following.take(record)
    ]


def test_each_status_is_told_once() -> None:
    assert taken(*map(published, (5, 6, 6, 5, 7))) == ["ACCEPTED 5", "ACCEPTED 6", "ACCEPTED 7"]


def test_a_gap_is_told_before_what_follows_it() -> None:
    assert taken(*map(published, (0, 2, 6))) == [
        "ACCEPTED 0",
        "partition 0: seq 1 missing: lost, unless compaction has taken them since",
        "ACCEPTED 2",
        "partition 0: seq 3 to 5 missing: lost, unless compaction has taken them since",
        "ACCEPTED 6",
    ]


def test_each_partition_counts_for_itself() -> None:
    assert taken(published(3), published(9, partition=1), published(4), published(10, partition=1)) == [
        "ACCEPTED 3", "ACCEPTED 9", "ACCEPTED 4", "ACCEPTED 10",
    ]  # fmt: skip


def test_a_tombstone_has_no_number_and_is_always_told() -> None:
    assert taken(published(3), published(None), published(None), published(4)) == [
        "ACCEPTED 3", "TOMBSTONE", "TOMBSTONE", "ACCEPTED 4",
    ]  # fmt: skip


def test_what_is_wanted() -> None:
    one, ended = told(1), told(None)
    assert Wanted().takes(one) and Wanted().takes(ended)
    assert Wanted(deployment_id="flights", row_id="a/b").takes(ended)
    assert not Wanted(deployment_id="rain").takes(one)
    assert not Wanted(row_id="b").takes(one)
    assert Wanted(words=checked_words(["accepted"])).takes(one)
    assert not Wanted(words=checked_words(["accepted"])).takes(ended)
    assert Wanted(words=checked_words(["Tombstone", "matched"])).takes(ended)


def test_an_unknown_status_is_named() -> None:
    with pytest.raises(Invalid, match="status: LOST: must be one of ACCEPTED, MATCHED,"):
        checked_words(["matched", "lost"])


def test_only_the_partitions_in_which_it_can_lie_are_read() -> None:
    home = home_of("UA1", 8)
    assert home is not None
    assert Wanted().partitions(3) == [0, 1, 2]
    assert Wanted(partition=2).partitions(3) == [2]
    assert Wanted(row_id="UA1").partitions(8) == [home]
    assert Wanted(row_id="UA1", partition=home).partitions(8) == [home]
    assert Wanted(row_id="record:x:1:2").partitions(2) == [0, 1]
    with pytest.raises(Invalid, match="partition: the status topic has partitions 0 to 2"):
        Wanted(partition=3).partitions(3)
    with pytest.raises(Invalid, match=f"partition: row 'UA1' lives in partition {home}"):
        Wanted(row_id="UA1", partition=(home + 1) % 8).partitions(8)


def test_a_document_is_the_status_as_it_was_published_and_its_place() -> None:
    one = published(7, partition=2, offset=11, prediction={"late": 0.10, "on_time": 9e-1})
    text = document(told_by(one))
    assert text.startswith('{"partition":2,"offset":11,"time":"2026-01-01T09:57:00.123000Z","deploymentId"')
    assert one.value is not None and text.endswith(one.value.decode()[1:])
    assert json.loads(text)["rowId"] == "a/b"
    assert json.loads(document(told(None, partition=2, offset=12))) == {
        "partition": 2, "offset": 12, "time": "2026-01-01T09:57:00.123000Z", "deploymentId": "flights",
        "rowId": "a/b", "tombstone": True,
    }  # fmt: skip


def test_what_is_no_status_is_named_by_its_place() -> None:
    with pytest.raises(Invalid, match="partition 0, offset 3 of the status topic: not a status"):
        told_by(published(1, offset=3)._replace(value=b"{}"))
