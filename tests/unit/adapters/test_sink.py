"""What the sink makes of answers that a broker gives for a moment only."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition

from service.adapters.kafka.sink import KafkaSink
from service.ports import Unavailable


class LoadingCoordinator:
    """As the library's client over a broker that has just started: no fault, no offsets."""

    async def list_consumer_group_offsets(
        self, group_id: str, *, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, Any]:
        return {}


async def test_offsets_that_are_not_told_are_not_taken_for_none() -> None:
    """Taken for none, the slot would be published a second time, dead letters and all."""
    sink = KafkaSink({}, LoadingCoordinator(), prefix="monitoring", group_id="hindsight", transactions=True)
    with pytest.raises(Unavailable, match="hindsight"):
        await sink.published_version(0)
