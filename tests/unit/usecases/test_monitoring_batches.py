"""Monitoring batches: what is refused, and by which words."""

from dataclasses import dataclass, field

import pytest

from service.domain.errors import Conflict, Invalid, NotFound
from service.usecases import monitoring_batches as cases
from service.usecases.monitoring_batches import BatchPage


@dataclass
class KeptBatches:
    """The port for one deployment, `d`."""

    names: dict[str, str] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)

    async def page(self, deployment_id: str, *, limit: int, offset: int) -> BatchPage | None:
        return BatchPage(batches=[], total=len(self.names)) if deployment_id == "d" else None

    async def open(self, deployment_id: str, name: str, *, description: str | None, limit: int) -> str | None:
        if len(self.names) >= limit:
            return None
        self.names[f"b{len(self.names)}"] = name
        return f"b{len(self.names) - 1}"

    async def set_locked(self, deployment_id: str, batch_id: str, *, locked: bool) -> bool:
        (self.locked.add if locked else self.locked.discard)(batch_id)
        return batch_id in self.names

    async def delete(self, deployment_id: str, batch_id: str) -> bool:
        return self.names.pop(batch_id, None) is not None


async def test_a_batch_lives() -> None:
    batches = KeptBatches()
    batch = await cases.create(batches, "d", "one")
    await cases.lock(batches, "d", batch)
    assert batches.locked == {batch}
    await cases.unlock(batches, "d", batch)
    assert batches.locked == set()
    await cases.delete(batches, "d", batch)
    assert (await cases.page(batches, "d")).total == 0


async def test_what_is_not_there() -> None:
    batches = KeptBatches()
    with pytest.raises(NotFound, match="deployment 'x'"):
        await cases.page(batches, "x")
    for change in (cases.lock, cases.unlock, cases.delete):
        with pytest.raises(NotFound, match="deployment 'd' has no monitoring batch 'b9'"):
            await change(batches, "d", "b9")


@pytest.mark.parametrize("name", ["", "x" * 257])
async def test_names_have_a_length(name: str) -> None:
    with pytest.raises(Invalid, match="batchName: must have 1 to 256 characters"):
        await cases.create(KeptBatches(), "d", name)


async def test_a_thousand_and_no_more() -> None:
    batches = KeptBatches({f"b{i}": "x" for i in range(999)})
    await cases.create(batches, "d", "the last")
    with pytest.raises(Conflict, match="has 1000 monitoring batches"):
        await cases.create(batches, "d", "one more")
