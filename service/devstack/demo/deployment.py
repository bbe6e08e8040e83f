"""The deployment of the demo: its description, for people and for the API, and January as its baseline."""

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import polars as pl
import yaml

from service.devstack.demo.flights import FEATURES

DESCRIPTION: Final = "flights.yaml"
BASELINE: Final = "january.csv"


def registration() -> dict[str, Any]:
    """The body of its registration: what the file says but for the baseline, which is sent by itself."""
    described = yaml.safe_load(files("service.devstack.demo").joinpath(DESCRIPTION).read_bytes())
    registered = {name: value for name, value in described.items() if name != "baseline"}
    return registered | {"settings": {"featureDrift": {"enabled": True}}}


def write_deployment(directory: Path, flights: pl.DataFrame) -> Path:
    """Write both files, over older ones if need be, and return the path of the description."""
    directory.mkdir(parents=True, exist_ok=True)
    flights.filter("january").select(FEATURES).write_csv(directory / BASELINE)
    description = directory / DESCRIPTION
    description.write_bytes(files("service.devstack.demo").joinpath(DESCRIPTION).read_bytes())
    return description
