"""`make simulate N=100000`: schedules from any seed on, what they reached, and which planted bugs they would see.

python -m tests.simulation [--first SEED] [--count N]     run schedules; ends with 1 when one of them is wrong
python -m tests.simulation --bugs [--count N]             look for the first schedule that sees each planted bug
"""

import argparse
import sys
from collections.abc import Iterable
from functools import partial

from tests.simulation.campaign import Report, first_caught, processes, run
from tests.simulation.planted import BUGS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=int, default=1000, metavar="N")
    parser.add_argument("--bugs", action="store_true")
    given = parser.parse_args()
    return _bugs(range(given.first, given.first + given.count)) if given.bugs else _run(given.first, given.count)


def _run(first: int, count: int) -> int:
    report = run(first, count, lambda so_far: _show(so_far, count))
    _say("\n" + _summary(report))
    for seed, what in report.failures:
        _say(f"\nseed {seed}: python -m tests.simulation --first {seed} --count 1\n{what}")
    return 1 if report.failures else 0


def _bugs(seeds: Iterable[int]) -> int:
    missed = 0
    with processes() as pool:
        for name, caught in zip(BUGS, pool.map(partial(first_caught, seeds=seeds), BUGS), strict=True):
            missed += caught is None
            _say(f"{name}: " + ("NOT SEEN\n" if caught is None else f"seed {caught[0]}, {caught[1][:160]}\n"))
    return 1 if missed else 0


def _summary(report: Report) -> str:
    lines = [
        f"{report.schedules:,} schedules, {report.commits:,} commits, {report.records:,} records, "
        f"{report.cpu_s:,.0f} s of CPU time, {len(report.failures)} wrong",
        "acts: " + ", ".join(f"{act} {count:,}" for act, count in report.acts.most_common()),
        f"transitions reached: {len(report.transitions)}; takeovers: "
        + ", ".join(f"{branch} {count:,}" for branch, count in report.takeovers.most_common()),
        "not reached: " + (", ".join(report.missed) or "nothing"),
    ]
    return "\n".join(lines) + "\n"


def _show(report: Report, count: int) -> None:
    _say(f"\r{report.schedules:,} of {count:,} schedules, {len(report.failures)} wrong")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
