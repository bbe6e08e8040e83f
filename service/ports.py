"""What the pipeline and the use cases need from the world, as roles. Adapters say the technology.

Only what is slow, remote or not deterministic is a port. Faults: an adapter raises `Unavailable` for what may pass by
itself (connection, serialisation, deadlock, broker down); the caller waits and repeats. `Fenced` means that another
owner has taken over: the caller drops everything it holds of that task.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias
from uuid import UUID

from service.domain.deployment import Deployment, TargetType
from service.domain.flood import Flood
from service.domain.instants import DAY_US
from service.domain.monitoring_batch import MonitoringBatch
from service.domain.records import INPUT_TOPICS as INPUT_TOPICS
from service.domain.records import Batch as Batch
from service.domain.records import OutRecord as OutRecord
from service.domain.records import Topic as Topic
from service.domain.stats.accuracy import Accuracy
from service.domain.stats.traffic import Traffic
from service.domain.watermark import DeploymentClock


class Unavailable(Exception):
    """The other side can not answer now; the same call may succeed later."""


class Fenced(Exception):
    """Another owner has taken this task over."""


class SettingsMoved(Exception):
    """A deployment or batch that a micro-batch touched has changed since it was read; nothing was written."""


class LedgerMismatch(Exception):
    """Ledger and log do not belong together; going on would lose or repeat records. Needs a person."""


# ---------------------------------------------------------------------------------------------- clock


class Clock(Protocol):
    """The only way to ask what time it is."""

    def now(self) -> datetime:
        """Wall time, aware UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back, for spans."""


# -------------------------------------------------------------------------------------------- records


class Record(Protocol):
    """One record of an input topic, as the client library hands it out."""

    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Polled(NamedTuple):
    """Records of one task: by input role, and the offsets to go on from after them."""

    records: Mapping[str, Sequence[Record]]
    positions: Mapping[str, int]
    ended: frozenset[str] = frozenset()
    """Input roles whose log ends at these positions, as far as is known; none that has not been heard of yet."""

    @property
    def size(self) -> int:
        return sum(map(len, self.records.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """Records between a position and the end of the log that a consumer may read, by input role."""

    records: Mapping[str, int]


class RecordSource(Protocol):
    """The consumer group, seen by task. Membership is kept by the adapter whatever the caller does."""

    @property
    def assignment(self) -> frozenset[int]:
        """Tasks that the group has given to this process."""

    @property
    def partitions(self) -> int:
        """Partitions of each input topic, which is the number of tasks."""

    async def assignment_changed(self) -> None:
        """Returns when `assignment` may differ from what it was at the call before. Raises what ended membership."""

    async def seek(self, task: int, offsets: Mapping[str, int]) -> dict[str, int]:
        """Start (or go on) reading the task's partitions at these offsets. A role left out starts at its log's begin.

        Returns the offset of every role. Raises `LedgerMismatch` where an offset is outside the log.
        """

    def pause(self, task: int) -> None:
        """Fetch no more for this task until `seek`."""

    async def poll(self, task: int, max_records: int, wait_s: float) -> Polled:
        """At least one record, or none after `wait_s` seconds. Raises `Fenced` when the task is not ours any more."""

    def lag(self, task: int) -> Lag: ...


class Publisher(Protocol):
    """The right to publish for one task, until another takes it."""

    async def publish(self, batches: Sequence[Batch], positions: Mapping[str, int], version: int) -> int:
        """Publish in one transaction with the input positions, whose metadata is the ledger version.

        Where statuses are among them, which tell the version too, the positions may be left to a later publish, or to
        `settle`. Returns the offset after the last status, 0 where there is none. What was published may become
        readable a moment later. Raises `Fenced`, or `Unavailable` when it is not known to be out; then the publisher
        is of no more use.
        """

    async def settle(self, positions: Mapping[str, int], version: int) -> None:
        """Publish the positions of what was published last, where they may have been left, by a former publisher
        perhaps; nothing before the first version. Raises as `publish` does."""

    async def close(self) -> None: ...


class RecordSink(Protocol):
    """Where publishers come from."""

    async def open(self, task: int) -> Publisher:
        """A publisher whose opening fences every earlier one of that task."""

    async def published_version(self, task: int) -> int | None:
        """Ledger version of the last publish of this task.

        None where the broker can not tell: before the first publish, without transactions, or when it has forgotten
        the group's offsets (brokers do, a week after the last member left).
        """


ApplyChunk: TypeAlias = Callable[[Sequence[tuple[bytes, bytes | None]], int, int], None]
"""Takes (row key, state or None) of some records, the offset after them, and the end of the replay."""


class StatusLog(Protocol):
    """The status topic as the changelog of the state store."""

    def replay(self, task: int, start: int, at_least: int, apply: ApplyChunk) -> int:
        """Hand on what lies from offset `start` to the end; while nothing comes, empty chunks.

        Blocks: it runs in a thread. A `start` before the log's begin starts there. The end is not before `at_least`,
        which a publish of the caller has returned, even if it must wait for that. Returns the end offset. What `apply`
        raises ends it.
        """

    def begin(self, task: int) -> int:
        """First offset that the log still holds. Blocks: it runs in a thread."""


# -------------------------------------------------------------------------------------------- state


class StorePosition(NamedTuple):
    """What a store remembers of where it came from."""

    incarnation: str
    version: int
    status_offset: int
    saved_at: float
    """Seconds since 1970."""


class StateStore(Protocol):
    """Rows and timers of one task. Local and synchronous; a cache of what ledger and status topic hold."""

    @property
    def position(self) -> StorePosition | None:
        """None for an empty store."""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """State of each row, None where there is none."""

    def apply(
        self, rows: Mapping[bytes, bytes | None], timers: Iterable[tuple[bytes, bytes | None]], position: StorePosition
    ) -> None:
        """Write rows and timers (None: forget) and the position, all or nothing. Repeating it changes nothing."""

    def timers(self, first: bytes, end: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """The first timer entries, at most so many, with `first` <= key < `end`, in order of their keys."""

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Every (row key, state) as of the call, in key order."""

    def wipe(self) -> None:
        """Forget everything, the position too."""

    def size_bytes(self) -> int: ...

    def close(self) -> None: ...


class StateStores(Protocol):
    def open(self, task: int) -> StateStore:
        """The task's store with what the local disk still holds. One process at a time."""

    def tasks_on_disk(self) -> frozenset[int]: ...


# -------------------------------------------------------------------------------------------- ledger


class PredictionCellKey(NamedTuple):
    deployment_id: str
    model_id: str
    batch_id: str
    hour: int
    """Start of the hour, microseconds since 1970."""
    segment: str


class AccuracyCellKey(NamedTuple):
    deployment_id: str
    model_id: str
    batch_id: str
    hour: int
    segment: str
    label_day: int
    """Days since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    instance: str
    process: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A task's ledger row with its outbox slot."""

    task: int
    epoch: int
    version: int
    seq: int
    offsets: Mapping[str, int]
    origins: Mapping[str, int]
    """Highest origin offset taken from rekey, by `topic/partition`."""
    owner: Owner | None
    slot: bytes
    incarnation: str
    flood: Flood = Flood()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRow:
    """Time and conservation of one deployment on one task."""

    clock: DeploymentClock = DeploymentClock()
    predictions_received: int = 0
    actuals_received: int = 0
    dispositions: Mapping[str, int] = field(default_factory=dict)
    deletions_applied: int = 0
    rolled_until: int = 0
    """Cells before this hour (microseconds since 1970) are of days."""
    dropped_until: int = 0
    """Cells before this hour are gone."""
    has_strays: bool = False
    """Whether records of this deployment were forwarded by this task, or to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Everything that one ledger transaction writes. All statistics are absolute values."""

    task: int
    epoch: int
    expected_version: int
    seq: int
    offsets: Mapping[str, int]
    origins: Mapping[str, int]
    slot: bytes
    prediction_cells: Mapping[PredictionCellKey, Traffic]
    accuracy_cells: Mapping[AccuracyCellKey, Accuracy]
    clocks: Mapping[str, ClockRow]
    submissions: Mapping[tuple[str, str], int]
    """Records of (submission ID, status word)."""
    deployment_versions: Mapping[str, int]
    batch_versions: Mapping[tuple[str, str], int]
    outbox_ids: Sequence[int] = ()
    dropped_batches: Collection[tuple[str, str]] = ()
    """(deployment ID, batch ID) whose cells of this task go with a deletion."""
    rolled_days: Collection[tuple[str, int]] = ()
    """(deployment ID, start of the day) whose cells of later hours go: `prediction_cells` hold the whole day."""
    dropped_hours: Collection[tuple[str, int]] = ()
    """(deployment ID, hour) before which all cells go."""
    flood: Flood | None = None
    """None: as it was, whatever a person has changed of it meanwhile."""

    @property
    def lets_cells_go(self) -> bool:
        return bool(self.dropped_batches or self.rolled_days or self.dropped_hours)

    def is_gone(self, key: PredictionCellKey | AccuracyCellKey) -> bool:
        """Whether a cell that was there before goes; those of this micro-batch are written afterwards."""
        name, hour = key.deployment_id, key.hour
        return (
            (name, key.batch_id) in self.dropped_batches
            or (name, hour - hour % DAY_US) in self.rolled_days
            or any(name == deployment and hour < until for deployment, until in self.dropped_hours)
        )


class Deletions(NamedTuple):
    """What was deleted of a deployment: these monitoring batches, or the whole of it."""

    number: int
    """The greatest of the numbers of these deletions."""
    batches: Sequence[str]
    whole: bool = False


class Ledger(Protocol):
    """Postgres' side of the exactly-once protocol; the transaction in `persist` is the commit point."""

    async def take_over(self, task: int, owner: Owner) -> Checkpoint:
        """Raise the epoch: from here on no other owner can persist."""

    async def read(self, task: int) -> Checkpoint: ...

    async def persist(self, batch: MicroBatch) -> None:
        """Write all or nothing, and only if epoch and version are as expected.

        A commit whose fate is in doubt is resolved inside by reading the ledger: it returns when it was committed and
        repeats the transaction when it was not. Raises `Fenced`, `SettingsMoved`, `Unavailable` (nothing is known to
        be written; the same call may be repeated).
        """

    async def resume(self, task: int | None) -> dict[int, Flood]:
        """A person lets this task, or every one, go on after a flood. Returns what had paused each, by task."""

    async def clocks(self, task: int) -> dict[str, ClockRow]:
        """Of every deployment that the task has heard of."""

    async def held_at(self, task: int) -> dict[str, int]:
        """The least clock of the other tasks, of every deployment that has strays anywhere."""

    async def now(self) -> datetime:
        """The database's wall time, aware UTC."""

    async def prediction_cells(
        self, task: int, keys: Collection[PredictionCellKey]
    ) -> dict[PredictionCellKey, Traffic]: ...

    async def accuracy_cells(self, task: int, keys: Collection[AccuracyCellKey]) -> dict[AccuracyCellKey, Accuracy]: ...

    async def first_day(self, task: int, deployment_id: str, start: int, end: int) -> int | None:
        """Start of the first day that has a cell of an hour from `start` to before `end`."""

    async def cells_of_day(
        self, task: int, deployment_id: str, day: int
    ) -> tuple[dict[PredictionCellKey, Traffic], dict[AccuracyCellKey, Accuracy]]:
        """All cells of the day that starts there."""

    async def submissions(self, task: int, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]: ...

    async def outbox(self, task: int, partitions: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Events (id, key, value) that wait for this home task, oldest first."""

    async def deletions(self, task: int) -> dict[str, Deletions]:
        """By deployment: what was deleted that this task has not applied."""


# -------------------------------------------------------------------------------------------- catalog


class Catalog(Protocol):
    """Deployments, models and monitoring batches as the pipeline needs them. What is new is made before it is used,
    each in a short transaction of its own; two tasks that see the same new thing at once get the same one."""

    async def deployments(self, ids: Collection[str]) -> dict[str, Deployment]:
        """Those that exist and are not deleted."""

    async def batches(self, ids: Collection[tuple[str, str]]) -> dict[tuple[str, str], MonitoringBatch]:
        """By (deployment ID, batch ID); deleted ones too."""

    async def batches_named(
        self, names: Collection[tuple[str, str]], origin: str
    ) -> dict[tuple[str, str], MonitoringBatch]:
        """By (deployment ID, name): the oldest undeleted batch of that name, opened where there is none."""

    async def create_deployment(
        self, deployment_id: str, target_type: TargetType, classes: Sequence[str], model_id: str
    ) -> None:
        """A deployment that events brought along; nothing happens where it exists or was deleted."""

    async def learn(self, deployment_id: str, *, models: Sequence[str] = (), classes: Sequence[str] = ()) -> None:
        """Add models and classes that were not known, up to the limits; what does not fit is left out."""
