"""The worker's view of deployments and monitoring batches, and the making of what events bring along.

A cache: every micro-batch transaction compares the versions it used, so that nothing stale is ever committed. What
is not there is asked for once per micro-batch; absence is never remembered.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from service.domain.deployment import MAX_CLASSES, MAX_MODELS, BatchPolicy, Deployment, JoinSpec, TargetType
from service.domain.ids import is_object_id
from service.domain.monitoring_batch import MonitoringBatch, policy_batch_name, policy_starts
from service.pipeline.columns import Actuals, Decoded, Predictions
from service.ports import Catalog
from service.wire.events import PredictionEvent
from service.wire.values import Prediction, class_label, decode_predictions

BatchKey = tuple[str, str]


@dataclass(slots=True)
class Known:
    """What one micro-batch may know: nothing else decides the fate of its records."""

    deployments: dict[str, Deployment] = field(default_factory=dict)
    batches: dict[BatchKey, MonitoringBatch] = field(default_factory=dict)
    """By (deployment ID, batch ID)."""
    named: dict[BatchKey, MonitoringBatch] = field(default_factory=dict)
    """By (deployment ID, name that an event gave)."""
    scheduled: dict[BatchKey, MonitoringBatch] = field(default_factory=dict)
    """By (deployment ID, name that the policy gave)."""

    @property
    def deleted(self) -> frozenset[BatchKey]:
        return frozenset(key for key, batch in self.batches.items() if batch.is_deleted)


class Registry:
    """Shared by the tasks of one process."""

    def __init__(self, catalog: Catalog, auto_create: bool) -> None:
        self._catalog = catalog
        self._auto_create = auto_create
        self._deployments: dict[str, Deployment] = {}
        self._batches: dict[BatchKey, MonitoringBatch] = {}
        self._names: dict[str, dict[BatchKey, BatchKey]] = {"name": {}, "policy": {}}

    async def resolve(self, decoded: Decoded, due: Collection[str] = ()) -> Known:
        """Everything that these records refer to, and the deployments that are `due`; what records may bring along
        is created."""
        predictions, actuals = decoded.predictions, decoded.actuals
        known = Known()
        refused = {refusal.identity.deployment_id for refusal in decoded.refused}
        foreign = {stray.deployment for stray in decoded.strayed}
        await self._load_deployments(known, {*predictions.deployment, *actuals.deployment, *refused, *foreign, *due})
        if self._auto_create:
            await self._create_deployments(known, predictions)
        asked = [one for one in _asked(predictions) if one.deployment in known.deployments]
        await self._learn(known, asked, predictions, actuals)
        await self._load_batches(known, asked, predictions)
        return known

    async def joins(self, names: Collection[str]) -> dict[str, JoinSpec]:
        """How these deployments join; a deployment that is gone waits no longer than by default."""
        known = Known()
        await self._load_deployments(known, names)
        return {name: known.deployments[name].join if name in known.deployments else JoinSpec() for name in names}

    async def load_batches(self, known: Known, keys: Collection[BatchKey]) -> None:
        """Add these batches, as far as they exist, to what is known."""
        known.batches.update((key, self._batches[key]) for key in sorted(keys) if key in self._batches)
        missing = sorted(key for key in keys if key not in known.batches)
        if missing:
            loaded = await self._catalog.batches(missing)
            self._batches.update(loaded)
            known.batches.update(loaded)

    def forget(self, deployments: Iterable[str], batches: Iterable[BatchKey]) -> None:
        """Drop what turned out to have changed; the next `resolve` reads it anew."""
        for deployment in deployments:
            self._deployments.pop(deployment, None)
        for batch in batches:
            self._batches.pop(batch, None)

    async def _load_deployments(self, known: Known, wanted: Iterable[str | None]) -> None:
        names = sorted(name for name in wanted if name)
        known.deployments.update((name, self._deployments[name]) for name in names if name in self._deployments)
        missing = [name for name in names if name not in known.deployments and is_object_id(name)]
        if missing:
            loaded = await self._catalog.deployments(missing)
            self._deployments.update(loaded)
            known.deployments.update(loaded)

    async def _create_deployments(self, known: Known, predictions: Predictions) -> None:
        if known.deployments.keys() >= set(predictions.deployment):
            return
        created = []
        for name, positions in predictions.by_deployment().items():
            if name in known.deployments or not is_object_id(name):
                continue
            values = decode_predictions([predictions.prediction[i] for i in positions])
            given = (value for value in values if value is not None and value != {})
            first = next((value for value in given if all(map(_is_storable, _labels(value)))), None)
            if first is None:
                continue
            target_type, classes = _type_of(first)
            models = (predictions.events[i].model_id for i in positions)
            model = next((model for model in models if model and is_object_id(model)), "default")
            await self._catalog.create_deployment(name, target_type, classes, model)
            created.append(name)
        await self._load_deployments(known, created)

    async def _learn(
        self, known: Known, asked: Collection["_Asked"], predictions: Predictions, actuals: Actuals
    ) -> None:
        """Models that events name for the first time, and classes where the deployment learns them."""
        models: dict[str, list[str]] = {}
        for name, model, _, _ in sorted(asked, key=str):
            if model is not None and model not in known.deployments[name].models and is_object_id(model):
                models.setdefault(name, []).append(model)
        models = {name: new for name, new in models.items() if len(known.deployments[name].models) < MAX_MODELS}
        classes = _new_classes(known, predictions, actuals)
        changed = sorted({*models, *classes})
        for name in changed:
            await self._catalog.learn(name, models=models.get(name, ()), classes=tuple(classes.get(name, ())))
        self.forget(changed, ())
        for name in changed:
            del known.deployments[name]
        await self._load_deployments(known, changed)

    async def _load_batches(self, known: Known, asked: Collection["_Asked"], predictions: Predictions) -> None:
        open_for = {name for name, deployment in known.deployments.items() if deployment.batch_enabled}
        by_id = {(name, batch) for name, _, batch, _ in asked if batch is not None and is_object_id(batch)}
        by_name = {
            (name, batch_name)
            for name, _, batch, batch_name in asked
            if batch_name is not None and batch is None and name in open_for
        }
        await self.load_batches(known, by_id)
        await self._load_named(known, known.named, "name", by_name)
        await self._load_named(known, known.scheduled, "policy", _names_by_policy(known, asked, predictions))

    async def _load_named(
        self, known: Known, found: dict[BatchKey, MonitoringBatch], origin: str, names: set[BatchKey]
    ) -> None:
        cached = self._names[origin]
        for name in sorted(names & cached.keys()):
            batch = self._batches.get(cached[name])
            if batch is not None and not batch.is_deleted and batch.name == name[1]:  # it may have been renamed
                found[name] = batch
        missing = sorted(name for name in names if name not in found)
        if missing:
            for name, batch in (await self._catalog.batches_named(missing, origin)).items():
                key = (batch.deployment_id, batch.id)
                self._batches[key], cached[name], found[name] = batch, key, batch
        known.batches.update(((batch.deployment_id, batch.id), batch) for batch in found.values())


class _Asked(NamedTuple):
    """What a prediction names beside its deployment."""

    deployment: str
    model: str | None
    batch_id: str | None
    batch_name: str | None


_names: Callable[[PredictionEvent], tuple[str, str | None, str | None, str | None]]
_names = attrgetter("deployment_id", "model_id", "batch_id", "batch_name")


def _asked(predictions: Predictions) -> list[_Asked]:
    """Each combination of deployment, model and batch that predictions name."""
    return [_Asked(*one) for one in dict.fromkeys(map(_names, predictions.events))]


def _new_classes(known: Known, predictions: Predictions, actuals: Actuals) -> dict[str, dict[str, None]]:
    learners = {name for name, found in known.deployments.items() if found.classes_learned}
    seen: dict[str, dict[str, None]] = {}
    if not learners:
        return seen
    for name, positions in predictions.by_deployment().items():
        if name in learners:
            for value in decode_predictions([predictions.prediction[i] for i in positions]):
                _note_new(seen, known.deployments[name], _labels(value))
    for name, event in zip(actuals.deployment, actuals.events, strict=True):
        if name in learners and event.actual is not None:
            _note_new(seen, known.deployments[name], [class_label(event.actual)])
    return {name: labels for name, labels in seen.items() if len(known.deployments[name].class_index) < MAX_CLASSES}


def _note_new(seen: dict[str, dict[str, None]], deployment: Deployment, labels: Iterable[str]) -> None:
    for label in labels:
        if label not in deployment.class_index and _is_storable(label):
            seen.setdefault(deployment.id, {})[label] = None


def _is_storable(label: str) -> bool:
    """Whether a label can be a class: Postgres keeps no text with the character NUL."""
    return "\0" not in label


def _names_by_policy(known: Known, asked: Iterable["_Asked"], predictions: Predictions) -> set[BatchKey]:
    """Of the predictions that name no batch themselves."""
    names: set[BatchKey] = set()
    some_named = {one.deployment for one in asked if one.batch_id is not None or one.batch_name is not None}
    for name, positions in predictions.by_deployment().items():
        deployment = known.deployments.get(name)
        if deployment is not None and deployment.batch_enabled and deployment.batch_policy is not BatchPolicy.NONE:
            free = positions
            if name in some_named:
                events = predictions.events
                free = [i for i in positions if events[i].batch_id is None and events[i].batch_name is None]
            starts = np.unique(policy_starts(deployment.batch_policy, predictions.at[free])).tolist()
            names.update((name, policy_batch_name(deployment.batch_policy, start)) for start in starts)
    return names


def _labels(value: Prediction | None) -> list[str]:
    if isinstance(value, dict):
        return list(value)
    return [] if value is None else [class_label(value)]


def _type_of(first: Prediction) -> tuple[TargetType, list[str]]:
    """The type that a deployment takes from its first prediction, and its classes (positive one last)."""
    if isinstance(first, bool | str):
        return TargetType.MULTICLASS, [class_label(first)]
    if isinstance(first, float):
        return TargetType.REGRESSION, []
    return TargetType.BINARY if len(first) == 2 else TargetType.MULTICLASS, sorted(first)[:MAX_CLASSES]
