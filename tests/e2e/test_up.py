"""`hindsight up` as somebody at a terminal runs it: a process of its own, real servers, the real flights."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.devstack.demo.events import flights_replay
from service.devstack.demo.replay import PREDICTION, Replay
from service.devstack.java import KafkaSoftware
from tests.flights_oracle import FlightsTruth, flights_truth

pytestmark = pytest.mark.integration

PATIENCE = 120.0


class Up:
    """A running `hindsight up`, what it has said on standard error and shown on standard output."""

    def __init__(self, process: Process, data_dir: Path) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.process = process
        self.data_dir = data_dir
        self.said, self.shown = bytearray(), bytearray()
        self._reading = asyncio.gather(_read(process.stderr, self.said), _read(process.stdout, self.shown))

    async def until(self, holds: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
        """Fails when it ends before, with all that it said."""
        async with asyncio.timeout(patience):
            while not await holds():
                assert self.process.returncode is None, self.said.decode()
                await asyncio.sleep(0.01)

    async def ended(self) -> list[str]:
        """The lines of standard output, of a process that ends well."""
        async with asyncio.timeout(PATIENCE):
            await self._reading
            code = await self.process.wait()
        assert code == 0, self.said.decode()
        return self.shown.decode().splitlines()

    async def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((await self.ended())[-1])
        return result

    async def has_begun(self) -> bool:
        return b"starting everything" in self.said

    async def tells_what_to_ask(self) -> bool:
        return b"ask it:" in self.shown

    async def counts(self) -> bool:
        return await self.outcomes() > 0

    async def outcomes(self) -> int:
        """How many statuses the worker has counted in this life; none while it does not answer."""
        text = await asyncio.to_thread(get, self.port("worker-1"), "/metrics")
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in text.splitlines()
            if line.startswith("hindsight_join_outcomes_total{")
        )

    def port(self, role: str) -> int:
        try:
            port: int = json.loads((self.data_dir / "roles.json").read_text())[role]
        except FileNotFoundError:
            return 1  # nobody listens there
        return port

    def worker_pid(self) -> int:
        """Its child whose command says so."""
        (pid,) = [pid for pid in descendants(self.process.pid) if command_of(pid)[-2:] == ["service", "worker"]]
        return pid


@pytest.fixture(scope="module")
def year() -> Replay:
    return flights_replay()


async def test_a_second_start_goes_on_where_the_first_was(
    kafka_software: KafkaSoftware, year: Replay, data_dir: Path
) -> None:
    for rows in (2_000, 4_000):
        async with started(data_dir, "--demo", "flights", "--rows", str(rows), "--exit-when-done", "--json") as up:
            result = await up.result()
        expect(result, truth_of(year, rows))
        assert result["elapsed_s"] > 0
        assert result["events_per_s"] > 0


async def test_kills_in_the_middle_change_no_number(
    kafka_software: KafkaSoftware, year: Replay, data_dir: Path
) -> None:
    """First all of it is killed while events are still being sent, then the worker while it counts what is left."""
    rows = 20_000
    truth = truth_of(year, rows)
    demo = ("--demo", "flights", "--rows", str(rows), "--exit-when-done", "--json")
    async with started(data_dir, *demo, "--speed", "100000") as up:
        await up.until(up.counts)
        assert await up.outcomes() < truth.predictions
        children = descendants(up.process.pid)
        up.process.kill()
        await up.process.wait()
    await eventually(lambda: not any(lives(pid) for pid in children))

    async with started(data_dir, *demo) as up:
        await up.until(up.counts)
        seen = await up.outcomes()
        os.kill(up.worker_pid(), signal.SIGKILL)
        result = await up.result()
    assert seen < truth.predictions + truth.actuals
    assert b"worker-1 ended with code -9" in up.said
    expect(result, truth)


async def test_ctrl_c_stops_everything(kafka_software: KafkaSoftware, year: Replay, data_dir: Path) -> None:
    async with started(data_dir, "--demo", "flights", "--rows", "2000", "--workers", "2") as up:
        await up.until(up.tells_what_to_ask)
        groups = json.loads(get(up.port("api"), "/internal/v1/deployments/flights/statistics?by=month"))["groups"]
        children = descendants(up.process.pid)
        assert len(children) > 4
        up.process.send_signal(signal.SIGINT)
        said = await up.ended()
    expect_months(groups, truth_of(year, 2_000))
    assert [line for line in said if "/internal/v1/deployments/flights/statistics?by=month" in line]
    assert not any(lives(pid) for pid in children)


async def test_ctrl_c_while_it_starts(kafka_software: KafkaSoftware, data_dir: Path) -> None:
    async with started(data_dir, "--demo", "flights", "--json") as up:
        await up.until(up.has_begun)
        children = descendants(up.process.pid)
        up.process.send_signal(signal.SIGINT)
        assert await up.ended() == []
    assert not any(lives(pid) for pid in children)


async def test_without_kafka_it_runs_in_memory(year: Replay, data_dir: Path) -> None:
    demo = ("--demo", "flights", "--rows", "1000", "--exit-when-done", "--json", "--broker", "tansu")
    async with started(data_dir, *demo) as up:
        result = await up.result()
    assert b"Tansu (in memory)" in up.said
    expect(result, truth_of(year, 1_000))


def test_the_options_of_a_demo_need_a_demo(data_dir: Path) -> None:
    done = subprocess.run(command(data_dir, "--exit-when-done"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--demo flights" in done.stderr
    assert not data_dir.exists()


def expect(result: dict[str, Any], truth: FlightsTruth) -> None:
    assert (result["predictions"], result["actuals"]) == (truth.predictions, truth.actuals)
    assert result["statuses"]["MATCHED"] == truth.actuals
    assert sum(result["statuses"].values()) == truth.predictions + truth.actuals
    assert set(result["statuses"]) <= {"ACCEPTED", "MATCHED", "EARLY"}
    assert result["open"] == truth.never_matched
    assert result["batches"] == truth.daily_batches
    assert result["conservation_error"] == 0


def expect_months(groups: list[dict[str, Any]], truth: FlightsTruth) -> None:
    assert [group["group"] for group in groups] == list(truth.months)
    for group, month in zip(groups, truth.months.values(), strict=True):
        accuracy = group["accuracy"]
        counted = {(cell["actual"], cell["predicted"]): cell["rows"] for cell in accuracy["confusion"]}
        assert counted == {
            ("late", "late"): month.tp,
            ("on_time", "late"): month.fp,
            ("on_time", "on_time"): month.tn,
            ("late", "on_time"): month.fn,
        }
        assert group["predictions"] == month.predictions
        assert accuracy["logLossSum"] == pytest.approx(month.log_loss_sum, rel=1e-12)


def truth_of(year: Replay, rows: int) -> FlightsTruth:
    events = year.head(rows)
    return flights_truth(events.values[i] for i in np.flatnonzero(events.topics == PREDICTION).tolist())


async def _read(stream: asyncio.StreamReader, into: bytearray) -> None:
    while some := await stream.read(1 << 16):
        into += some


@asynccontextmanager
async def started(data_dir: Path, *options: str) -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(*command(data_dir, *options), stdout=PIPE, stderr=PIPE)
    try:
        yield Up(process, data_dir)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def command(data_dir: Path, *options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "service", "up", "--data-dir", str(data_dir), *options)


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except OSError:
        return ""
    finally:
        connection.close()


def descendants(pid: int) -> list[int]:
    parents = {child: parent_of(child) for child in map(int, filter(str.isdecimal, os.listdir("/proc")))}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def parent_of(pid: int) -> int:
    return int(after_name(pid)[1]) if lives(pid) else 0


def command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def lives(pid: int) -> bool:
    """Whether the process runs; one that has ended but is not yet collected does not."""
    return after_name(pid)[0] not in ("", "Z")


def after_name(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["", "0"]


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)
