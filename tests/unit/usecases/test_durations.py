"""ISO 8601 durations, there and back."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.usecases.durations import LONGEST, format_duration, parse_duration

SPANS = st.timedeltas(min_value=timedelta(0), max_value=LONGEST)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("P30D", timedelta(days=30)),
        ("P2W", timedelta(weeks=2)),
        ("P1W2DT3H4M5.5S", timedelta(days=9, hours=3, minutes=4, seconds=5.5)),
        ("PT90M", timedelta(minutes=90)),
        ("PT0S", timedelta(0)),
        ("P36500D", LONGEST),
    ],
)
def test_parses(text: str, span: timedelta) -> None:
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "30D", "P-1D", "P1.5D", "PT1S1M", "p1d", " P1D", "PT1.1234567S"]
)
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601 duration such as P30D"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["P1M", "P1Y", "P1Y2M3D", "P1MT1M"])
def test_refuses_spans_of_the_calendar(text: str) -> None:
    with pytest.raises(ValueError, match="no fixed length"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["P36501D", "P99999999999999999999D", "PT9999999999999H"])
def test_refuses_spans_beyond_reason(text: str) -> None:
    with pytest.raises(ValueError, match="at most P36500D"):
        parse_duration(text)


@given(SPANS)
def test_round_trip(span: timedelta) -> None:
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize("text", ["P30D", "PT1M", "PT0S", "P1DT2H3M4.5S"])
def test_formats_as_people_write(text: str) -> None:
    assert format_duration(parse_duration(text)) == text
