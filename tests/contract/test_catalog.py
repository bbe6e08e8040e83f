"""`Catalog`: what is new is made once, whoever sees it first, and everybody gets the same."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Protocol

import asyncpg
import pytest

from service.adapters.memory import MemoryCatalog
from service.adapters.postgres.catalog import PostgresCatalog
from service.adapters.postgres.migrate import migrate
from service.adapters.postgres.monitoring_batches import PostgresMonitoringBatches
from service.adapters.postgres.pool import open_pool
from service.domain.deployment import MAX_CLASSES, MAX_MODELS, TargetType
from service.ports import Catalog
from service.usecases.monitoring_batches import BatchChange


class World(Protocol):
    """A catalog, and the other hand that changes what it holds."""

    catalog: Catalog

    async def lock(self, deployment_id: str, batch_id: str) -> None: ...

    async def delete_batch(self, deployment_id: str, batch_id: str) -> None: ...

    async def delete(self, deployment_id: str) -> None: ...

    async def outbox_keys(self) -> list[bytes]:
        """Keys of the events that wait, oldest first."""


class MemoryWorld:
    def __init__(self) -> None:
        self._memory = MemoryCatalog()
        self.catalog: Catalog = self._memory

    async def lock(self, deployment_id: str, batch_id: str) -> None:
        self._memory.lock(deployment_id, batch_id)

    async def delete_batch(self, deployment_id: str, batch_id: str) -> None:
        self._memory.delete_batch(deployment_id, batch_id)

    async def delete(self, deployment_id: str) -> None:
        self._memory.delete(deployment_id)

    async def outbox_keys(self) -> list[bytes]:
        return [key for key, _ in self._memory.outbox.values()]


class PostgresWorld:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._batches = PostgresMonitoringBatches(pool)
        self.catalog: Catalog = PostgresCatalog(pool)

    async def lock(self, deployment_id: str, batch_id: str) -> None:
        assert (
            await self._batches.change(deployment_id, batch_id, BatchChange(is_locked=True), even_where_off=True)
        ).is_locked

    async def delete_batch(self, deployment_id: str, batch_id: str) -> None:
        assert await self._batches.delete(deployment_id, batch_id)

    async def delete(self, deployment_id: str) -> None:
        await self._pool.execute("UPDATE deployments SET deleted_at = now() WHERE id = $1", deployment_id)

    async def outbox_keys(self) -> list[bytes]:
        return [row["key"] for row in await self._pool.fetch("SELECT key FROM outbox ORDER BY id")]


@pytest.fixture
async def postgres_world(database: str) -> AsyncIterator[World]:
    await migrate(database)
    async with open_pool(database, size=8, application_name="test") as pool:
        yield PostgresWorld(pool)


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return MemoryWorld()
    on_postgres: World = request.getfixturevalue("postgres_world")
    return on_postgres


@pytest.fixture
async def catalog(world: World) -> Catalog:
    await world.catalog.create_deployment("d", TargetType.BINARY, ["late", "on_time"], "m1")
    return world.catalog


async def test_what_is_not_there_is_left_out(catalog: Catalog) -> None:
    assert (await catalog.deployments(["d", "other"])).keys() == {"d"}
    assert await catalog.deployments([]) == {}
    assert await catalog.batches([("d", "b1")]) == {}
    assert await catalog.batches([]) == {}
    assert await catalog.batches_named([], "name") == {}


async def test_a_deployment_that_events_brought(catalog: Catalog) -> None:
    deployment = (await catalog.deployments(["d"]))["d"]

    assert (deployment.version, deployment.target_type, deployment.classes_learned) == (1, TargetType.BINARY, False)
    assert deployment.class_index == {"late": 0, "on_time": 1}
    assert deployment.positive_class == "on_time"
    assert (deployment.current_model, deployment.models) == ("m1", {"m1": None})


@pytest.mark.parametrize("target_type", [TargetType.REGRESSION, TargetType.MULTICLASS])
async def test_the_other_types(world: World, target_type: TargetType) -> None:
    await world.catalog.create_deployment("d", target_type, [], "m1")
    deployment = (await world.catalog.deployments(["d"]))["d"]
    assert (deployment.target_type, deployment.positive_class) == (target_type, None)
    assert deployment.classes_learned is (target_type is TargetType.MULTICLASS)


async def test_a_deployment_is_made_once(world: World) -> None:
    types = itertools.cycle([TargetType.REGRESSION, TargetType.MULTICLASS])
    await asyncio.gather(*(world.catalog.create_deployment("d", next(types), [], f"m{i}") for i in range(8)))
    deployment = (await world.catalog.deployments(["d"]))["d"]
    assert deployment.version == 1
    assert len(deployment.models) == 1 and deployment.current_model in deployment.models


async def test_a_deleted_deployment_is_gone_and_stays_so(world: World, catalog: Catalog) -> None:
    await world.delete("d")
    await catalog.create_deployment("d", TargetType.REGRESSION, [], "m2")
    assert await catalog.deployments(["d"]) == {}
    await catalog.learn("d", models=["m3"])


async def test_learns_models_and_raises_the_version(catalog: Catalog) -> None:
    await catalog.learn("d", models=["m2", "m3", "m2"])
    deployment = (await catalog.deployments(["d"]))["d"]
    assert deployment.version == 2
    assert deployment.models.keys() == {"m1", "m2", "m3"}

    await catalog.learn("d", models=["m3", "m1"])
    assert (await catalog.deployments(["d"]))["d"].version == 2


async def test_learns_classes_at_the_end(world: World) -> None:
    await world.catalog.create_deployment("d", TargetType.MULTICLASS, ["b"], "m1")
    await world.catalog.learn("d", classes=["c", "b", "a"])
    assert (await world.catalog.deployments(["d"]))["d"].class_index == {"b": 0, "c": 1, "a": 2}


async def test_learns_at_the_same_time_without_losing_any(world: World) -> None:
    await world.catalog.create_deployment("d", TargetType.MULTICLASS, [], "m1")
    await asyncio.gather(
        *(world.catalog.learn("d", models=["m1", f"m{i}"], classes=[f"c{i}", "same"]) for i in range(2, 10))
    )
    deployment = (await world.catalog.deployments(["d"]))["d"]
    assert deployment.models.keys() == {f"m{i}" for i in range(1, 10)}
    assert deployment.class_index.keys() == {"same", *(f"c{i}" for i in range(2, 10))}
    assert sorted(deployment.class_index.values()) == list(range(9))


async def test_learns_up_to_the_limits(world: World) -> None:
    await world.catalog.create_deployment("d", TargetType.MULTICLASS, [], "m0")
    await world.catalog.learn("d", models=[f"m{i}" for i in range(150)], classes=[f"c{i}" for i in range(1_500)])
    await world.catalog.learn("d", models=["one more"], classes=["one more"])
    deployment = (await world.catalog.deployments(["d"]))["d"]
    assert list(deployment.class_index) == [f"c{i}" for i in range(MAX_CLASSES)]
    assert deployment.models.keys() == {f"m{i}" for i in range(MAX_MODELS)}


async def test_a_named_batch_is_opened_and_then_found(world: World, catalog: Catalog) -> None:
    opened = (await catalog.batches_named([("d", "2026-01-01")], "policy"))["d", "2026-01-01"]

    assert (opened.deployment_id, opened.name, opened.version) == ("d", "2026-01-01", 1)
    assert len(opened.id) == 24 and int(opened.id, 16)
    assert opened.refusal is None
    assert await catalog.batches_named([("d", "2026-01-01")], "name") == {("d", "2026-01-01"): opened}
    assert await catalog.batches([("d", opened.id)]) == {("d", opened.id): opened}
    assert await world.outbox_keys() == [f"d/{opened.id}".encode()]


async def test_two_that_see_a_name_at_once_get_one_batch(world: World, catalog: Catalog) -> None:
    names = [("d", f"2026-01-{day:02}") for day in range(1, 32)]
    seen = await asyncio.gather(*(catalog.batches_named(names[i:] + names[:i], "policy") for i in range(8)))

    assert all(one == seen[0] for one in seen)
    assert len({batch.id for batch in seen[0].values()}) == 31
    assert len(await world.outbox_keys()) == 31


async def test_names_are_of_one_deployment(catalog: Catalog) -> None:
    await catalog.create_deployment("e", TargetType.REGRESSION, [], "m1")
    found = await catalog.batches_named([("d", "x"), ("e", "x")], "name")
    assert found["d", "x"].id != found["e", "x"].id


async def test_a_locked_batch_is_still_the_one_of_its_name(world: World, catalog: Catalog) -> None:
    opened = (await catalog.batches_named([("d", "x")], "name"))["d", "x"]
    await world.lock("d", opened.id)
    locked = (await catalog.batches_named([("d", "x")], "name"))["d", "x"]
    assert (locked.id, locked.version, locked.is_locked) == (opened.id, 2, True)


async def test_the_name_of_a_deleted_batch_opens_another(world: World, catalog: Catalog) -> None:
    opened = (await catalog.batches_named([("d", "x")], "name"))["d", "x"]
    await world.delete_batch("d", opened.id)

    assert (await catalog.batches_named([("d", "x")], "name"))["d", "x"].id != opened.id
    deleted = (await catalog.batches([("d", opened.id)]))["d", opened.id]
    assert (deleted.is_deleted, deleted.version) == (True, 2)
    deployment = (await catalog.deployments(["d"]))["d"]
    assert (deployment.version, deployment.last_deletion) == (2, 1)
