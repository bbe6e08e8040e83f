"""`hindsight tail` as a process, on the statuses of a real worker."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from service.adapters.kafka.connection import open_admin
from tests.builders import actual, prediction
from tests.integration.worker import Event, Site, until


def predict(name: str) -> Event:
    return Event("predictions", name.encode(), prediction(name))


def act(name: str, value: str = "late") -> Event:
    return Event("actuals", name.encode(), actual(name, value))


@asynccontextmanager
async def tailing(site: Site, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "tail", *arguments, env=site.settings() | {"PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def told(site: Site, *arguments: str) -> list[dict[str, Any]]:
    """What it tells as JSON until its limit."""
    async with tailing(site, "--json", *arguments) as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err) == (0, b"")
    return [json.loads(line) for line in out.splitlines()]


async def test_what_was_published(site: Site) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        await site.produce([predict(f"r{i}") for i in range(20)])
        await site.processed(worker)
        between = datetime.now(UTC)  # noqa: TID251
        await site.produce([act(f"r{i}") for i in range(20)] + [predict("r0")])
        await site.processed(worker)

        everything = await told(site, "--from-beginning", "--limit", "41")
        published = {(one.partition, one.offset): one for one in await site.statuses()}
        assert {(one["partition"], one["offset"]) for one in everything} == published.keys()
        for one in everything:
            found = published[one.pop("partition"), one.pop("offset")]
            assert datetime.fromisoformat(one.pop("time")).timestamp() * 1000 == found.timestamp_ms
            assert one == found.json

        later = await told(site, "--since", between.isoformat(), "--limit", "21")
        assert {one["status"] for one in later} == {"MATCHED", "DUPLICATE"}
        row = await told(site, "--row", "r0", "--deployment", "flights", "--from-beginning", "--limit", "3")
        assert [one["status"] for one in row] == ["ACCEPTED", "MATCHED", "DUPLICATE"]
        matched = await told(site, "--status", "matched", "--status", "DUPLICATE", "--from-beginning", "--limit", "21")
        assert len({one["rowId"] for one in matched if one["status"] == "MATCHED"}) == 20
        home = site.home(b"r0")
        of_home = await told(site, "--partition", str(home), "--since", "1970-01-01T00:00:00Z", "--limit", "3")
        assert {one["partition"] for one in of_home} == {home}


async def test_what_comes_and_the_end(site: Site) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        await site.produce([predict("before")])
        await site.processed(worker)
        async with tailing(site) as process:
            assert process.stdout is not None
            listening = asyncio.create_task(process.stdout.readline())
            number = 0

            async def heard() -> bool:
                nonlocal number
                await site.produce([predict(f"live{number}")])  # again and again: it says nothing when it begins
                number += 1
                await asyncio.wait([listening], timeout=0.3)
                return listening.done()

            await worker.until(heard, what="a live status")
            line = listening.result().decode()
            assert "ACCEPTED" in line and "flights/live" in line
            process.send_signal(signal.SIGINT)
            _, err = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, err) == (0, b"")
        await site.processed(worker)

    async with open_admin({"bootstrap_servers": site.bootstrap_servers}) as admin:
        groups = {group[0] for group in await admin.list_consumer_groups()}
    assert {group for group in groups if group.startswith(site.prefix)} == {site.prefix}


async def test_a_gap_is_a_warning_and_a_repeat_is_dropped(site: Site) -> None:
    """Records of the status topic, put there by hand."""

    def status(seq: int) -> Event:
        said = {"deploymentId": "flights", "rowId": "x", "status": "ACCEPTED", "seq": seq}
        return Event("status", b"flights/x", json.dumps(said).encode(), partition=1)

    await site.produce([*map(status, (0, 1, 1, 4)), Event("status", b"flights/x", None, partition=1)])
    async with tailing(site, "--from-beginning", "--json", "--limit", "4") as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert [json.loads(line).get("seq") for line in out.splitlines()] == [0, 1, 4, None]
    assert err.decode() == "warning: partition 1: seq 2 to 3 missing: lost, unless compaction has taken them since\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--status", "LOST"), "error: status: LOST: must be one of"),
        (("--since", "yesterday"), "'yesterday' must be"),
        (("--since", "2026-01-01T00:00:00"), "'2026-01-01T00:00:00' must be"),
        (("--since", "2026-01-01T00:00:00Z", "--from-beginning"), "can not be given together"),
        (("--partition", "9"), "error: partition: the status topic has partitions 0 to 3"),
    ],
)
async def test_wrong_questions(site: Site, arguments: tuple[str, ...], said: str) -> None:
    async with tailing(site, *arguments) as process:
        out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out) == (2, b""), err.decode()
    assert said in err.decode() and "Traceback" not in err.decode()


async def test_somebody_who_reads_one_line_only(site: Site) -> None:
    said = {"deploymentId": "flights", "rowId": "x", "status": "ACCEPTED", "prediction": "y" * 4000}
    events = [Event("status", b"flights/x", json.dumps(said | {"seq": i}).encode(), partition=1) for i in range(2000)]
    await site.produce(events)
    async with tailing(site, "--from-beginning", "--json") as process:
        assert process.stdout is not None
        transport: Any = process.stdout._transport  # type: ignore[attr-defined]

        async def ended() -> bool:
            return process.returncode is not None

        await process.stdout.read(100)
        transport.close()
        await until(ended, within=30, what="its end")
    assert process.returncode == 0
