"""Monitoring batches: what is refused, and by which words."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import Invalid, NotFound
from service.usecases import monitoring_batches as cases
from service.usecases.monitoring_batches import (
    KEEP,
    BatchChange,
    BatchDraft,
    BatchPage,
    BatchQuestion,
    BatchSummary,
)

AT = datetime(2026, 5, 6, 17, tzinfo=UTC)
BATCH = BatchSummary(
    deployment_id="d", id="b0", name="one", description=None, origin="api", created_by=cases.SERVICE, is_locked=False,
    version=1, created_at=AT, predictions=0, first_at=None, last_at=None,
)  # fmt: skip


@dataclass
class KeptBatches:
    """The port for one deployment, `d`."""

    kept: dict[str, BatchSummary] = field(default_factory=dict)
    created: int = 0

    async def page(self, question: BatchQuestion) -> BatchPage | None:
        found = BatchPage(batches=list(self.kept.values()), total=len(self.kept))
        return found if question.deployment_id == "d" else None

    async def find(self, deployment_id: str, batch_id: str) -> BatchSummary | None:
        assert "\0" not in batch_id
        return self.kept.get(batch_id)

    async def asked_for(self, deployment_id: str) -> int:
        return len(self.kept) + self.created

    async def open(
        self, deployment_id: str, draft: BatchDraft, *, author: Mapping[str, str], limit: int
    ) -> BatchSummary:
        batch = replace(BATCH, id=f"b{len(self.kept)}", name=draft.name or "", created_by=author)
        self.kept[batch.id] = batch
        return batch

    async def change(
        self, deployment_id: str, batch_id: str, change: BatchChange, *, even_where_off: bool = False
    ) -> BatchSummary:
        if batch_id not in self.kept:
            raise cases.unknown_batch(deployment_id, batch_id)
        if change.is_locked is not KEEP:
            self.kept[batch_id] = replace(self.kept[batch_id], is_locked=change.is_locked)
        return self.kept[batch_id]

    async def delete(self, deployment_id: str, batch_id: str) -> bool:
        return self.kept.pop(batch_id, None) is not None


async def test_a_batch_lives() -> None:
    batches = KeptBatches()
    batch = (await cases.create(batches, "d", BatchDraft(name="one"))).id
    await cases.lock(batches, "d", batch)
    assert batches.kept[batch].is_locked
    await cases.unlock(batches, "d", batch)
    assert not batches.kept[batch].is_locked
    await cases.delete(batches, "d", batch)
    assert (await cases.page(batches, "d")).total == 0


async def test_what_is_not_there() -> None:
    batches = KeptBatches()
    with pytest.raises(NotFound, match="deployment 'x'"):
        await cases.page(batches, "x")
    for change in (cases.lock, cases.unlock, cases.delete):
        with pytest.raises(NotFound, match="deployment 'd' has no monitoring batch 'b9'"):
            await change(batches, "d", "b9")
    for name in ("b9", ".", "a\0b", "x" * 129):
        with pytest.raises(NotFound):
            await cases.show(batches, "d", name)


@pytest.mark.parametrize("name", ["", "x" * 257, "a\0"])
async def test_names_have_a_length(name: str) -> None:
    with pytest.raises(Invalid, match="batchName: must have 1 to 256 characters"):
        await cases.create(KeptBatches(), "d", BatchDraft(name=name))
    with pytest.raises(Invalid, match="batchName: must have 1 to 256 characters"):
        await cases.change(KeptBatches({"b0": BATCH}), "d", "b0", BatchChange(name=name))


async def test_every_wrong_field_is_told_at_once() -> None:
    with pytest.raises(Invalid) as told:
        await cases.create(KeptBatches(), "d", BatchDraft(name="", description="x" * 2_001, external_context_url="x"))
    assert told.value.fields.keys() == {"batchName", "description", "externalContextUrl"}


async def test_what_is_left_never_falls_below_nothing() -> None:
    limits = await cases.limits(KeptBatches({"b0": BATCH}), "d")
    assert (limits.used, limits.most, limits.remaining) == (1, 1_000, 999)
    assert (await cases.limits(KeptBatches(created=1_001), "d")).remaining == 0


@pytest.mark.parametrize(
    "url",
    ["http://a", "https://ci.example/42?x=1#y", "HTTPS://ci.example:8443/a%20b", "http://[::1]:80/", "http://ä.example/ü",
     "https://a.example/" + "x" * 2_030],
)  # fmt: skip
def test_addresses_that_are_taken(url: str) -> None:
    assert cases.url_fault(url) is None


@pytest.mark.parametrize(
    "url",
    ["", "ci.example/42", "/42", "ftp://ci.example", "javascript:alert(1)", "http://", "http:///x", "http://a b/",
     "http://a/\n", "http://a/\0", "http://a:99999/", "http://a:x/", "http://[::1/",
     "https://a.example/" + "x" * 2_031],
)  # fmt: skip
def test_addresses_that_are_refused(url: str) -> None:
    assert cases.url_fault(url) is not None


@given(st.text(max_size=40))
def test_no_text_breaks_the_rules_themselves(text: str) -> None:
    for rule in (cases.name_fault, cases.description_fault, cases.url_fault):
        assert rule(text) is None or rule(text)


def test_the_service_health_that_is_known() -> None:
    assert cases.service_health(BATCH).status == "unknown"
    assert cases.service_health(replace(BATCH, predictions=1)).status == "unavailable"
    assert cases.service_health(replace(BATCH, predictions=1)).message
