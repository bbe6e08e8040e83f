"""The page and the picture of a measurement, made of a few rows."""

from typing import Any
from xml.etree import ElementTree

import pytest

from bench.picture import picture
from bench.report import ratios, report

_ABOUT = {
    "machine": {"cpu": "some", "cores": 2, "memory_gb": 8.0, "kernel": "6"},
    "software": {"broker": "Apache Kafka", "java": "17", "python": "3.11"},
    "postgres": {"server_version": "18", "fsync": "on", "synchronous_commit": "on"},
    "settings": {"hindsight": {"acks": "all"}, "quix": {"grace": "30 days"}},
    "command": "python -m bench",
    "began": "2026-01-01 00:00 UTC",
}


def run(number: int, system: str, events_per_s: int, cpu: float, workload: str = "joined") -> dict[str, Any]:
    figures = {"round": number, "system": system, "workload": workload, "events": 2_000, "rss_mb": 300}
    figures |= {"events_per_s": events_per_s, "joins_per_s": events_per_s // 2, "cpu_s_per_million": cpu}
    if system == "hindsight":
        return figures | {"stages_us": {"decode": 1.5}}
    return figures | {"warm_events_per_s": 2 * events_per_s, "warm_cpu_s_per_million": cpu / 2}


def rows() -> list[dict[str, Any]]:
    limit = {"events": 10, "events_per_s": 400, "cpu_s_per_million": 2.0}
    limits = {name: limit for name in ("consume", "decode", "produce", "copy")}
    return [
        run(1, "hindsight", 200, 8.0),
        {"round": 1, "system": "limits", "workload": "joined"} | limits,
        run(1, "kafka-streams-alo", 50, 32.0),
        run(2, "hindsight", 100, 10.0),
        {"round": 2, "system": "limits", "workload": "joined"} | limits,
        run(2, "kafka-streams-alo", 50, 30.0),
        run(1, "hindsight", 90, 9.0, "flights"),
    ]


def test_ratios_are_of_pairs_of_one_round() -> None:
    found = ratios(rows())["kafka-streams-alo"]
    assert found["events_per_s"] == pytest.approx([4.0, 2.0])
    assert found["cpu_s_per_million"] == pytest.approx([4.0, 3.0])
    assert found["warm_events_per_s"] == pytest.approx([2.0, 1.0])
    assert found["warm_cpu_s_per_million"] == pytest.approx([2.0, 1.5])


def test_the_page_shows_medians_ranges_and_limits() -> None:
    page = report(rows(), _ABOUT)
    assert "| joined | Hindsight, everything on, exactly once | 2,000 | 150 (100 to 200) |" in page
    assert "| 3 (2 to 4) | 2.8 | 3.5 (3 to 4) | 4.0 |" in page
    assert "| 400 (400 to 400) | 2 (2 to 2) | 38% | 22% |" in page
    assert "| decode | 1.50 | 1.50 |" in page
    assert '"acks": "all"' in page
    assert "30 days" not in page, "Quix Streams did not run"


def test_the_picture_is_well_formed() -> None:
    drawn = ElementTree.fromstring(picture(rows()))
    bars = [one for one in drawn.iter("{http://www.w3.org/2000/svg}rect") if "class" in one.attrib]
    assert len(bars) == 4 * 3  # four figures; two systems on `joined`, one on `flights`
    assert all(float(one.attrib["width"]) > 0 for one in bars)
