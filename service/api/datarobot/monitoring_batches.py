"""Monitoring batches: named sets of rows of one deployment, on which statistics are reported."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.api.core.authentication import Caller
from service.api.core.bodies import JsonBody
from service.api.core.deps import Deps
from service.api.datarobot.fields import Body, Instant, Json, QueryInstant, Shown
from service.api.datarobot.gate import Visible, Writable
from service.api.datarobot.paging import Asked, Page
from service.domain.monitoring_batch import MAX_NAME
from service.usecases import monitoring_batches as cases
from service.usecases.monitoring_batches import BatchChange, BatchDraft, BatchKey, BatchLimits, BatchQuestion

router = APIRouter(prefix="/deployments/{deploymentId}", tags=["monitoring batches"])

Order = Literal[
    "name", "-name", "createdAt", "-createdAt", "earliestPredictionTimestamp", "-earliestPredictionTimestamp",
    "latestPredictionTimestamp", "-latestPredictionTimestamp",
]  # fmt: skip
_KEYS: Final = {
    "name": BatchKey.NAME,
    "createdAt": BatchKey.CREATED_AT,
    "earliestPredictionTimestamp": BatchKey.FIRST_AT,
    "latestPredictionTimestamp": BatchKey.LAST_AT,
}


def _ruled(fault: Callable[[str], str | None]) -> AfterValidator:
    """A rule of the use cases, told beside all others that the same body breaks."""

    def check(value: str) -> str:
        if (rule := fault(value)) is not None:
            raise PydanticCustomError("rule", "{rule}", {"rule": rule[:1].upper() + rule[1:]})
        return value

    return AfterValidator(check)


def _stored(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("nul", "Must not contain the character NUL")
    return value


Text = Annotated[str, AfterValidator(_stored)]
"""What is looked up in the database."""
Name = Annotated[
    str, _ruled(cases.name_fault), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NAME})
]
Description = Annotated[
    str, _ruled(cases.description_fault), WithJsonSchema({"type": "string", "maxLength": cases.MAX_DESCRIPTION})
]
Url = Annotated[
    str, _ruled(cases.url_fault), WithJsonSchema({"type": "string", "format": "uri", "maxLength": cases.MAX_URL})
]


class MonitoringBatchCreateUpdate(Body):
    """What is set of a batch; every key may be left out."""

    batch_name: Name = Field(default_factory=str, examples=["May scoring"])
    """1 to 256 characters; need not be unique. Without one a new batch is named by its creation."""
    description: Description | None = Field(None, examples=["first run"])
    """At most 2,000 characters; null: none."""
    external_context_url: Url | None = Field(None, examples=["https://ci.example/42"])
    """An absolute http or https address of at most 2,048 characters; null: none."""
    is_locked: bool | None = Field(None, examples=[False])
    """True: no more predictions are accepted. Null is false for a new batch, else no change."""

    def draft(self) -> BatchDraft:
        return BatchDraft(
            name=self.batch_name or None,
            description=self.description,
            external_context_url=self.external_context_url,
            is_locked=self.is_locked or False,
        )

    def change(self) -> BatchChange:
        """Of the keys that were sent."""
        sent: dict[str, Any] = {
            "name" if name == "batch_name" else name: getattr(self, name) for name in self.model_fields_set
        }
        if sent.get("is_locked", False) is None:
            del sent["is_locked"]
        return BatchChange(**sent)


class MonitoringBatchCreator(Shown):
    """Who created a batch."""

    id: str = Field(examples=["66a0cc0000000000000000c1"])
    name: str = Field(examples=["Example User"])


class MonitoringBatchServiceHealth(Shown):
    message: str = Field(examples=["The batch has no rows."])
    status: Literal["unknown", "warning", "passing", "unavailable", "failing"]


class MonitoringBatch(Shown):
    id: str = Field(examples=["66a0bb0000000000000000b1"])
    name: str = Field(examples=["May scoring"])
    description: str | None
    external_context_url: str | None
    is_locked: bool
    """Whether no more predictions are accepted."""
    created_at: Instant
    created_by: MonitoringBatchCreator
    batch_prediction_job_id: str | None
    """The job that opened the batch."""
    batch_prediction_job_status: Literal["INITIALIZING", "RUNNING", "COMPLETED", "ABORTED", "FAILED"] | None
    predictions_count: int = Field(examples=[1200])
    earliest_prediction_timestamp: Instant
    """The least start of its models; the creation while there is no row."""
    latest_prediction_timestamp: Instant
    """The greatest end of its models; the creation while there is no row."""
    service_health: MonitoringBatchServiceHealth


class MonitoringBatchLimits(Shown):
    """How many batches there may be, and are; those of the policy and of events do not count."""

    deployment_id: str = Field(examples=["66a0aa0000000000000000d1"])
    max_batches: int = Field(examples=[1000])
    used_batches: int = Field(examples=[12])
    remaining_batches: int = Field(examples=[988])
    max_models_per_batch: int = Field(examples=[100])
    max_batches_per_statistics_request: int = Field(examples=[100])


class Nothing(Shown):
    """An empty object."""


def shown(batch: cases.BatchSummary) -> MonitoringBatch:
    health = cases.service_health(batch)
    return MonitoringBatch(
        id=batch.id,
        name=batch.name,
        description=batch.description,
        external_context_url=batch.external_context_url,
        is_locked=batch.is_locked,
        created_at=batch.created_at,
        created_by=MonitoringBatchCreator(id=batch.created_by["id"], name=batch.created_by["name"]),
        batch_prediction_job_id=batch.job_id,
        batch_prediction_job_status=None,  # no job opens batches yet
        predictions_count=batch.predictions,
        earliest_prediction_timestamp=batch.first_at or batch.created_at,
        latest_prediction_timestamp=batch.last_at or batch.created_at,
        service_health=MonitoringBatchServiceHealth.model_validate(health, from_attributes=True),
    )


async def _known(
    deployment_id: Visible,
    batch_id: Annotated[str, Path(alias="monitoringBatchId", description="Monitoring batch ID.")],
    api: Deps,
) -> str:
    await cases.show(api.batches, deployment_id, batch_id)
    return batch_id


KnownBatch = Annotated[str, Depends(_known)]
"""ID of a batch that is there, in a deployment that may be looked at."""


async def _changeable(batch_id: KnownBatch, _: Writable) -> str:
    return batch_id


ChangeableBatch = Annotated[str, Depends(_changeable)]
"""ID of a batch that is there and may be changed."""


async def _question(
    deployment_id: Visible,
    asked: Asked,
    created_by: Annotated[Text | None, Query(alias="createdBy", description="User ID.")] = None,
    search: Annotated[
        Text | None, Query(max_length=MAX_NAME, description="Part of the name in any case, or the whole batch ID.")
    ] = None,
    order_by: Annotated[Order, Query(alias="orderBy")] = "-createdAt",
    created_after: Annotated[QueryInstant | None, Query(alias="createdAfter")] = None,
    created_before: Annotated[QueryInstant | None, Query(alias="createdBefore")] = None,
    start_after: Annotated[QueryInstant | None, Query(alias="startAfter", description="On the earliest row.")] = None,
    end_before: Annotated[QueryInstant | None, Query(alias="endBefore", description="On the latest row.")] = None,
) -> BatchQuestion:
    return BatchQuestion(
        deployment_id=deployment_id,
        created_by=created_by,
        search=search,
        created_after=created_after,
        created_before=created_before,
        start_after=start_after,
        end_before=end_before,
        order=_KEYS[order_by.removeprefix("-")],
        descending=order_by.startswith("-"),
        limit=asked.limit,
        offset=asked.offset,
    )


Question = Annotated[BatchQuestion, Depends(_question)]
NewBatch = Annotated[MonitoringBatchCreateUpdate, Depends(JsonBody(MonitoringBatchCreateUpdate, optional=True))]


@router.get("/monitoringBatchLimits/", response_model=MonitoringBatchLimits)
async def get_monitoring_batch_limits(deployment_id: Visible, api: Deps) -> Json:
    """Also where batch monitoring is off."""
    return Json(_limits(await cases.limits(api.batches, deployment_id)))


@router.get("/monitoringBatches/", response_model=Page[MonitoringBatch])
async def list_monitoring_batches(question: Question, asked: Asked, api: Deps) -> Json:
    """Filters combine with AND, bounds are strict. Empty batches match neither startAfter nor endBefore."""
    found = await cases.ask(api.batches, question)
    return Json(asked.page([shown(batch) for batch in found.batches], found.total))


@router.post("/monitoringBatches/", response_model=MonitoringBatch)
async def create_monitoring_batch(deployment_id: Writable, caller: Caller, body: NewBatch, api: Deps) -> Json:
    """Statistics for it appear once rows that carry its id are counted."""
    return Json(shown(await cases.create(api.batches, deployment_id, body.draft(), caller.author)))


@router.get("/monitoringBatches/{monitoringBatchId}/", response_model=MonitoringBatch)
async def get_monitoring_batch(
    deployment_id: Visible, batch_id: Annotated[str, Path(alias="monitoringBatchId")], api: Deps
) -> Json:
    """One batch."""
    return Json(shown(await cases.show(api.batches, deployment_id, batch_id)))


@router.patch("/monitoringBatches/{monitoringBatchId}/", response_model=MonitoringBatch)
async def update_monitoring_batch(deployment_id: Visible, batch_id: ChangeableBatch, body: NewBatch, api: Deps) -> Json:
    """After the answer to a lock no further row is counted; actuals for counted rows still are."""
    return Json(shown(await cases.change(api.batches, deployment_id, batch_id, body.change())))


@router.delete("/monitoringBatches/{monitoringBatchId}/", response_model=Nothing)
async def delete_monitoring_batch(deployment_id: Visible, batch_id: ChangeableBatch, api: Deps) -> Json:
    """Its rows are out of all statistics with the answer."""
    await cases.delete(api.batches, deployment_id, batch_id)
    return Json(Nothing())


def _limits(found: BatchLimits) -> MonitoringBatchLimits:
    return MonitoringBatchLimits(
        deployment_id=found.deployment_id,
        max_batches=found.most,
        used_batches=found.used,
        remaining_batches=found.remaining,
        max_models_per_batch=found.models_of_a_batch,
        max_batches_per_statistics_request=found.in_a_question,
    )
