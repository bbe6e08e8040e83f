"""The whole year of flights, once: what it says of drift is what a slow reading of the csv says."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.devstack.java import KafkaSoftware
from tests.drift_oracle import psi_by_month, read_departures
from tests.e2e.test_up import Up, started

pytestmark = pytest.mark.integration

PATIENCE = 300.0
JANUARY = ("--from", "2013-01-01T00:00Z", "--to", "2013-02-01T00:00Z")


async def test_drift_by_month_against_january(kafka_software: KafkaSoftware, data_dir: Path) -> None:
    """Against the timetable's January, from which the bins are, and against January as it was counted, by UTC."""
    async with started(data_dir, "--demo", "flights") as up:
        await up.until(up.tells_what_to_ask, patience=PATIENCE)
        training = await asked(up, by="month")
        fixed = await hindsight(up, "deployments", "baseline", "flights", *JANUARY)
        period = json.loads(await hindsight(up, "drift", "flights", "--by", "month", "--baseline", "period", "--json"))
        shown = await hindsight(up, "drift", "flights", "--from", "2013-07-01T00:00Z", "--to", "2013-08-01T00:00Z")

    departures = read_departures()
    january = [one for one in departures if one.january]
    counted = [one for one in departures if one.month == "2013-01"]
    expect(training, psi_by_month(departures, january, january))
    expect(period, psi_by_month(departures, counted, january))
    assert fixed == "baseline period of model flights-january: 26,820 rows, version 1\n"
    assert [line.split()[0] for line in shown.splitlines()[:3]] == ["feature", "temperature", "visibility"]


def expect(drift: Mapping[str, Any], truth: Mapping[str, Mapping[str, float]]) -> None:
    """Equal for every month and feature; and the two worst features of summer are the weather."""
    assert [one["bucket"] for one in drift["buckets"]] == list(truth)
    for one in drift["buckets"]:
        figures = {feature["feature"]: feature["psi"] for feature in one["features"]}
        assert figures == pytest.approx(truth[one["bucket"]], rel=1e-9, abs=1e-15)
        assert list(figures.values()) == sorted(figures.values(), reverse=True)
    (july,) = [one for one in drift["buckets"] if one["bucket"] == "2013-07"]
    assert [feature["feature"] for feature in july["features"]][:2] == ["temperature", "visibility"]


async def asked(up: Up, by: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{up.port('api')}/internal/v1/deployments/flights/drift"
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(url, params={"bucket": by})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def hindsight(up: Up, *arguments: str) -> str:
    """What a short command prints, under the settings of the worker."""
    settings = database_of(up.worker_pid())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", *arguments, stdout=PIPE, stderr=PIPE, env=os.environ | settings
    )
    said, complained = await process.communicate()
    assert process.returncode == 0, complained.decode()
    return said.decode()


def database_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line.startswith("HINDSIGHT_POSTGRES__"))
