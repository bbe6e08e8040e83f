"""The worker's view of deployments and monitoring batches, and the making of what events bring along.

A cache: every micro-batch transaction compares the versions it used, so that nothing stale is ever committed. What
is not there is asked for once per micro-batch; absence is never remembered.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from service.domain.deployment import MAX_CLASSES, MAX_MODELS, Deployment, TargetType
from service.domain.ids import is_object_id
from service.domain.monitoring_batch import MonitoringBatch, hour_of, policy_batch_name
from service.pipeline.columns import Actuals, Decoded, Predictions
from service.ports import Catalog
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

    async def resolve(self, decoded: Decoded) -> Known:
        """Everything that these records refer to; what they may bring along is created."""
        predictions, actuals = decoded.predictions, decoded.actuals
        known = Known()
        refused = {refusal.identity.deployment_id for refusal in decoded.refused}
        await self._load_deployments(known, {*predictions.deployment, *actuals.deployment, *refused})
        if self._auto_create:
            await self._create_deployments(known, predictions)
        await self._learn(known, predictions, actuals)
        await self._load_batches(known, predictions)
        return known

    async def load_batches(self, known: Known, keys: Collection[BatchKey]) -> None:
        """Add these batches, as far as they exist, to what is known."""
        known.batches.update((key, self._batches[key]) for key in keys if key in self._batches)
        missing = [key for key in keys if key not in known.batches]
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
        known.deployments.update((name, self._deployments[name]) for name in wanted if name in self._deployments)
        missing = [name for name in wanted if name and name not in known.deployments and is_object_id(name)]
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
            first = next((value for value in values if value is not None and value != {}), None)
            if first is None:
                continue
            target_type, classes = _type_of(first)
            model = next(
                (model for i in positions if (model := predictions.model[i]) and is_object_id(model)), "default"
            )
            await self._catalog.create_deployment(name, target_type, classes, model)
            created.append(name)
        await self._load_deployments(known, created)

    async def _learn(self, known: Known, predictions: Predictions, actuals: Actuals) -> None:
        """Models that events name for the first time, and classes where the deployment learns them."""
        models: dict[str, dict[str, None]] = {}
        for name, model in zip(predictions.deployment, predictions.model, strict=True):
            deployment = known.deployments.get(name)
            if model is not None and deployment is not None and model not in deployment.models and is_object_id(model):
                models.setdefault(name, {})[model] = None
        classes = _new_classes(known, predictions, actuals)
        changed = [name for name in sorted({*models, *classes}) if _has_room(known.deployments[name], name in models)]
        for name in changed:
            await self._catalog.learn(name, models=tuple(models.get(name, ())), classes=tuple(classes.get(name, ())))
        self.forget(changed, ())
        await self._load_deployments(known, changed)

    async def _load_batches(self, known: Known, predictions: Predictions) -> None:
        by_id = {
            (name, batch)
            for name, batch in zip(predictions.deployment, predictions.batch_id, strict=True)
            if batch is not None and name in known.deployments and is_object_id(batch)
        }
        await self.load_batches(known, by_id)
        await self._load_named(known, known.named, "name", _names_given(known, predictions))
        await self._load_named(known, known.scheduled, "policy", _names_by_policy(known, predictions))

    async def _load_named(
        self, known: Known, found: dict[BatchKey, MonitoringBatch], origin: str, names: set[BatchKey]
    ) -> None:
        cached = self._names[origin]
        found.update((name, self._batches[cached[name]]) for name in names if cached.get(name) in self._batches)
        missing = [name for name in names if name not in found]
        if missing:
            for name, batch in (await self._catalog.batches_named(missing, origin)).items():
                key = (batch.deployment_id, batch.id)
                self._batches[key], cached[name], found[name] = batch, key, batch
        known.batches.update(((batch.deployment_id, batch.id), batch) for batch in found.values())


def _has_room(deployment: Deployment, for_models: bool) -> bool:
    return len(deployment.class_index) < MAX_CLASSES or (for_models and len(deployment.models) < MAX_MODELS)


def _new_classes(known: Known, predictions: Predictions, actuals: Actuals) -> dict[str, dict[str, None]]:
    learners = {name for name, found in known.deployments.items() if found.classes_learned}
    seen: dict[str, dict[str, None]] = {}
    if not learners:
        return seen
    for name, positions in predictions.by_deployment().items():
        if name in learners:
            for value in decode_predictions([predictions.prediction[i] for i in positions]):
                _note_new(seen, known.deployments[name], _labels(value))
    for name, actual in zip(actuals.deployment, actuals.value, strict=True):
        if name in learners and actual is not None:
            _note_new(seen, known.deployments[name], [class_label(actual)])
    return seen


def _note_new(seen: dict[str, dict[str, None]], deployment: Deployment, labels: Iterable[str]) -> None:
    for label in labels:
        if label not in deployment.class_index:
            seen.setdefault(deployment.id, {})[label] = None


def _names_given(known: Known, predictions: Predictions) -> set[BatchKey]:
    return {
        (name, batch_name)
        for name, batch_id, batch_name in zip(
            predictions.deployment, predictions.batch_id, predictions.batch_name, strict=True
        )
        if batch_name is not None and batch_id is None and _takes_batches(known, name)
    }


def _names_by_policy(known: Known, predictions: Predictions) -> set[BatchKey]:
    columns = (predictions.deployment, predictions.predicted_at, predictions.batch_id, predictions.batch_name)
    hours = {
        (name, hour_of(at))
        for name, at, batch_id, batch_name in zip(*columns, strict=True)
        if batch_id is None and batch_name is None
    }
    names = set()
    for name, hour in hours:
        if _takes_batches(known, name):
            batch_name = policy_batch_name(known.deployments[name].batch_policy, hour)
            if batch_name is not None:
                names.add((name, batch_name))
    return names


def _takes_batches(known: Known, name: str) -> bool:
    deployment = known.deployments.get(name)
    return deployment is not None and deployment.batch_enabled


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
    return TargetType.BINARY if len(first) == 2 else TargetType.MULTICLASS, sorted(first)
