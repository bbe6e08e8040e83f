"""`make bench`: starts real servers, loads the flights backlog, and lets one worker eat it, several times."""

import argparse
import asyncio
import json
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.rounds import PARTITIONS, fresh_round, load, run
from service.devstack import DevStack, open_devstack
from service.devstack.demo.deployment import write_deployment
from service.devstack.demo.events import flights_replay
from service.devstack.demo.flights import read_flights
from service.devstack.demo.replay import Replay


async def one_round(stack: DevStack, number: int, replay: Replay, deployment: Path) -> dict[str, Any]:
    """A fresh database, fresh topics, a fresh worker process."""
    name = f"bench-{number}"
    async with fresh_round(stack, name, deployment) as environment:
        await load(stack.bootstrap_servers, name, replay)
        printed = await run(["-m", "bench.backlog", str(len(replay.keys))], environment)
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return figures


async def measure(rounds: int, rows: int) -> list[dict[str, Any]]:
    replay = flights_replay().head(rows)
    with TemporaryDirectory(prefix="hindsight-bench-") as directory:
        deployment = write_deployment(Path(directory), read_flights())
        async with open_devstack(None, broker="kafka", say=lambda line: print(line, file=sys.stderr)) as stack:
            return [
                await one_round(stack, number, replay, deployment)
                for number in track(range(rounds), description="rounds", console=Console(stderr=True))
            ]


def shown(rounds: list[dict[str, Any]]) -> Table:
    table = Table(title=f"one worker, {rounds[0]['events']:,} events of real flights, {PARTITIONS} partitions")
    for column in ("figure", "least", "median", "most"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    figures = {
        name: [one[name] for one in rounds]
        for name in ("events_per_s", "cpu_s_per_million", "of_it_event_loop", "rss_mb", "micro_batches")
    }
    for stage in rounds[0]["stages_us"]:
        figures[f"{stage}, CPU µs per event"] = [one["stages_us"][stage] for one in rounds]
    for name, values in figures.items():
        table.add_row(name, *(f"{value:,}" for value in (min(values), statistics.median(values), max(values))))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=336_776, help="flights")
    arguments = parser.parse_args()
    rounds = asyncio.run(measure(arguments.rounds, arguments.rows))
    Console().print(shown(rounds))
    for one in rounds:
        print(json.dumps(one))


if __name__ == "__main__":
    main()
