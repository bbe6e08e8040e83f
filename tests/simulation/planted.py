"""Bugs to plant: each takes one rule of the protocol away. A simulation that can not see them proves nothing.

Nothing here is reachable from the service: each bug is patched in from outside, for the time of one schedule.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from service.adapters.memory import MemoryBroker, MemorySource
from service.domain.watermark import DeploymentClock, Heard
from service.pipeline import aggregate, owned, restore, task
from service.pipeline.decode import Decoder
from service.pipeline.flow import MicroBatchFlow
from service.pipeline.join import Joiner
from service.ports import Batch, Fenced, Topic, Unavailable
from service.wire.slot import unpack_slot
from tests.simulation import node
from tests.simulation.journal import SeenLedger

Bug = Callable[[], Any]
BUGS: dict[str, Bug] = {}


def bug(plant: Callable[[], Iterator[None]]) -> Callable[[], Iterator[None]]:
    BUGS[plant.__name__] = contextmanager(plant)
    return plant


# ------------------------------------------------------------------------------------------ the order of effects


@bug
def published_before_it_is_committed() -> Iterator[None]:
    publish, persist = MicroBatchFlow._publish, MicroBatchFlow._persist

    async def first(self: MicroBatchFlow, computed: Any, *rest: Any) -> Any:
        await self.published()
        await publish(self, computed)
        return await persist(self, computed, *rest)

    async def nothing(self: MicroBatchFlow, computed: Any) -> None:
        return None

    with patch.object(MicroBatchFlow, "_persist", first), patch.object(MicroBatchFlow, "_publish", nothing):
        yield


@bug
def slot_overwritten_before_its_publish_was_acknowledged() -> Iterator[None]:
    async def published(self: MicroBatchFlow) -> None:
        self.check_published()

    with patch.object(MicroBatchFlow, "published", published):
        yield


@bug
def slot_not_looked_at() -> Iterator[None]:
    with patch.object(owned, "unpack_slot", lambda slot: []):
        yield


@bug
def commit_in_doubt_taken_for_made() -> Iterator[None]:
    persist = node._GatedLedger.persist

    async def hopeful(self: node._GatedLedger, batch: Any) -> None:
        try:
            await persist(self, batch)
        except Unavailable:
            return

    with patch.object(node._GatedLedger, "persist", hopeful):
        yield


@bug
def commit_in_doubt_given_up() -> Iterator[None]:
    """The micro-batch is taken for one that another owner has fenced: its records are passed over."""
    run_once = MicroBatchFlow.run_once
    persist = node._GatedLedger.persist

    async def fenced(self: node._GatedLedger, batch: Any) -> None:
        try:
            await persist(self, batch)
        except Unavailable as error:
            raise Fenced("in doubt") from error

    async def passed_over(self: MicroBatchFlow, *what: Any) -> None:
        try:
            await run_once(self, *what)
        except Fenced as error:
            if str(error) != "in doubt":
                raise

    with patch.object(node._GatedLedger, "persist", fenced), patch.object(MicroBatchFlow, "run_once", passed_over):
        yield


# ------------------------------------------------------------------------------------------ who owns what


@bug
def no_fence_in_the_ledger() -> Iterator[None]:
    def is_committed(self: SeenLedger, batch: Any, checkpoint: Any) -> bool:
        ahead: int = checkpoint.version - batch.expected_version
        if ahead not in (0, 1):
            raise Fenced("version")
        return ahead == 1

    with patch.object(SeenLedger, "_is_committed", is_committed):
        yield


@bug
def no_fence_in_the_broker() -> Iterator[None]:
    with patch.object(MemoryBroker, "is_fenced", lambda self, task, right: False):
        yield


@bug
def ledger_not_looked_at_again_after_the_publisher_was_opened() -> Iterator[None]:
    async def no_look(world: Any, checkpoint: Any) -> None:
        return None

    with patch.object(owned, "_check_epoch", no_look):
        yield


@bug
def publisher_opened_after_the_slot_was_looked_at() -> Iterator[None]:
    """The former owner is fenced only once the new one has something to publish."""

    class Late:
        def __init__(self, sink: Any, task: int) -> None:
            self._sink, self._task = sink, task
            self._publisher: Any = None

        async def publish(self, *what: Any) -> int:
            if self._publisher is None:
                self._publisher = await opened(self._sink, self._task)
            end: int = await self._publisher.publish(*what)
            return end

        async def settle(self, *what: Any) -> None:
            return None

        async def close(self) -> None:
            if self._publisher is not None:
                await self._publisher.close()

    opened: Any = node._GatedSink.open

    async def late(self: node._GatedSink, task: int) -> Any:
        return Late(self, task)

    with patch.object(node._GatedSink, "open", late):
        yield


@bug
def seek_skipped_where_the_process_has_a_position() -> Iterator[None]:
    seek = MemorySource.seek

    async def stay(self: MemorySource, task: int, offsets: Any) -> dict[str, int]:
        return await seek(self, task, self._positions.get(task, offsets))

    with patch.object(MemorySource, "seek", stay):
        yield


@bug
def offsets_of_the_group_taken_for_the_truth() -> Iterator[None]:
    """Instead of the ledger's: then there is no slot to look at either."""
    seek = MemorySource.seek

    async def advised(self: MemorySource, task: int, offsets: Any) -> dict[str, int]:
        committed = self._broker.committed.get(task)
        return await seek(self, task, committed.positions if committed else {})

    async def no_slot(world: Any, publisher: Any, checkpoint: Any) -> int:
        return 0

    with patch.object(MemorySource, "seek", advised), patch.object(owned, "_publish_slot", no_slot):
        yield


@bug
def cells_kept_from_one_ownership_to_the_next() -> Iterator[None]:
    kept: dict[Any, Any] = {}
    take_over = owned.take_over

    async def remembering(world: Any, number: int, *rest: Any) -> Any:
        taken = await take_over(world, number, *rest)
        traffic, accuracy = kept.setdefault((world.owner, number), (taken.traffic, taken.accuracy))
        taken.traffic, taken.accuracy = traffic, accuracy
        return taken

    with patch.object(task, "take_over", remembering):
        yield


# ------------------------------------------------------------------------------------------ the state store


@bug
def any_disk_trusted() -> Iterator[None]:
    with patch.object(restore, "_trusted", lambda log, clock, held, checkpoint: held.version <= checkpoint.version):
        yield


@bug
def timers_lost_on_restore() -> Iterator[None]:
    with patch.object(restore, "packed_timers", lambda rows, stamp: list(rows)[:0]):
        yield


@bug
def rejection_overwrites_the_row_in_the_changelog() -> Iterator[None]:
    refuse = Joiner._refuse

    def overwrite(self: Joiner, refused: Any) -> None:
        refuse(self, refused)
        self.joined.happened[-1] = self.joined.happened[-1]._replace(state=b"")

    with patch.object(Joiner, "_refuse", overwrite):
        yield


# ------------------------------------------------------------------------------------------ time


@bug
def one_clock_for_all_deployments() -> Iterator[None]:
    heard = aggregate._heard

    def shared(columns: Any, refused: set[int]) -> dict[str, Heard]:
        found = heard(columns, refused)
        if not found:
            return found
        all_of_them = Heard(min(one.first for one in found.values()), max(one.last for one in found.values()))
        return dict.fromkeys(found, all_of_them)

    with patch.object(aggregate, "_heard", shared):
        yield


@bug
def watermark_of_the_predictions_alone() -> Iterator[None]:
    def stream_time(self: DeploymentClock) -> int | None:
        return None if self.predictions is None else self.predictions.at

    with patch.object(DeploymentClock, "stream_time", property(stream_time)):
        yield


# ------------------------------------------------------------------------------------------ numbers and settings


@bug
def correction_without_subtraction() -> Iterator[None]:
    count = Joiner._count

    def only_add(self: Joiner, sign: int, deployment: str, row: Any) -> Any:
        return count(self, sign, deployment, row) if sign > 0 else None

    with patch.object(Joiner, "_count", only_add):
        yield


@bug
def deleted_batches_go_on_counting() -> Iterator[None]:
    make = Joiner.__init__

    def unaware(self: Joiner, rows: Any, watermarks: Any, deleted: Any) -> None:
        make(self, rows, watermarks, frozenset())

    with patch.object(Joiner, "__init__", unaware):
        yield


@bug
def locks_checked_outside_the_transaction() -> Iterator[None]:
    with patch.object(SeenLedger, "_check_settings", lambda self, batch: None):
        yield


@bug
def origin_mark_of_forwarded_records_ignored() -> Iterator[None]:
    decode = Decoder.decode

    @wraps(decode)
    def unmarked(self: Decoder, polled: Any, marks: Any) -> Any:
        return decode(self, polled, {})

    with patch.object(Decoder, "decode", unmarked):
        yield


@bug
def strays_joined_where_they_come_in() -> Iterator[None]:
    with patch.object(Decoder, "_homes", lambda self, row_ids, encoded: {}):
        yield


@bug
def dead_letters_of_a_repeated_slot_left_out() -> Iterator[None]:
    unpack = unpack_slot

    def without(slot: bytes) -> list[Batch]:
        return [batch for batch in unpack(slot) if batch.topic != Topic.DLQ]

    with patch.object(owned, "unpack_slot", without):
        yield
