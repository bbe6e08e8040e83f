"""Monitoring batches as people see and change them: open, list, describe, lock, unlock, delete.

The pipeline opens batches by name and policy, without limit; what somebody asks for is limited here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from service.domain.deployment import MAX_MODELS
from service.domain.errors import Invalid, NotFound
from service.domain.ids import is_object_id
from service.domain.monitoring_batch import MAX_NAME

LIMIT: Final = 1_000
PAGE: Final = 1_000
MAX_DESCRIPTION: Final = 2_000
MAX_URL: Final = 2_048
MAX_IN_A_QUESTION: Final = 100
"""Of statistics that are asked for batch by batch."""
SERVICE: Final[Mapping[str, str]] = {"id": "0" * 24, "name": "service"}
"""Who opened the batches that nobody asked for."""


class Keep(Enum):
    """In the place of a new value: it stays as it is."""

    KEEP = 0


KEEP: Final = Keep.KEEP
Kept: TypeAlias = Literal[Keep.KEEP]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """A batch with the figures of its rows. `first_at` and `last_at` are None before the first prediction."""

    deployment_id: str
    id: str
    name: str
    description: str | None
    external_context_url: str | None = None
    origin: str
    created_by: Mapping[str, str]
    job_id: str | None = None
    is_locked: bool
    version: int
    created_at: datetime
    predictions: int
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPage:
    batches: Sequence[BatchSummary]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDraft:
    """A batch that somebody asks for; without a name it is named by its creation."""

    name: str | None = None
    description: str | None = None
    external_context_url: str | None = None
    is_locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchChange:
    """What is to be another."""

    name: str | Kept = KEEP
    description: str | None | Kept = KEEP
    external_context_url: str | None | Kept = KEEP
    is_locked: bool | Kept = KEEP


class BatchKey(StrEnum):
    """What batches are ordered by. An empty batch stands at its creation."""

    NAME = "name"
    CREATED_AT = "created_at"
    FIRST_AT = "first_at"
    LAST_AT = "last_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchQuestion:
    """Which batches of a deployment, in which order; bounds are strict, equal ones stand in the order of their ids."""

    deployment_id: str
    created_by: str | None = None
    search: str | None = None
    """Part of the name in any case, or the whole id."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    start_after: datetime | None = None
    """On the first prediction: an empty batch has none."""
    end_before: datetime | None = None
    order: BatchKey = BatchKey.CREATED_AT
    descending: bool = False
    limit: int = PAGE
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    deployment_id: str
    used: int
    most: int = LIMIT
    models_of_a_batch: int = MAX_MODELS
    in_a_question: int = MAX_IN_A_QUESTION

    @property
    def remaining(self) -> int:
        return max(0, self.most - self.used)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    status: str
    message: str


class MonitoringBatches(Protocol):
    """Where batches are kept. When a change has returned, no row is counted under the state of before.

    Every method may raise `Unavailable`.
    """

    async def page(self, question: BatchQuestion) -> BatchPage | None:
        """Undeleted batches; None where there is no such deployment."""

    async def find(self, deployment_id: str, batch_id: str) -> BatchSummary | None:
        """None where there is none, or it was deleted."""

    async def asked_for(self, deployment_id: str) -> int:
        """How many undeleted batches were opened by people and jobs."""

    async def open(
        self, deployment_id: str, draft: BatchDraft, *, author: Mapping[str, str], limit: int
    ) -> BatchSummary:
        """A new batch. Raises `NotFound` for the deployment; `Conflict` where it monitors no batches, or `limit` were
        opened this way, however many are opened at once."""

    async def change(
        self, deployment_id: str, batch_id: str, change: BatchChange, *, even_where_off: bool = False
    ) -> BatchSummary:
        """The batch as it is then. What is so already stays as it is, without an event. Raises `NotFound`, or
        `Conflict` where the deployment monitors no batches."""

    async def delete(self, deployment_id: str, batch_id: str) -> bool:
        """Whether there was such a batch. Its statistics are out of every figure at once."""


async def ask(batches: MonitoringBatches, question: BatchQuestion) -> BatchPage:
    """Raises `NotFound` for the deployment."""
    found = await batches.page(question)
    if found is None:
        raise NotFound(f"there is no deployment {question.deployment_id!r}")
    return found


async def page(batches: MonitoringBatches, deployment_id: str, *, limit: int = PAGE, offset: int = 0) -> BatchPage:
    """All of them, the oldest first. Raises `NotFound`."""
    return await ask(batches, BatchQuestion(deployment_id=deployment_id, limit=limit, offset=offset))


async def show(batches: MonitoringBatches, deployment_id: str, batch_id: str) -> BatchSummary:
    """Raises `NotFound`."""
    found = await batches.find(deployment_id, batch_id) if is_object_id(batch_id) else None
    if found is None:
        raise unknown_batch(deployment_id, batch_id)
    return found


async def limits(batches: MonitoringBatches, deployment_id: str) -> BatchLimits:
    return BatchLimits(deployment_id=deployment_id, used=await batches.asked_for(deployment_id))


async def create(
    batches: MonitoringBatches, deployment_id: str, draft: BatchDraft, author: Mapping[str, str] = SERVICE
) -> BatchSummary:
    """The new batch. Raises `Invalid`; `NotFound`; `Conflict` where batches are off or the limit is reached."""
    _require_valid(draft.name, draft.description, draft.external_context_url)
    return await batches.open(deployment_id, draft, author=author, limit=LIMIT)


async def change(batches: MonitoringBatches, deployment_id: str, batch_id: str, wanted: BatchChange) -> BatchSummary:
    """The batch as it is then. Raises `Invalid`; `NotFound`; `Conflict` where batches are off."""
    _require_valid(_given(wanted.name), _given(wanted.description), _given(wanted.external_context_url))
    return await batches.change(deployment_id, batch_id, wanted)


async def lock(batches: MonitoringBatches, deployment_id: str, batch_id: str) -> None:
    """From here on no row joins the batch. Raises `NotFound`."""
    await batches.change(deployment_id, batch_id, BatchChange(is_locked=True), even_where_off=True)


async def unlock(batches: MonitoringBatches, deployment_id: str, batch_id: str) -> None:
    """Rows may join again. Raises `NotFound`."""
    await batches.change(deployment_id, batch_id, BatchChange(is_locked=False), even_where_off=True)


async def delete(batches: MonitoringBatches, deployment_id: str, batch_id: str) -> None:
    """The batch and its statistics go. Raises `NotFound`."""
    if not await batches.delete(deployment_id, batch_id):
        raise unknown_batch(deployment_id, batch_id)


def unknown_batch(deployment_id: str, batch_id: str) -> NotFound:
    return NotFound(f"deployment {deployment_id!r} has no monitoring batch {batch_id[:128]!r}")


def service_health(batch: BatchSummary) -> ServiceHealth:
    """What is known of how the requests went that made the rows of a batch."""
    if batch.predictions == 0:
        return ServiceHealth(status="unknown", message="The batch has no rows.")
    return ServiceHealth(status="unavailable", message="No service data is counted.")


def describe(batch: BatchSummary) -> dict[str, Any]:
    """Ready for JSON."""
    return {
        "id": batch.id,
        "batchName": batch.name,
        "description": batch.description,
        "origin": batch.origin,
        "isLocked": batch.is_locked,
        "version": batch.version,
        "createdAt": batch.created_at.isoformat(),
        "predictionsCount": batch.predictions,
        "earliestPredictionTimestamp": batch.first_at.isoformat() if batch.first_at else None,
        "latestPredictionTimestamp": batch.last_at.isoformat() if batch.last_at else None,
    }


def name_fault(name: str) -> str | None:
    """The rule that a name breaks."""
    return (
        None if 1 <= len(name) <= MAX_NAME and "\0" not in name else f"must have 1 to {MAX_NAME} characters, none NUL"
    )


def description_fault(description: str) -> str | None:
    if len(description) <= MAX_DESCRIPTION and "\0" not in description:
        return None
    return f"must have at most {MAX_DESCRIPTION:,} characters, none NUL"


def url_fault(url: str) -> str | None:
    if len(url) <= MAX_URL and _is_web_address(url):
        return None
    return f"must be an absolute http or https address of at most {MAX_URL:,} characters"


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and not any(character.isspace() for character in url)
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def _given(value: str | None | Kept) -> str | None:
    return None if value is KEEP else value


def _require_valid(name: str | None, description: str | None, url: str | None) -> None:
    found = {
        "batchName": None if name is None else name_fault(name),
        "description": None if description is None else description_fault(description),
        "externalContextUrl": None if url is None else url_fault(url),
    }
    if faults := [f"{field}: {rule}" for field, rule in found.items() if rule is not None]:
        raise Invalid("\n".join(faults))
