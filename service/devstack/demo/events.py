"""Flights to events: what a producer of predictions and one of actuals would send, as JSON in order of event time.

A prediction is made at the departure of its flight, cancelled ones included; the actual follows at the landing. At the
same instant predictions come first, then the flight that departed first, so the stream is the same on every run.
"""

from typing import Final

import numpy as np
import polars as pl

from service.devstack.demo.flights import FEATURES, read_flights
from service.devstack.demo.model import Floats, fit_january
from service.devstack.demo.replay import ACTUAL, PREDICTION, Replay

DEPLOYMENT_ID: Final = "flights"
MODEL_ID: Final = "flights-january"
LATE: Final = "late"
ON_TIME: Final = "on_time"

_STEPS: Final = 1_000_000
_SLICE: Final = 50_000
_INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"


def flights_replay() -> Replay:
    """The whole year: 336,776 predictions and 327,346 actuals."""
    flights = read_flights()
    return replay_of(flights, fit_january(flights).probability_of_late(flights))


def replay_of(flights: pl.DataFrame, probability_of_late: Floats) -> Replay:
    """The events of these flights, which are in order of departure.

    Only the short columns are sorted; the long values are picked in that order, which keeps the peak of memory low.
    """
    ranked = flights.with_row_index("flight")
    landed = ranked.filter(pl.col("late").is_not_null())
    order = pl.concat(
        [_instants(ranked, PREDICTION, "departed_at_us"), _instants(landed, ACTUAL, "landed_at_us")]
    ).with_row_index("place")
    order = order.sort("event_at_us", "topic", "flight")
    keys = flights["association_id"].cast(pl.Binary).to_list()
    values = _predictions(flights, probability_of_late) + _actuals(landed)
    return Replay(
        topics=order["topic"].to_numpy(),
        event_at_us=order["event_at_us"].to_numpy(),
        flights=order["flight"].to_numpy(),
        keys=[keys[i] for i in order["flight"].to_list()],
        values=[values[i] for i in order["place"].to_list()],
    )


def _instants(ranked: pl.DataFrame, topic: int, event_at_us: str) -> pl.DataFrame:
    return ranked.select("flight", pl.lit(topic, dtype=pl.Int8).alias("topic"), event_at_us=pl.col(event_at_us))


def _predictions(flights: pl.DataFrame, probability_of_late: Floats) -> list[bytes]:
    return _json(
        flights.with_columns(_class_probabilities(probability_of_late)),
        pl.lit(DEPLOYMENT_ID).alias("deploymentId"),
        pl.col("association_id").alias("associationId"),
        _instant("departed_at_us").alias("timestamp"),
        pl.col("prediction"),
        pl.lit(MODEL_ID).alias("modelId"),
        pl.struct(FEATURES).alias("features"),
    )


def _actuals(landed: pl.DataFrame) -> list[bytes]:
    return _json(
        landed,
        pl.lit(DEPLOYMENT_ID).alias("deploymentId"),
        pl.col("association_id").alias("associationId"),
        pl.when("late").then(pl.lit(LATE)).otherwise(pl.lit(ON_TIME)).alias("actual"),
        _instant("landed_at_us").alias("timestamp"),
    )


def _json(flights: pl.DataFrame, *fields: pl.Expr) -> list[bytes]:
    encoded = pl.struct(fields).struct.json_encode().cast(pl.Binary)
    return [value for part in flights.iter_slices(_SLICE) for value in part.select(encoded).to_series()]


def _class_probabilities(probability_of_late: Floats) -> pl.Series:
    """Whole millionths, neither none nor all, so that the two figures as printed add up to exactly 1.

    Divided by numpy: an expression of polars would multiply by the inverse, and print 0.8918109999999999.
    """
    steps = np.clip(np.rint(probability_of_late * _STEPS), 1, _STEPS - 1)
    return pl.DataFrame({LATE: steps / _STEPS, ON_TIME: (_STEPS - steps) / _STEPS}).to_struct("prediction")


def _instant(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Datetime("us")).dt.to_string(_INSTANT)
