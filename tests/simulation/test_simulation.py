"""Never lost, never double: a thousand schedules of faults in which nothing may be wrong and everything is reached, and
planted bugs, each of which must be seen.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.campaign import first_caught, processes, run
from tests.simulation.planted import BUGS
from tests.simulation.schedule import play

SEEN_BY = {
    "published_before_it_is_committed": 5,
    "slot_overwritten_before_its_publish_was_acknowledged": 29,
    "slot_not_looked_at": 0,
    "commit_in_doubt_taken_for_made": 5,
    "commit_in_doubt_given_up": 16,
    "no_fence_in_the_ledger": 24,
    "no_fence_in_the_broker": 43,
    "ledger_not_looked_at_again_after_the_publisher_was_opened": 24,
    "publisher_opened_after_the_slot_was_looked_at": 125,
    "seek_skipped_where_the_process_has_a_position": 0,
    "offsets_of_the_group_taken_for_the_truth": 4,
    "cells_kept_from_one_ownership_to_the_next": 115,
    "any_disk_trusted": 218,
    "timers_lost_on_restore": 1,
    "rejection_overwrites_the_row_in_the_changelog": 1,
    "one_clock_for_all_deployments": 0,
    "watermark_of_the_predictions_alone": 0,
    "correction_without_subtraction": 4,
    "deleted_batches_go_on_counting": 12,
    "locks_checked_outside_the_transaction": 17,
    "origin_mark_of_forwarded_records_ignored": 95,
    "strays_joined_where_they_come_in": 0,
    "dead_letters_of_a_repeated_slot_left_out": 0,
}
"""The first schedule that sees each bug. What changes the order of awaits changes the schedules: then all are tried,
and `python -m tests.simulation --bugs` finds the first ones anew."""
SCHEDULES = 1000


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with processes() as pool:
        yield pool


@pytest.mark.timeout(900)
def test_schedules_of_faults(capsys: pytest.CaptureFixture[str]) -> None:
    report = run(0, SCHEDULES, lambda so_far: None)
    with capsys.disabled():
        print(f" {report.commits:,} commits, {report.cpu_s:.0f} s of CPU time ", end="")  # noqa: T201
    assert not report.failures, "\n\n".join(f"seed {seed}: {what}" for seed, what in report.failures[:3])
    assert report.schedules == SCHEDULES
    assert not report.missed


def test_every_planted_bug_has_its_schedule() -> None:
    assert SEEN_BY.keys() == BUGS.keys()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_seen(name: str, pool: ProcessPoolExecutor) -> None:
    caught = pool.submit(first_caught, name, (SEEN_BY[name], *range(SCHEDULES))).result()
    assert caught is not None, f"not seen in {SCHEDULES} schedules"


def digest(seed: int) -> str:
    """Of everything that was published in a schedule."""
    entries = play(seed).journal.entries
    return hashlib.sha256(repr([entry for entry in entries if hasattr(entry, "records")]).encode()).hexdigest()


def test_a_seed_brings_back_its_schedule(pool: ProcessPoolExecutor) -> None:
    """Also in another process, after other schedules."""
    first = list(pool.map(digest, range(20)))
    with processes() as others:
        assert list(others.map(digest, range(20), chunksize=20)) == first
