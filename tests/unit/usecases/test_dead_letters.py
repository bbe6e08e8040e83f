"""Which dead letters are meant, and which can be sent again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import Invalid
from service.usecases.dead_letters import (
    Letter,
    Place,
    ReplayedOffsets,
    Span,
    deployment_of,
    describe,
    parse_place,
    wanted,
)
from service.usecases.replay import obstacle_to
from service.wire.dead_letter import DeadLetter
from tests.builders import actual, prediction

LETTER = DeadLetter(0, 17, 1_000, b"k", b"v", [], "m.predictions.v1", 2, 5, "malformed", "why", None)


def test_places() -> None:
    assert parse_place("3/4711") == Place(3, 4711)
    assert str(Place(3, 4711)) == "3/4711"


@pytest.mark.parametrize(
    "text", ["", "3", "/", "3/", "/3", "a/1", "-1/1", "1/-1", "1/1/1", "1 /2", "٣/1", "1/" + "9" * 19]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(Invalid, match="PARTITION/OFFSET"):
        parse_place(text)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"reason": "bad"}, "--reason: 'bad' is none of malformed"),
        ({"since": "yesterday"}, "--since: 'yesterday' is no instant"),
        ({"since": "2026-01-01T00:00:00"}, "--since"),
        ({"since": "1969-01-01T00:00:00Z"}, "--since"),
        ({"deployment": "a b"}, "--deployment: 'a b'"),
        ({"places": ["0/1"], "limit": 1}, "either places"),
    ],
)
def test_a_wrong_filter_is_named(given: dict[str, object], rule: str) -> None:
    with pytest.raises(Invalid) as raised:
        wanted(**given)  # type: ignore[arg-type]
    assert rule in str(raised.value)


def test_every_filter_must_let_it_pass() -> None:
    assert wanted().is_everything and wanted(limit=3).is_everything
    assert not wanted(partition=0).is_everything
    assert wanted(["0/17"]).matches(LETTER) and not wanted(["0/16"]).matches(LETTER)
    assert wanted(reason="malformed", since="1970-01-01T00:00:01+00:00").matches(LETTER)
    assert not wanted(since="1970-01-01T00:00:01.0001Z").matches(LETTER)
    assert not wanted(reason="too_large").matches(LETTER)
    assert not wanted(deployment="d").matches(LETTER)
    assert wanted(deployment="d").matches(LETTER._replace(value=prediction("r", deployment_id="d")))


def test_the_deployment_is_found_where_the_value_names_one() -> None:
    assert deployment_of(LETTER._replace(value=actual("r", deployment_id="d"))) == "d"
    assert deployment_of(LETTER._replace(value=b'{"deploymentId": "d", "prediction": [}')) is None
    wrapped = b'{"specversion": "1.0", "data": {"deploymentId": "d", "actual": {}}}'
    assert deployment_of(LETTER._replace(value=wrapped)) == "d"
    assert deployment_of(LETTER._replace(value=None)) is None


def test_obstacles() -> None:
    inputs = ["m.predictions.v1", "m.actuals.v1"]
    assert obstacle_to(LETTER, inputs, 4) == ""
    assert obstacle_to(LETTER, inputs, 2) == ""
    assert "no key" in obstacle_to(LETTER._replace(key=None), inputs, 2)
    assert "cut (n)" in obstacle_to(LETTER._replace(truncated="n"), inputs, 4)
    assert "no partition of m.actuals.v1 or" in obstacle_to(LETTER._replace(topic="m.rekey.v1"), inputs, 4)


def test_instants_of_producers_without_a_clock() -> None:
    assert describe(Letter(LETTER._replace(timestamp=-1), False))["timestamp"] == "1970-01-01T00:00:00.000000Z"
    assert describe(Letter(LETTER._replace(timestamp=2**62), False))["timestamp"] == "9999-12-31T23:59:59.999999Z"


@given(st.integers(0, 50), st.integers(0, 50), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120))))
def test_offsets_are_remembered_within_the_span(begin: int, size: int, ranges: list[tuple[int, int]]) -> None:
    span = Span(begin, begin + size)
    found = ReplayedOffsets(span)
    for first, last in ranges:
        found.add(first, last)
    named = {at for first, last in ranges for at in range(first, last + 1)}
    assert {at for at in range(130) if at in found} == named & set(range(*span))
