"""What `hindsight deployments apply` reads for the demo: the deployment's description and January as its baseline."""

from importlib.resources import files
from pathlib import Path
from typing import Final

import polars as pl

from service.devstack.demo.flights import FEATURES

DESCRIPTION: Final = "flights.yaml"
BASELINE: Final = "january.csv"


def write_deployment(directory: Path, flights: pl.DataFrame) -> Path:
    """Write both files, over older ones if need be, and return the path of the description."""
    directory.mkdir(parents=True, exist_ok=True)
    flights.filter("january").select(FEATURES).write_csv(directory / BASELINE)
    description = directory / DESCRIPTION
    description.write_bytes(files("service.devstack.demo").joinpath(DESCRIPTION).read_bytes())
    return description
