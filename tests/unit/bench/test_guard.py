"""The judgement of the cost guard: noise passes, a slip to twice the cost does not."""

import subprocess
import sys
from dataclasses import replace

import pytest

from bench.guard import BOUND, MEASURED, Round, judged
from bench.slow_worker import plant
from service.adapters.kafka.source import KafkaSource

USUAL = Round(before=2.0, cost=2.0 * MEASURED, after=2.0)


def test_the_measured_cost_is_within_the_bound() -> None:
    verdict = judged([USUAL] * 3)
    assert verdict.holds
    assert verdict.ratio == pytest.approx(MEASURED)
    assert str(verdict).endswith(f"is within the bound of {BOUND:.2f}")


def test_a_cost_twice_as_high_is_seen() -> None:
    verdict = judged([replace(USUAL, cost=2 * USUAL.cost)] * 3)
    assert not verdict.holds
    assert "ABOVE" in str(verdict)


@pytest.mark.parametrize("noise", [0.75, 1.0, 1.25, 1.6])
def test_noise_is_not_seen(noise: float) -> None:
    assert judged([replace(USUAL, cost=noise * USUAL.cost)] * 3).holds


def test_a_slower_machine_changes_both_sides() -> None:
    slower = Round(before=3 * USUAL.before, cost=3 * USUAL.cost, after=3 * USUAL.after)
    assert judged([slower] * 3).ratio == pytest.approx(MEASURED)


def test_one_disturbed_round_of_three_says_nothing() -> None:
    assert judged([USUAL, replace(USUAL, cost=10 * USUAL.cost), USUAL]).holds
    assert not judged([replace(USUAL, cost=2 * USUAL.cost)] * 2 + [replace(USUAL, cost=0.0)]).holds


def test_a_slip_can_be_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    poll = KafkaSource.poll
    monkeypatch.setattr(KafkaSource, "poll", poll)  # puts it back afterwards
    plant(1.0)
    assert KafkaSource.poll is not poll


def test_the_yardstick_gives_what_it_always_gave() -> None:
    """It fails by itself where its result is another one."""
    done = subprocess.run([sys.executable, "-m", "bench.yardstick"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) > 0
