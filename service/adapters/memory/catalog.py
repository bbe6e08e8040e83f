"""Deployments, models and monitoring batches in dictionaries, with the changes that the API would make.

Every change raises a version; a change of a batch leaves an event in the outbox.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from service.adapters.memory.clock import HandClock
from service.domain.deployment import MAX_CLASSES, MAX_MODELS, Deployment, TargetType
from service.domain.monitoring_batch import MonitoringBatch
from service.ports import Clock
from service.wire.batch_event import Change, MonitoringBatchEvent, batch_event_key, encode_batch_event, instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """One numbered deletion of a deployment."""

    number: int
    batch_id: str | None
    """None: the whole deployment."""


class MemoryCatalog:
    """What the tables of deployments and batches are to Postgres, and the outbox and deletions beside them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or HandClock()
        self.outbox: dict[int, tuple[bytes, bytes]] = {}
        self.deletions: dict[str, list[Deletion]] = {}
        self._deployments: dict[str, Deployment] = {}
        self._gone: set[str] = set()
        self._batches: dict[tuple[str, str], MonitoringBatch] = {}
        self._events = 0

    # ---------------------------------------------------------------- as the pipeline sees it

    async def deployments(self, ids: Collection[str]) -> dict[str, Deployment]:
        await asyncio.sleep(0)
        return {id: self._deployments[id] for id in ids if id in self._deployments}

    async def batches(self, ids: Collection[tuple[str, str]]) -> dict[tuple[str, str], MonitoringBatch]:
        await asyncio.sleep(0)
        return {id: self._batches[id] for id in ids if id in self._batches}

    async def batches_named(
        self, names: Collection[tuple[str, str]], origin: str
    ) -> dict[tuple[str, str], MonitoringBatch]:
        await asyncio.sleep(0)
        return {(deployment, name): self._named(deployment, name) for deployment, name in names}

    async def create_deployment(
        self, deployment_id: str, target_type: TargetType, classes: Sequence[str], model_id: str
    ) -> None:
        await asyncio.sleep(0)
        if deployment_id in self._deployments or deployment_id in self._gone:
            return
        self._deployments[deployment_id] = Deployment(
            id=deployment_id,
            target_type=target_type,
            class_index={label: index for index, label in enumerate(classes)},
            classes_learned=target_type is TargetType.MULTICLASS,
            positive_class=max(classes) if target_type is TargetType.BINARY else None,
            current_model=model_id,
            models={model_id: None},
            batch_enabled=True,
        )

    async def learn(self, deployment_id: str, *, models: Sequence[str] = (), classes: Sequence[str] = ()) -> None:
        await asyncio.sleep(0)
        if known := self._deployments.get(deployment_id):
            thresholds, index = dict(known.models), dict(known.class_index)
            for model in models:
                if len(thresholds) < MAX_MODELS:
                    thresholds.setdefault(model, None)
            for label in classes if known.classes_learned else ():
                if len(index) < MAX_CLASSES:
                    index.setdefault(label, len(index))
            if (thresholds, index) != (known.models, known.class_index):
                self.put(replace(known, models=thresholds, class_index=index))

    # ---------------------------------------------------------------- as the API changes it

    def put(self, deployment: Deployment) -> Deployment:
        """Register a deployment, or change the one of that ID, which raises its version."""
        known = self._deployments.get(deployment.id)
        version = max(deployment.version, known.version + 1 if known else 1)
        self._deployments[deployment.id] = replace(deployment, version=version)
        return self._deployments[deployment.id]

    def delete(self, deployment_id: str) -> None:
        """The deployment and, by a numbered deletion, what was counted of it."""
        deployment = self._deployments.pop(deployment_id)
        self._gone.add(deployment_id)
        deletion = Deletion(number=deployment.last_deletion + 1, batch_id=None)
        self.deletions.setdefault(deployment_id, []).append(deletion)

    def open_batch(self, deployment_id: str, name: str) -> MonitoringBatch:
        batch_id = f"{len(self._batches) + 1:024x}"
        batch = MonitoringBatch(deployment_id=deployment_id, id=batch_id, version=0, name=name)
        return self._changed(batch, "CREATED")

    def lock(self, deployment_id: str, batch_id: str) -> MonitoringBatch:
        return self._changed(replace(self._batches[deployment_id, batch_id], is_locked=True), "LOCKED")

    def unlock(self, deployment_id: str, batch_id: str) -> MonitoringBatch:
        return self._changed(replace(self._batches[deployment_id, batch_id], is_locked=False), "UNLOCKED")

    def rename_batch(self, deployment_id: str, batch_id: str, name: str) -> None:
        batch = self._batches[deployment_id, batch_id]
        self._batches[deployment_id, batch_id] = replace(batch, name=name, version=batch.version + 1)

    def delete_batch(self, deployment_id: str, batch_id: str) -> MonitoringBatch:
        """The batch and, by a numbered deletion, what was counted in it."""
        batch = replace(self._batches[deployment_id, batch_id], is_deleted=True)
        if batch != self._batches[deployment_id, batch_id]:
            deployment = self._deployments[deployment_id]
            number = deployment.last_deletion + 1
            self.put(replace(deployment, last_deletion=number))
            self.deletions.setdefault(deployment_id, []).append(Deletion(number=number, batch_id=batch_id))
        return self._changed(batch, "DELETED")

    def emit(self, key: bytes, value: bytes) -> int:
        """Leave an event in the outbox; returns its ID."""
        self._events += 1
        self.outbox[self._events] = (key, value)
        return self._events

    # ---------------------------------------------------------------- as the ledger checks it

    def deployment_version(self, deployment_id: str) -> int | None:
        known = self._deployments.get(deployment_id)
        return known.version if known else None

    def batch_version(self, deployment_id: str, batch_id: str) -> int | None:
        known = self._batches.get((deployment_id, batch_id))
        return known.version if known else None

    def _named(self, deployment_id: str, name: str) -> MonitoringBatch:
        for batch in self._batches.values():
            if (batch.deployment_id, batch.name, batch.is_deleted) == (deployment_id, name, False):
                return batch
        return self.open_batch(deployment_id, name)

    def _changed(self, batch: MonitoringBatch, event: Change) -> MonitoringBatch:
        """Store the batch at its next version and leave an event; neither, where nothing is different."""
        key = (batch.deployment_id, batch.id)
        if self._batches.get(key) == batch:
            return batch
        self._batches[key] = replace(batch, version=batch.version + 1)
        value = MonitoringBatchEvent(
            deployment_id=batch.deployment_id,
            batch_id=batch.id,
            batch_name=batch.name,
            event=event,
            at=instant(self.clock.now()),
        )
        self.emit(batch_event_key(*key), encode_batch_event(value))
        return self._batches[key]
