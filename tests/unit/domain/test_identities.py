"""Which texts can name what, and what a row is called."""

import pytest

from service.domain.ids import has_association_id, home_of, is_association_id, is_object_id, record_row_id, row_key


@pytest.mark.parametrize("text", ["a", "A-1_b.c", "6622a1b2c3d4e5f607182930", "x" * 128, "..."])
def test_what_can_name_an_object(text: str) -> None:
    assert is_object_id(text)


@pytest.mark.parametrize("text", ["", "x" * 129, "a/b", "a b", "\u00e4", "a\n", ".", ".."])
def test_what_can_not_name_an_object(text: str) -> None:
    assert not is_object_id(text)


@pytest.mark.parametrize("text", ["UA1545", '["UA",1545]', "a/b c", "\u00e4", "x" * 128, "jobs:1"])
def test_what_can_join_a_prediction_to_its_actual(text: str) -> None:
    assert is_association_id(text)
    assert has_association_id(text)


@pytest.mark.parametrize("text", ["", "x" * 129, "job:1", "submission:1", "record:1"])
def test_what_can_not_join(text: str) -> None:
    assert not is_association_id(text)


def test_a_record_without_any_id_is_named_by_its_place() -> None:
    row_id = record_row_id("monitoring.predictions.v1", 3, 4711)
    assert row_id == "record:monitoring.predictions.v1:3:4711"
    assert not has_association_id(row_id)


def test_rows_of_two_deployments_never_share_a_key() -> None:
    assert row_key("a", "b/c") == b"a/b/c"
    assert not is_object_id("a/b")


@pytest.mark.parametrize(
    ("row_id", "home"),
    [("", 9), ("UA1545", 2), ("UA1545-EWR-2026-01-01", 11), ("job:7", 5), ("submission:7:1", 8), ("\u00e4", 5)],
)
def test_a_row_lives_where_a_java_client_would_send_its_id(row_id: str, home: int) -> None:
    assert home_of(row_id, 12) == home


def test_a_row_without_any_id_is_at_home_wherever_it_came_in() -> None:
    assert home_of(record_row_id("monitoring.predictions.v1", 3, 4711), 12) is None
    assert home_of("records:1", 12) is not None
