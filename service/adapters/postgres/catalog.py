"""What the pipeline knows of deployments, models and monitoring batches, and how it adds new ones."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from service.adapters.postgres.batch_changes import open_batch
from service.adapters.postgres.layouts import longest_layouts
from service.adapters.postgres.locks import batch_name_lock, deployment_lock, lock_exclusive
from service.adapters.postgres.pool import translating
from service.adapters.postgres.queries import statement
from service.domain.deployment import (
    MAX_CLASSES,
    MAX_MODELS,
    ActualOrder,
    BatchPolicy,
    Deployment,
    JoinSpec,
    LatePolicy,
    TargetType,
)
from service.domain.monitoring_batch import MonitoringBatch
from service.usecases.object_ids import new_object_id

_DEPLOYMENTS: Final = statement("catalog_deployments")
_BATCHES: Final = statement("catalog_batches")
_BATCHES_NAMED: Final = statement("catalog_batches_named")
_CREATE: Final = statement("deployment_from_events")
_KNOWN: Final = statement("deployment_known")
_LEARN: Final = statement("deployment_learns")
_ADD_MODELS: Final = statement("models_add")

Pair = tuple[str, str]


class PostgresCatalog:
    """`service.ports.Catalog` on Postgres."""

    def __init__(self, pool: asyncpg.Pool, new_id: Callable[[], str] = new_object_id) -> None:
        self._pool = pool
        self._new_id = new_id

    async def deployments(self, ids: Collection[str]) -> dict[str, Deployment]:
        with translating():
            rows = await self._pool.fetch(_DEPLOYMENTS, list(ids))
        return {row["id"]: deployment_of(row) for row in rows}

    async def batches(self, ids: Collection[Pair]) -> dict[Pair, MonitoringBatch]:
        with translating():
            rows = await self._pool.fetch(_BATCHES, *_columns(ids))
        return {(row["deployment_id"], row["id"]): _batch(row) for row in rows}

    async def batches_named(self, names: Collection[Pair], origin: str) -> dict[Pair, MonitoringBatch]:
        """Reads first: nearly always they are all there."""
        with translating():
            async with self._pool.acquire() as connection:
                found = await _named(connection, names)
                missing = sorted(set(names) - found.keys())
                if missing:
                    async with connection.transaction():
                        found |= await self._open_once(connection, missing, origin)
        return found

    async def create_deployment(
        self, deployment_id: str, target_type: TargetType, classes: Sequence[str], model_id: str
    ) -> None:
        positive = max(classes) if target_type is TargetType.BINARY else None
        learns = target_type is TargetType.MULTICLASS
        with translating():
            async with self._pool.acquire() as connection, connection.transaction():
                created = await connection.fetchval(
                    _CREATE, deployment_id, target_type, list(classes), learns, positive, model_id
                )
                if created is not None:
                    await connection.execute(_ADD_MODELS, deployment_id, [model_id])

    async def learn(self, deployment_id: str, *, models: Sequence[str] = (), classes: Sequence[str] = ()) -> None:
        with translating():
            async with self._pool.acquire() as connection:
                if not any(_unknown(await connection.fetchrow(_KNOWN, deployment_id), models, classes)):
                    return
                async with connection.transaction():
                    await lock_exclusive(connection, [deployment_lock(deployment_id)])
                    known = await connection.fetchrow(_KNOWN, deployment_id)
                    new_models, new_classes = _unknown(known, models, classes)
                    if new_models or new_classes:
                        await connection.execute(_ADD_MODELS, deployment_id, new_models)
                        await connection.execute(_LEARN, deployment_id, new_classes)

    async def _open_once(
        self, connection: asyncpg.Connection, names: Sequence[Pair], origin: str
    ) -> dict[Pair, MonitoringBatch]:
        """Whoever gets the locks first opens the batches; the others find them."""
        await lock_exclusive(connection, [batch_name_lock(*name) for name in names])
        found = await _named(connection, names)
        for deployment_id, name in names:
            if (deployment_id, name) not in found:
                row = await open_batch(connection, deployment_id, self._new_id(), name, origin=origin)
                found[deployment_id, name] = _batch(row)
        return found


async def _named(connection: asyncpg.Connection, names: Iterable[Pair]) -> dict[Pair, MonitoringBatch]:
    rows = await connection.fetch(_BATCHES_NAMED, *_columns(names))
    return {(row["deployment_id"], row["name"]): _batch(row) for row in rows}


def _unknown(
    known: Mapping[str, Any] | None, models: Sequence[str], classes: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The models and classes that are new and fit in; none for a deployment that does not exist."""
    if known is None:
        return [], []
    there = known["models"] or []
    new_models = [model for model in dict.fromkeys(models) if model not in there]
    new_classes = [label for label in dict.fromkeys(classes) if label not in known["class_names"]]
    room = MAX_CLASSES - len(known["class_names"]) if known["classes_learned"] else 0
    return new_models[: max(0, MAX_MODELS - len(there))], new_classes[: max(0, room)]


def deployment_of(row: Mapping[str, Any]) -> Deployment:
    return Deployment(
        id=row["id"],
        version=row["version"],
        target_type=TargetType(row["target_type"]) if row["target_type"] else None,
        class_index={label: index for index, label in enumerate(row["class_names"])},
        classes_learned=row["classes_learned"],
        positive_class=row["positive_class"],
        threshold=row["threshold"],
        current_model=row["current_model_id"],
        models=row["models"] or {},
        association_required=row["association_required"],
        join=join_spec(row),
        batch_enabled=row["batch_enabled"],
        batch_policy=BatchPolicy(row["batch_policy"]),
        layouts=longest_layouts(row["layouts"] or ()),
        last_deletion=row["last_deletion"],
    )


def join_spec(row: Mapping[str, Any]) -> JoinSpec:
    """The join of a row of `deployments`."""
    return JoinSpec(
        window=row["join_window"],
        grace=row["join_grace"],
        allowed_lateness=row["allowed_lateness"],
        early_ttl=row["early_ttl"],
        idle_timeout=row["idle_timeout"],
        max_future_skew=row["max_future_skew"],
        late_policy=LatePolicy(row["late_policy"]),
        actual_order=ActualOrder(row["actual_order"]),
    )


def _batch(row: Mapping[str, Any]) -> MonitoringBatch:
    return MonitoringBatch(
        deployment_id=row["deployment_id"],
        id=row["id"],
        version=row["version"],
        name=row["name"],
        is_locked=row["is_locked"],
        is_deleted=row["is_deleted"],
    )


def _columns(pairs: Iterable[Pair]) -> tuple[list[str], list[str]]:
    ordered = list(pairs)
    return [first for first, _ in ordered], [second for _, second in ordered]
