"""Applying a description: what is written, what a stored fact forbids, and what happens when somebody is quicker."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.domain.deployment import ActualOrder, BatchPolicy, LatePolicy, TargetType
from service.domain.errors import Conflict, NotFound
from service.domain.stats.histogram import CategoricalBins
from service.usecases.baselines import Baseline
from service.usecases.deployment_apply import apply
from service.usecases.deployment_description import InvalidDescription, parse_description
from service.usecases.deployment_settings import TargetDriftSettings
from service.usecases.deployments import (
    ATTEMPTS,
    Applied,
    DeploymentSettings,
    DeploymentSummary,
    Feature,
    StoredDeployment,
    VersionMoved,
    describe,
    show,
)
from service.usecases.health_settings import HealthSettings, ServiceLimits

AT = datetime(2026, 1, 1, tzinfo=UTC)
BINARY: dict[str, Any] = {
    "id": "flights",
    "label": "Flights",
    "targetType": "Binary",
    "classNames": ["late", "on_time"],
    "model": {"id": "m1", "name": "First"},
    "features": [{"name": "origin", "type": "categorical"}],
    "join": {"window": "P1D", "latePolicy": "record", "actualOrder": "arrival"},
    "batchMonitoring": {"enabled": True, "policy": "hourly"},
}


class KeptDeployments:
    """The port in a dictionary. `moves` changes of somebody else come in between first."""

    def __init__(self, moves: int = 0) -> None:
        self.kept: dict[str, StoredDeployment] = {}
        self.moves = moves

    async def find(self, deployment_id: str) -> StoredDeployment | None:
        return self.kept.get(deployment_id)

    async def save(self, settings: DeploymentSettings, baseline: Baseline | None, expected_version: int | None) -> int:
        if self.moves:
            self.moves -= 1
            raise VersionMoved
        known = self.kept.get(settings.id)
        assert (known.version if known else None) == expected_version
        baselines = {(one.model_id, one.kind): one for one in known.baselines} if known else {}
        if baseline:
            baselines[baseline.model_id, baseline.kind] = baseline
        self.kept[settings.id] = StoredDeployment(
            settings=settings,
            version=known.version + 1 if known else 1,
            created_at=AT,
            is_deleted=False,
            models={**(known.models if known else {}), settings.model_id: settings.model_name},
            thresholds={
                **(known.thresholds if known else {}),
                **({settings.model_id: own} if (own := settings.model_threshold) is not None else {}),
            },
            baselines=list(baselines.values()),
        )
        return self.kept[settings.id].version

    async def save_settings(
        self, settings: DeploymentSettings, expected_version: int, *, moves_association: bool
    ) -> int:
        return await self.save(settings, None, expected_version)

    async def delete(self, deployment_id: str) -> bool:
        raise AssertionError("nothing is deleted here")

    async def all(self) -> list[DeploymentSummary]:
        return []


async def applied(deployments: KeptDeployments, directory: Path = Path(), **changes: Any) -> Applied:
    description = parse_description(yaml.safe_dump(BINARY | changes))
    return await apply(deployments, description, directory)


async def test_registers_everything() -> None:
    deployments = KeptDeployments()

    assert await applied(deployments) == Applied(deployment_id="flights", version=1, created=True)

    settings = deployments.kept["flights"].settings
    assert (settings.target_type, settings.class_names) == (TargetType.BINARY, ("late", "on_time"))
    assert (settings.positive_class, settings.threshold) == ("late", 0.5)
    assert (settings.join.late_policy, settings.join.actual_order) == (LatePolicy.RECORD, ActualOrder.ARRIVAL)
    assert (settings.batch_enabled, settings.batch_policy) == (True, BatchPolicy.HOURLY)
    assert (settings.model_id, settings.model_name) == ("m1", "First")


async def test_a_second_time_changes_it() -> None:
    deployments = KeptDeployments()
    await applied(deployments)

    assert await applied(deployments, label="New") == Applied(deployment_id="flights", version=2, created=False)
    assert deployments.kept["flights"].settings.label == "New"


async def test_the_target_type_stays() -> None:
    deployments = KeptDeployments()
    await applied(deployments)
    with pytest.raises(InvalidDescription, match="targetType: is Binary and can not be changed"):
        await applied(deployments, targetType="Multiclass")


async def test_classes_are_only_appended() -> None:
    deployments = KeptDeployments()
    await applied(deployments, targetType="Multiclass", classNames=["b", "a"])

    await applied(deployments, targetType="Multiclass", classNames=["a", "c", "b"])
    assert deployments.kept["flights"].settings.class_names == ("b", "a", "c")

    with pytest.raises(InvalidDescription, match="classNames: must still hold c"):
        await applied(deployments, targetType="Multiclass", classNames=["a", "b"])


async def test_the_other_order_of_two_classes_moves_no_position() -> None:
    deployments = KeptDeployments()
    await applied(deployments)
    await applied(deployments, classNames=["on_time", "late"])

    settings = deployments.kept["flights"].settings
    assert (settings.class_names, settings.positive_class) == (("late", "on_time"), "late")


@pytest.mark.parametrize("change", [{"positiveClass": "on_time"}, {"threshold": 0.4}])
async def test_how_a_pair_is_judged_stays(change: dict[str, Any]) -> None:
    deployments = KeptDeployments()
    await applied(deployments)
    with pytest.raises(InvalidDescription, match=f"{next(iter(change))}: is .* and can not be changed"):
        await applied(deployments, **change)


async def test_each_model_keeps_the_threshold_it_began_with() -> None:
    deployments = KeptDeployments()
    await applied(deployments, threshold=0.3)

    async def threshold_of(model: str, **changes: Any) -> float:
        await applied(deployments, model={"id": model}, **changes)
        return deployments.kept["flights"].settings.effective_threshold

    assert [await threshold_of("m2", threshold=0.4), await threshold_of("m3")] == [0.4, 0.4]
    assert [await threshold_of("m1"), await threshold_of("m2", threshold=0.4)] == [0.3, 0.4]
    for model, wrong in (("m1", 0.4), ("m2", 0.3), ("m3", 0.5)):
        with pytest.raises(InvalidDescription, match="threshold: is .* and can not be changed"):
            await threshold_of(model, threshold=wrong)


async def test_there_are_a_hundred_models_at_most() -> None:
    deployments = KeptDeployments()
    await applied(deployments)
    stored = deployments.kept["flights"]
    deployments.kept["flights"] = replace(stored, models={**stored.models, **{f"x{i}": "x" for i in range(99)}})
    with pytest.raises(InvalidDescription, match=r"model\.id: is new"):
        await applied(deployments, model={"id": "one-more"})
    await applied(deployments, model={"id": "x5"})


async def test_what_a_description_does_not_know_stays() -> None:
    deployments = KeptDeployments()
    await applied(deployments)
    stored = deployments.kept["flights"]
    monitoring = replace(
        stored.settings.monitoring, target_drift=TargetDriftSettings(enabled=True), kept={"a": {"b": 1}}
    )
    settings = replace(
        stored.settings, monitoring=monitoring, health=HealthSettings(service=ServiceLimits(batch_count=7)),
        accuracy_aggregation=True, organisation="elsewhere",
    )  # fmt: skip
    deployments.kept["flights"] = replace(stored, settings=settings)

    await applied(deployments, label="New", features=[{"name": "t", "type": "text", "impact": 0.5}])

    assert deployments.kept["flights"].settings == replace(
        settings, label="New", features=(Feature(name="t", type="text", impact=0.5),)
    )


async def test_an_id_that_was_deleted_is_not_used_again() -> None:
    deployments = KeptDeployments()
    await applied(deployments)
    deployments.kept["flights"] = replace(deployments.kept["flights"], is_deleted=True)
    with pytest.raises(Conflict, match="was deleted"):
        await applied(deployments)
    with pytest.raises(NotFound):
        await show(deployments, "flights")


async def test_computes_again_when_somebody_was_quicker() -> None:
    assert (await applied(KeptDeployments(moves=ATTEMPTS - 1))).version == 1
    with pytest.raises(Conflict, match="keeps changing"):
        await applied(KeptDeployments(moves=ATTEMPTS))


async def test_the_bins_of_a_model_are_those_of_its_first_baseline(tmp_path: Path) -> None:
    deployments = KeptDeployments()
    (tmp_path / "one.csv").write_text("origin\nEWR\n")
    (tmp_path / "two.csv").write_text("origin\nJFK\nEWR\n")
    await applied(deployments, tmp_path, baseline={"file": "one.csv", "kind": "holdout"})
    await applied(deployments, tmp_path, baseline={"file": "two.csv"})

    holdout, training = deployments.kept["flights"].baselines
    bins = (CategoricalBins(name="origin", first_slot=0, values=("EWR",)),)
    assert holdout.counted.layout.features == training.counted.layout.features == bins
    assert (holdout.counted.counts, training.counted.counts) == ((1, 0, 0), (1, 1, 0))


async def test_another_model_begins_anew(tmp_path: Path) -> None:
    deployments = KeptDeployments()
    (tmp_path / "one.csv").write_text("origin\nEWR\n")
    (tmp_path / "two.csv").write_text("origin\nJFK\n")
    await applied(deployments, tmp_path, baseline={"file": "one.csv"})
    await applied(deployments, tmp_path, baseline={"file": "two.csv"}, model={"id": "m2"})

    assert deployments.kept["flights"].layout_of("m2").features == (
        CategoricalBins(name="origin", first_slot=0, values=("JFK",)),
    )


async def test_nothing_is_written_when_the_baseline_is_wrong(tmp_path: Path) -> None:
    deployments = KeptDeployments()
    with pytest.raises(InvalidDescription, match=r"baseline\.file"):
        await applied(deployments, tmp_path, baseline={"file": "missing.csv"})
    assert deployments.kept == {}


async def test_describe_is_the_way_back() -> None:
    deployments = KeptDeployments()
    await applied(deployments)

    shown = describe(await show(deployments, "flights"))

    again = parse_description(yaml.safe_dump({name: _plain(shown[name]) for name in BINARY}))
    assert again == parse_description(yaml.safe_dump(BINARY))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return str(value) if isinstance(value, str) else value
