"""Never lost, never double, on real servers: half a minute of faults, then everything against the oracle; and whatever
is damaged in what was found must be seen. How long anything takes is not asked here. `make chaos` goes on for longer.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service.devstack.java import KafkaSoftware
from tests.chaos.campaign import Plan, run
from tests.chaos.evidence import Evidence
from tests.chaos.verdict import Verdict
from tests.integration.worker import Read

SEED = 1198
"""Deals most kinds early."""


@pytest.mark.integration
@pytest.mark.timeout(900)
async def test_chaos(kafka_software: KafkaSoftware, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    plan = Plan(seed=SEED, seconds=35, rate=200, pause=(0.5, 3.0))
    report = await run(plan, data_dir, kafka_software, told.append)
    with capsys.disabled():
        print(f" {report.faults.total()} faults, {len(report.evidence.sent):,} records ", end="")  # noqa: T201
    assert not report.wrong, "\n".join([*report.wrong, *told])
    assert report.faults.total() >= 4
    for what, damaged in damages(report.evidence):
        assert Verdict(damaged, report.latest).run(), f"not seen: {what}"


def damages(evidence: Evidence) -> Iterator[tuple[str, Evidence]]:
    """The same with one thing lost, doubled or changed, of each kind."""
    statuses, cells, disks = evidence.statuses[0], evidence.cells[0], evidence.disks

    def with_statuses(changed: list[Read]) -> Evidence:
        return replace(evidence, statuses=[changed, *evidence.statuses[1:]])

    middle = len(statuses) // 2
    yield "a status lost", with_statuses([*statuses[:middle], *statuses[middle + 1 :]])
    yield "the last status lost", with_statuses(list(statuses[:-1]))
    yield "a status twice", with_statuses([*statuses[:middle], statuses[middle], *statuses[middle:]])
    yield "a dead letter lost", replace(evidence, letters=evidence.letters[1:])
    yield "a dead letter twice", replace(evidence, letters=[*evidence.letters, evidence.letters[0]])
    place = next(iter(evidence.sent))
    unseen = evidence.sent | {(place[0], place[1], 1 << 40): evidence.sent[place]}
    yield "a record that nobody took", replace(evidence, sent=unseen)
    yield "a record forwarded twice", replace(evidence, rekeyed=[*evidence.rekeyed, evidence.rekeyed[0]])
    (key, traffic), *_ = cells.traffic.items()
    more = replace(cells, traffic=cells.traffic | {key: replace(traffic, predictions=traffic.predictions + 1)})
    yield "a prediction counted twice", replace(evidence, cells=[more, *evidence.cells[1:]])
    (label, accuracy), *_ = cells.accuracy.items()
    less = replace(cells, accuracy=cells.accuracy | {label: replace(accuracy, matched=accuracy.matched - 1)})
    yield "a match not counted", replace(evidence, cells=[less, *evidence.cells[1:]])
    fullest = max(disks, key=lambda disk: len(disk.rows))
    rows = dict(list(fullest.rows.items())[1:])
    yield "a row lost", replace(evidence, disks=[fullest._replace(rows=rows) if d is fullest else d for d in disks])
    submissions = {name: records + 1 for name, records in evidence.submissions.items()}
    yield "submissions counted twice", replace(evidence, submissions=submissions)
    yield "a batch event lost", replace(evidence, batch_events=evidence.batch_events[1:])
    yield "an unfinished publish", replace(evidence, published={})
