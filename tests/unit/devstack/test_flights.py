"""The first look's events: facts about the year, the order of the stream, and how fast it is sent."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
import yaml
from rich.console import Console

from service.devstack.demo.deployment import write_deployment
from service.devstack.demo.events import flights_replay, replay_of
from service.devstack.demo.flights import FEATURES, read_flights
from service.devstack.demo.model import fit_january
from service.devstack.demo.replay import ACTUAL, PREDICTION, Replay, Span, paced, play
from service.devstack.demo.screen import DemoView, MonthFigure, render
from tests.flights_oracle import Flight, FlightsTruth, flights_truth
from tests.flights_oracle import read_flights as read_again

FLIGHTS, LANDED = 336_776, 327_346


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return read_flights()


@pytest.fixture(scope="module")
def year(flights: pl.DataFrame) -> Replay:
    return replay_of(flights, fit_january(flights).probability_of_late(flights))


@pytest.fixture(scope="module")
def first(year: Replay) -> Replay:
    return year.head(2_000)


@pytest.fixture(scope="module")
def again() -> list[Flight]:
    return list(read_again())


@pytest.fixture(scope="module")
def truth(year: Replay, again: list[Flight]) -> FlightsTruth:
    return flights_truth(values_of(year, PREDICTION), again)


def values_of(replay: Replay, topic: int) -> list[bytes]:
    return [replay.values[i] for i in np.flatnonzero(replay.topics == topic).tolist()]


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def at(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


# --- the year -------------------------------------------------------------------------------------------------------


def test_each_flight_has_its_own_association_id(flights: pl.DataFrame) -> None:
    assert flights["association_id"].n_unique() == flights.height == FLIGHTS
    assert flights["association_id"][0] == "UA1545-EWR-2013-01-01"


def test_the_cancelled_and_diverted_have_no_truth_and_no_landing(flights: pl.DataFrame) -> None:
    assert flights["late"].null_count() == FLIGHTS - LANDED == 9_430
    assert flights["landed_at_us"].is_null().equals(flights["late"].is_null(), null_equal=True)


def test_no_flight_lands_before_it_departs(flights: pl.DataFrame) -> None:
    in_the_air = flights["landed_at_us"] - flights["departed_at_us"]
    assert in_the_air.drop_nulls().min() == 20 * 60_000_000


def test_the_instants_and_truths_are_those_of_the_csv_read_again(flights: pl.DataFrame, again: list[Flight]) -> None:
    by_id = {flight.association_id: flight for flight in again}
    assert len(by_id) == FLIGHTS
    for row in flights.select("association_id", "departed_at_us", "landed_at_us", "late").gather_every(29).iter_rows():
        association_id, departed, landed, late = row
        expected = (association_id, at(departed), None if landed is None else at(landed), late)
        assert by_id[association_id] == expected


def test_the_year_as_events(year: Replay, truth: FlightsTruth) -> None:
    assert (year.count(PREDICTION), year.count(ACTUAL)) == (FLIGHTS, LANDED) == (truth.predictions, truth.actuals)
    assert (truth.never_matched, truth.daily_batches) == (9_430, 366)
    assert list(truth.months) == [*(f"2013-{month:02}" for month in range(1, 13)), "2014-01"]
    assert sum(month.predictions for month in truth.months.values()) == FLIGHTS
    assert sum(month.matched for month in truth.months.values()) == LANDED


# --- the events -----------------------------------------------------------------------------------------------------


def test_the_stream_is_in_order_of_event_time(year: Replay) -> None:
    assert (np.diff(year.event_at_us) >= 0).all()


def test_each_actual_comes_after_its_prediction(year: Replay) -> None:
    predicted = np.full(FLIGHTS, len(year))
    for topic in (PREDICTION, ACTUAL):
        places = np.flatnonzero(year.topics == topic)
        if topic == PREDICTION:
            predicted[year.flights[places]] = places
        else:
            assert (predicted[year.flights[places]] < places).all()


def test_a_prediction_as_json(year: Replay) -> None:
    assert year.values[0].startswith(
        b'{"deploymentId":"flights","associationId":"UA1545-EWR-2013-01-01","timestamp":"2013-01-01T10:17:00Z",'
        b'"prediction":{"late":0.'
    )
    event = orjson.loads(year.values[0])
    assert event["modelId"] == "flights-january"
    assert event["features"] == {
        "origin": "EWR",
        "carrier": "UA",
        "dest": "IAH",
        "distance": 1400,
        "dep_delay": 2,
        "hour": 5,
        "temperature": 39.02,
        "visibility": 10.0,
    }


def test_an_actual_as_json(year: Replay) -> None:
    place = next(i for i, key in enumerate(year.keys) if key == b"UA1545-EWR-2013-01-01" and year.topics[i] == ACTUAL)
    assert year.values[place] == (
        b'{"deploymentId":"flights","associationId":"UA1545-EWR-2013-01-01","actual":"on_time",'
        b'"timestamp":"2013-01-01T14:04:00Z"}'
    )


def test_every_event_is_json_that_agrees_with_its_columns(year: Replay) -> None:
    for i in range(0, len(year), 31):
        event = orjson.loads(year.values[i])
        assert event["associationId"].encode() == year.keys[i]
        assert instant(event["timestamp"]) == at(int(year.event_at_us[i]))
        assert ("actual" in event) == (year.topics[i] == ACTUAL)


def test_a_cancelled_flight_is_predicted_without_a_delay(flights: pl.DataFrame, year: Replay) -> None:
    cancelled = flights["dep_delay"].null_count()
    assert cancelled == 8_255 == sum(b'"dep_delay":null' in value for value in values_of(year, PREDICTION))


def test_the_probabilities_add_up_to_one_as_printed_and_as_floats(year: Replay) -> None:
    for value in values_of(year, PREDICTION)[::7]:
        printed = value[value.index(b'"prediction":') + 13 : value.index(b',"modelId"')]
        late, on_time = (Decimal(part.split(b":")[1].decode()) for part in printed.strip(b"{}").split(b","))
        assert late > 0
        assert on_time > 0
        assert late + on_time == 1
        assert float(late) + float(on_time) == 1.0


def test_no_probability_sits_on_the_threshold(year: Replay) -> None:
    assert not any(b'"late":0.5,' in value for value in values_of(year, PREDICTION))


def test_extreme_probabilities_stay_inside(flights: pl.DataFrame) -> None:
    two = flights.head(2)
    values = values_of(replay_of(two, np.array([0.0, 1.0])), PREDICTION)
    assert [orjson.loads(value)["prediction"] for value in values] == [
        {"late": 1e-06, "on_time": 0.999999},
        {"late": 0.999999, "on_time": 1e-06},
    ]


def test_a_second_run_gives_the_same_bytes(year: Replay) -> None:
    again = flights_replay()
    assert again.values == year.values
    assert again.keys == year.keys
    assert np.array_equal(again.topics, year.topics)


def test_the_model_is_worth_looking_at(truth: FlightsTruth) -> None:
    """Better than always saying on time in every month, and worse at the end of the year than where it learned."""
    for month in truth.months.values():
        assert month.accuracy is not None
        assert month.accuracy > max(0.85, (month.tn + month.fp) / month.matched)
    january, december = truth.months["2013-01"].log_loss, truth.months["2013-12"].log_loss
    assert january is not None
    assert december is not None
    assert january < 0.28 < december


# --- head -----------------------------------------------------------------------------------------------------------


def test_head_keeps_the_first_flights_by_departure_with_their_actuals(
    year: Replay, first: Replay, again: list[Flight]
) -> None:
    truth = flights_truth(values_of(first, PREDICTION), again)
    assert first.count(PREDICTION) == 2_000 == truth.predictions
    assert first.count(ACTUAL) == truth.actuals
    assert values_of(first, PREDICTION) == values_of(year, PREDICTION)[:2_000]
    assert (np.diff(first.event_at_us) >= 0).all()
    assert set(first.keys) == {first.keys[i] for i in np.flatnonzero(first.topics == PREDICTION)}


def test_head_of_more_than_there_is(first: Replay) -> None:
    assert first.head(5_000).values == first.values
    assert len(first.head(0)) == 0


# --- pace -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class FakeClock:
    """Moves only when somebody sleeps."""

    now_s: float = 100.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


@dataclass(slots=True)
class Taken:
    """What was sent, and when by the fake clock."""

    clock: FakeClock
    events: list[tuple[int, bytes]] = field(default_factory=list)
    calls: list[tuple[float, int, int]] = field(default_factory=list)
    fail_at_call: int | None = None

    async def send(self, topic: int, keys: list[bytes], values: list[bytes]) -> None:
        if len(self.calls) == self.fail_at_call:
            raise ConnectionError("the broker is away")
        assert len(keys) == len(values) > 0
        self.calls.append((self.clock.now_s, topic, len(keys)))
        self.events += [(topic, value) for value in values]


def tiny(*event_at_s: float) -> Replay:
    """Events at these seconds: the first is a prediction, the next an actual, and so on in turn."""
    count = len(event_at_s)
    names = [f"{i}".encode() for i in range(count)]
    return Replay(
        topics=np.array([i % 2 for i in range(count)], dtype=np.int8),
        event_at_us=np.array([round(second * 1e6) for second in event_at_s], dtype=np.int64),
        flights=np.arange(count, dtype=np.uint32) // 2,
        keys=names,
        values=names,
    )


async def test_without_a_speed_everything_goes_at_once_in_batches(first: Replay) -> None:
    clock = FakeClock()
    taken = Taken(clock)
    reached: list[int] = []
    await play(first, taken.send, sleep=clock.sleep, now=clock.now, batch=500, reached=reached.append)
    assert clock.slept == []
    assert reached == [*range(500, len(first), 500), len(first)]
    assert sorted(taken.events) == sorted(zip(first.topics.tolist(), first.values, strict=True))
    assert [value for topic, value in taken.events if topic == ACTUAL] == values_of(first, ACTUAL)


async def test_a_batch_sends_its_predictions_before_its_actuals() -> None:
    clock = FakeClock()
    taken = Taken(clock)
    await play(tiny(0, 1, 2, 3), taken.send, sleep=clock.sleep, now=clock.now)
    assert taken.events == [(PREDICTION, b"0"), (PREDICTION, b"2"), (ACTUAL, b"1"), (ACTUAL, b"3")]


async def test_a_speed_spreads_the_events_over_the_clock() -> None:
    """
    event time   0 s        600 s            6,000 s
    wall clock   100 s      101 s            110 s      at 600 seconds a second
    """
    clock = FakeClock()
    taken = Taken(clock)
    await play(tiny(0, 600, 6_000), taken.send, sleep=clock.sleep, now=clock.now, speed=600)
    assert taken.calls == [(100.0, PREDICTION, 1), (101.0, ACTUAL, 1), (110.0, PREDICTION, 1)]
    assert clock.slept == [1.0, 9.0]


async def test_a_speed_keeps_pace_and_sends_small_batches(first: Replay) -> None:
    clock = FakeClock()
    taken = Taken(clock)
    await play(first, taken.send, sleep=clock.sleep, now=clock.now, speed=3_600)
    span_s = (int(first.event_at_us[-1]) - int(first.event_at_us[0])) / 1e6
    assert len(taken.events) == len(first)
    assert min(clock.slept) >= 0.1
    assert clock.now_s - 100 == pytest.approx(span_s / 3_600, abs=0.2)


def test_an_event_never_goes_before_its_time(first: Replay) -> None:
    clock = FakeClock()
    begun_us = int(first.event_at_us[0])
    for span in spans(first, clock, speed=7_200):
        reached_us = begun_us + (clock.now_s - 100) * 7_200e6
        assert int(first.event_at_us[span.end - 1]) <= reached_us + 1


def spans(replay: Replay, clock: FakeClock, speed: float) -> Iterator[Span]:
    for span in paced(replay, speed=speed, now=clock.now):
        if span.end > span.begin:
            yield span
        clock.now_s += span.wait_s


async def test_a_second_run_goes_on_where_the_first_was_cut(first: Replay) -> None:
    clock = FakeClock()
    cut = Taken(clock, fail_at_call=7)
    reached = [0]
    with pytest.raises(ConnectionError):
        await play(first, cut.send, sleep=clock.sleep, now=clock.now, batch=300, reached=reached.append)
    rest = Taken(clock)
    await play(first, rest.send, sleep=clock.sleep, now=clock.now, batch=300, start=reached[-1])
    assert set(cut.events + rest.events) == set(zip(first.topics.tolist(), first.values, strict=True))
    assert 0 <= len(cut.events) + len(rest.events) - len(first) < 300


async def test_a_resumed_run_does_not_wait_for_what_was_sent_before() -> None:
    clock = FakeClock()
    taken = Taken(clock)
    await play(tiny(0, 600, 6_000), taken.send, sleep=clock.sleep, now=clock.now, speed=600, start=1)
    assert taken.calls == [(100.0, ACTUAL, 1), (109.0, PREDICTION, 1)]


async def test_at_the_end_nothing_is_sent(first: Replay) -> None:
    clock = FakeClock()
    taken = Taken(clock)
    await play(first, taken.send, sleep=clock.sleep, now=clock.now, start=len(first))
    assert taken.calls == []


# --- the deployment -------------------------------------------------------------------------------------------------


def test_the_description_names_the_features_and_the_baseline_beside_it(tmp_path: Path, flights: pl.DataFrame) -> None:
    path = write_deployment(tmp_path / "demo", flights)
    description = yaml.safe_load(path.read_text())
    assert description["id"] == "flights"
    assert description["classNames"] == ["late", "on_time"]
    assert [feature["name"] for feature in description["features"]] == list(FEATURES)
    with (path.parent / description["baseline"]["file"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27_004
    assert set(rows[0]) == set(FEATURES)
    assert sum(row["dep_delay"] == "" for row in rows) == 521


# --- the screen -----------------------------------------------------------------------------------------------------


def view(**changes: object) -> DemoView:
    figures: dict[str, object] = {
        "elapsed_s": 3_675.2,
        "produced_predictions": 300_000,
        "produced_actuals": 290_000,
        "total": 664_122,
        "events_per_s": 61_234.5,
        "lag_records": 1_234,
        "rows_open": 812,
        "outcomes": {"MATCHED": 289_000, "ACCEPTED": 300_000, "UNMATCHED": 9_000},
        "months": [
            MonthFigure(month="2013-01", predictions=26_820, matched=26_223, accuracy=0.9027, log_loss=0.2714),
            MonthFigure(month="2013-02", predictions=17, matched=0, accuracy=None, log_loss=None),
        ],
        "batches": 331,
        "conservation_error": 0,
        "broker": "Apache Kafka [embedded]",
        "urls": {"console": "http://127.0.0.1:8080/"},
        "worker_restarts": 1,
    }
    return DemoView(**{**figures, **changes})  # type: ignore[arg-type]


def drawn(shown: DemoView) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(render(shown))
    return console.export_text()


def test_the_screen_shows_every_figure_within_100_columns() -> None:
    text = drawn(view())
    assert max(len(line) for line in text.splitlines()) == 100
    for shown in (
        "590,000 of 664,122 events · 89%",
        "1:01:15",
        "61,234",
        "1,234",
        "812",
        "90.27%",
        "0.2714",
        "331",
        "Apache Kafka [embedded]",
        "http://127.0.0.1:8080/",
        "running",
    ):
        assert shown in text
    assert text.index("ACCEPTED") < text.index("MATCHED") < text.index("UNMATCHED")


def test_the_screen_before_the_first_event() -> None:
    text = drawn(view(produced_predictions=0, produced_actuals=0, total=0, months=[], outcomes={}, urls={}))
    assert text.count("none yet") == 2
    assert "running" in text


def test_the_screen_says_when_all_is_counted() -> None:
    done = view(produced_predictions=FLIGHTS, produced_actuals=LANDED, lag_records=0)
    assert done.caught_up
    assert "every event is counted" in drawn(done)
    assert not view(produced_predictions=FLIGHTS, produced_actuals=LANDED, lag_records=1).caught_up
