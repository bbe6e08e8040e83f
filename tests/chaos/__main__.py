"""`make chaos MINUTES=60`: real servers and three workers under faults, one line for each; figures at the end.

python -m tests.chaos [--minutes N] [--seed SEED] [--rate RECORDS]     ends with 1 when something is wrong, and keeps
                                                                       logs and data of all processes then
"""

import argparse
import asyncio
import logging
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from service.devstack.java import find_kafka
from tests.chaos.campaign import Plan, Report, run
from tests.chaos.faults import RESTARTED, TAKEN_OVER
from tests.chaos.scene import SESSION_S


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--minutes", type=float, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rate", type=float, default=250, metavar="RECORDS")
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    plan = Plan(seed=seed, seconds=given.minutes * 60, rate=given.rate, pause=(1.0, 8.0))
    _say(f"seed {seed}: python -m tests.chaos --minutes {given.minutes:g} --seed {seed} --rate {given.rate:g}")
    for driver in ("aiokafka", "asyncpg", "asyncio"):  # what they say of failing servers is no news here
        logging.getLogger(driver).setLevel(logging.CRITICAL)
    directory = Path(tempfile.mkdtemp(prefix="hindsight-chaos-"))
    directory.chmod(0o711)  # Postgres may run as another user
    report = None
    try:
        report = asyncio.run(_run(plan, directory))
    finally:
        if report is None or report.wrong:
            _say(f"logs and data: {directory}")
        else:
            shutil.rmtree(directory)
    _show(report)
    return 1 if report.wrong else 0


async def _run(plan: Plan, directory: Path) -> Report:
    return await run(plan, directory, await find_kafka(_say), _say)


def _show(report: Report) -> None:
    console = Console()
    for said, times in Counter(report.ended).most_common():
        _say(f"ended by itself, {times} times: {said}")
    console.print(faults_table(report), figures_table(report))
    for wrong in report.wrong:
        _say(f"WRONG: {wrong}")
    _say(f"{len(report.wrong)} things are wrong" if report.wrong else "everything is as it must be")


def faults_table(report: Report) -> Table:
    table = Table("fault", "times", title="faults")
    table.columns[1].justify = "right"
    for kind, times in sorted(report.faults.items()):
        table.add_row(kind, f"{times:,}")
    return table


def figures_table(report: Report) -> Table:
    table = Table("figure", "", title="figures")
    table.columns[1].justify = "right"
    for kind, what in ((TAKEN_OVER, "of the partitions that others took over"), (RESTARTED, "of those restarted")):
        waits = report.waits.get(kind, ())
        shown = f"{median(waits):.1f} s, {max(waits):.1f} s ({len(waits)})" if waits else "none"
        table.add_row(f"kill -9 to the next commit {what}: median, worst (partitions)", shown)
    seen = report.evidence
    records = len(seen.sent)
    for name, shown in (
        ("session time-out", f"{SESSION_S} s"),
        ("records sent", f"{records:,}"),
        ("statuses; dead letters", f"{sum(map(len, seen.statuses)):,}; {len(seen.letters):,}"),
        ("commits; takeovers", f"{seen.commits:,}; {seen.takeovers:,}"),
        ("events a second, faults included", f"{records / report.seconds:,.0f}"),
        ("from the end of load and faults to rest", f"{report.catch_up_s:.1f} s"),
        ("largest worker, RSS", f"{report.most_rss_mb:,.0f} MB"),
        ("workers that ended by themselves and were started again", f"{len(report.ended)}"),
    ):
        table.add_row(name, shown)
    return table


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
