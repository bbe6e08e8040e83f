"""`make bench`: Hindsight and its peers on the same records, on real Kafka and real Postgres, round by round.

Writes `bench/results/<name>/`: `rows.jsonl` (every run with everything), `report.md`, `picture.svg`, `about.json`; and
`bench/results/latest.md`, which tells which one was the last.
"""

import argparse
import asyncio
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.about import about
from bench.peers.timed import PeerFailed
from bench.picture import picture
from bench.report import report
from bench.statuses import WrongStatus
from bench.suite import SYSTEMS, Plan, Suite
from bench.totals import WrongFigure
from bench.workloads import NAMES
from service.adapters.clock import SystemClock
from service.devstack import open_devstack

RESULTS: Final = Path(__file__).parent / "results"


async def measure(plan: Plan, folder: Path) -> None:
    """Run the plan, and write what comes of it as it comes."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        runs = progress.add_task("runs", total=plan.rounds * plan.runs())

        def tell(row: dict[str, Any]) -> None:
            with (folder / "rows.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            progress.advance(runs)
            if "events_per_s" in row:
                told = f"{row['events_per_s']:,} events/s, {row['cpu_s_per_million']} CPU s per million events"
                console.print(f"  {row['system']} on {row['workload']}: {told}", highlight=False)

        def say(line: str) -> None:
            console.print(line, highlight=False)

        async with open_devstack(None, broker="kafka", say=say) as stack:
            found = await about(stack, {"HINDSIGHT_POSTGRES__DSN": stack.postgres_dsn})
            found["command"] = f"python -m bench {shlex.join(sys.argv[1:])}".rstrip()
            found["began"] = f"{SystemClock().now():%F %R} UTC"
            (folder / "about.json").write_text(json.dumps(found, indent=1) + "\n")
            await Suite(stack=stack, plan=plan, tell=tell, say=say).run()


def write(folder: Path) -> None:
    """The page and the picture of the runs that are there, and a copy of the page as the latest."""
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    page = report(rows, json.loads((folder / "about.json").read_text()))
    (folder / "report.md").write_text(page)
    (folder / "picture.svg").write_text(picture(rows))
    (folder.parent / "latest.md").write_text(page.replace("](picture.svg)", f"]({folder.name}/picture.svg)"))
    print(page)


def _names(known: Sequence[str]) -> Any:
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"no such: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return names

    return read


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="predictions of each workload, with their actuals")
    parser.add_argument("--only", type=_names(SYSTEMS), default=SYSTEMS, help=f"of {','.join(SYSTEMS)}")
    parser.add_argument("--workloads", type=_names(NAMES), default=NAMES, help=f"of {','.join(NAMES)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--name", default=f"{SystemClock().now():%Y%m%d-%H%M%S}", help="of the directory of results")
    parser.add_argument("--render", action="store_true", help="measure nothing: make page and picture of --name anew")
    arguments = parser.parse_args()
    if arguments.render:
        write(RESULTS / arguments.name)
        return
    plan = Plan(
        rounds=arguments.rounds,
        size=arguments.size,
        systems=arguments.only,
        workloads=arguments.workloads,
        seed=arguments.seed,
    )
    folder = RESULTS / arguments.name
    if (folder / "rows.jsonl").exists():
        raise SystemExit(f"{os.path.relpath(folder)} holds results already")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        asyncio.run(measure(plan, folder))
    except (PeerFailed, WrongFigure, WrongStatus) as failed:
        raise SystemExit(f"the measurement is void: {failed}") from None
    write(folder)


if __name__ == "__main__":
    main()
