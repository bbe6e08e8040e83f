"""Rows posted over HTTP, through a real broker and a real worker, into the statistics."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.domain.ids import home_of
from tests.integration.posting import ACTUALS, PREDICTIONS, Posting, open_posting
from tests.integration.worker import Site

AT = "2026-01-01T10:17:00Z"
LATER = "2026-01-01T13:30:00Z"


@pytest.fixture
async def posting(site: Site) -> AsyncIterator[Posting]:
    async with open_posting(site) as opened:
        await opened.connected()
        yield opened


def late(association_id: str | None, share: float = 0.8, **more: Any) -> dict[str, Any]:
    shares = [{"className": "late", "value": share}, {"className": "on_time", "value": round(1 - share, 6)}]
    return {"associationId": association_id, "timestamp": AT, "prediction": shares} | more


def truth(association_id: str, value: str = "late", **more: Any) -> dict[str, Any]:
    return {"associationId": association_id, "actualValue": value, "timestamp": LATER} | more


async def last_statuses(site: Site) -> dict[str, dict[str, Any]]:
    return {status.json["rowId"]: status.json for status in await site.statuses() if status.value is not None}


async def test_posted_rows_are_counted_and_the_status_says_so(site: Site, posting: Posting) -> None:
    async with site.worker() as worker:
        await worker.ready(tasks=4)
        rows = [late(f"r{number}", features={"distance": number, "origin": "EWR"}) for number in range(1_000)]
        assert await posting.post_and_count(PREDICTIONS, rows) == "counted 1,000: PROCESSED 1,000"
        actuals = [truth(f"r{number}", wasActedOn=True) for number in range(900)]
        assert await posting.post_and_count(ACTUALS, actuals) == "counted 900: PROCESSED 900"
        assert await posting.post_and_count(ACTUALS, actuals[:10]) == "counted 10: DUPLICATE 10"
    found = Counter(status["status"] for status in (await last_statuses(site)).values())
    assert found == {"ACCEPTED": 100, "MATCHED": 890, "DUPLICATE": 10}
    for role in ("predictions", "actuals"):
        for record in await site.read(role):
            assert record.partition == home_of((record.key or b"").decode(), site.partitions)
    assert await site.read("rekey") == []
    assert await site.read("dlq") == []
