"""The second act: flights of the last day as if they took off now, as an application sends its predictions and actuals.

They go through the client, over HTTP, to a deployment of their own, and into a monitoring batch that is opened for them
and locked once they are counted. Of a later run they are other rows: its instant is part of their association IDs.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from service.client import AsyncClient
from service.devstack.demo.events import LATE, ON_TIME
from service.devstack.demo.flights import FEATURES
from service.devstack.demo.model import Floats
from service.devstack.demo.registration import DemoApi
from service.devstack.errors import DevStackError

LIVE_ID: Final = "flights-live"
ROWS: Final = 500
_COUNTED_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFlight:
    association_id: str
    probability_of_late: float
    late: bool
    features: Mapping[str, Any]


def live_flights(flights: pl.DataFrame, probability_of_late: Floats) -> list[LiveFlight]:
    """The last flights of the year whose truth is known, in order of departure."""
    known = flights.with_columns(probability=pl.Series(probability_of_late)).filter(pl.col("late").is_not_null())
    return [
        LiveFlight(
            association_id=row["association_id"],
            probability_of_late=round(row["probability"], 6),
            late=row["late"],
            features={name: row[name] for name in FEATURES},
        )
        for row in known.tail(ROWS).iter_rows(named=True)
    ]


def live_description(flights: Mapping[str, Any]) -> dict[str, Any]:
    """The deployment of the year's flights, under another ID and with batches that are named by their rows alone."""
    return dict(flights) | {
        "id": LIVE_ID,
        "label": "Flights, live",
        "batchMonitoring": {"enabled": True, "policy": "none"},
    }


async def play_live(api: DemoApi, url: str, token: str, flights: list[LiveFlight], now: datetime) -> str:
    """ID of the batch that holds them now. Raises `DevStackError`."""
    run = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    batch_id = await api.open_batch(LIVE_ID, f"Live at {run}", f"{len(flights)} flights, sent by the client")
    async with AsyncClient.over_http(url=url, token=token) as client:
        for flight in flights:
            row_id = f"{flight.association_id}@{run}"
            late = flight.probability_of_late
            prediction = {LATE: late, ON_TIME: round(1 - late, 6)}
            await client.log_prediction(
                LIVE_ID, prediction, association_id=row_id, features=flight.features, batch_id=batch_id
            )
            await client.log_actual(LIVE_ID, row_id, LATE if flight.late else ON_TIME)
        if not await client.flush(_COUNTED_WITHIN_S) or client.counts.sent != 2 * len(flights):
            raise DevStackError(f"the client could not send all live flights: {client.counts}")
    await _counted(api, batch_id, len(flights))
    await api.lock_batch(LIVE_ID, batch_id)
    return batch_id


async def _counted(api: DemoApi, batch_id: str, rows: int) -> None:
    try:
        async with asyncio.timeout(_COUNTED_WITHIN_S):
            while await api.rows_of_batch(LIVE_ID, batch_id) < rows:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise DevStackError(f"not all of {rows} live flights were counted in {_COUNTED_WITHIN_S:g} seconds") from None
