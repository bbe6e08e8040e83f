"""The year of the demo, read while the servers start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import polars as pl

from service.devstack.demo.events import replay_of
from service.devstack.demo.flights import FlightsMissingError, read_flights
from service.devstack.demo.live import LiveFlight, live_flights
from service.devstack.demo.model import fit_january
from service.devstack.demo.replay import Replay
from service.devstack.errors import MissingSoftware


@dataclass(frozen=True, slots=True, kw_only=True)
class Year:
    flights: pl.DataFrame
    events: Replay
    live: list[LiveFlight]


@asynccontextmanager
async def loading(demo: str | None) -> AsyncIterator["asyncio.Task[Year] | None"]:
    """Reads the flights and fits the model in a thread, while the servers start."""
    if demo is None:
        yield None
        return
    reading = asyncio.create_task(asyncio.to_thread(_load))
    try:
        yield reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _load() -> Year:
    try:
        flights = read_flights()
    except FlightsMissingError as missing:
        raise MissingSoftware(str(missing)) from None
    probability = fit_january(flights).probability_of_late(flights)
    return Year(flights=flights, events=replay_of(flights, probability), live=live_flights(flights, probability))
