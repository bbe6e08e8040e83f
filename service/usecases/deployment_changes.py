"""Changing a deployment that is there: its label and features, its settings, its current model; and deleting it.

A change is a function of what is stored: it is computed again where somebody else was quicker.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from service.domain.deployment import MAX_MODELS, TargetType
from service.domain.errors import Conflict, Invalid, NotFound
from service.usecases.deployment_description import problems_between_fields
from service.usecases.deployment_settings import (
    MonitoringSettings,
    StatusRetention,
    retention_problems,
    setting_problems,
)
from service.usecases.deployments import (
    ATTEMPTS,
    FACTS,
    Associated,
    BeingChanged,
    Deployments,
    DeploymentSettings,
    StoredDeployment,
    VersionMoved,
    moving,
    revise,
    show,
)
from service.usecases.health_settings import HealthSettings, health_problems
from service.usecases.object_ids import new_object_id
from service.usecases.registration import described


@dataclass(frozen=True, slots=True, kw_only=True)
class NextModel:
    """A model that is to be the current one. Without an ID it is new; without a threshold it takes over that of the
    model before it, or, known already, keeps its own.
    """

    id: str | None
    name: str
    threshold: float | None
    reason: str | None


async def update(
    deployments: Deployments,
    deployment_id: str,
    change: Callable[[DeploymentSettings], DeploymentSettings],
    given: Collection[str],
) -> None:
    """Change label, description, features and the flag of aggregation; and, once each, what events did not tell.

    `given` are the fields that somebody has sent, by their names in a description: those that can not be changed must
    be what they are. Raises `NotFound`, `Conflict`, or `Invalid` with everything that is wrong.
    """

    def revised(stored: StoredDeployment) -> DeploymentSettings:
        old = stored.settings
        new = change(old)
        problems = [*_fixed_problems(old, new, given), *_fact_problems(old, new, given)]
        if problems:
            raise Invalid("\n".join(problems))
        return _with_facts(old, new, given)

    await revise(deployments, deployment_id, revised)


async def update_settings(
    deployments: Deployments,
    retention: StatusRetention,
    deployment_id: str,
    change: Callable[[MonitoringSettings], MonitoringSettings],
) -> None:
    """When this has returned, no row is counted under the settings of before.

    Raises `NotFound`, `Invalid`, or `Conflict`.
    """
    for _ in range(ATTEMPTS):
        stored = await show(deployments, deployment_id)
        old = stored.settings.monitoring
        new = change(old)
        problems = [*setting_problems(new, old), *await retention_problems(new.join, retention, old.join)]
        if problems:
            raise Invalid("\n".join(problems))
        moves = new.association.columns != old.association.columns
        settings = replace(stored.settings, monitoring=new)
        try:
            await deployments.save_settings(settings, stored.version, moves_association=moves)
        except VersionMoved:
            continue
        except BeingChanged:
            raise Conflict("another change of these settings is being written; try again") from None
        except Associated:
            raise Conflict("the association ID can not move: predictions have come with one") from None
        return
    raise moving(deployment_id)


async def update_health(
    deployments: Deployments, deployment_id: str, change: Callable[[HealthSettings], HealthSettings]
) -> DeploymentSettings:
    """Raises `NotFound`, `Conflict`, or `Invalid`."""

    def revised(stored: StoredDeployment) -> DeploymentSettings:
        new = change(stored.settings.health)
        problems = list(health_problems(new, stored.settings.target_type))
        if problems:
            raise Invalid("\n".join(problems))
        return replace(stored.settings, health=new)

    return await revise(deployments, deployment_id, revised)


async def replace_model(deployments: Deployments, deployment_id: str, model: NextModel) -> None:
    """When this has returned, rows that name no model belong to it; earlier ones keep theirs.

    Raises `NotFound`, `Conflict`, or `Invalid`.
    """
    model_id = model.id or new_object_id()

    def revised(stored: StoredDeployment) -> DeploymentSettings:
        return replace(
            stored.settings,
            model_id=model_id,
            model_name=model.name,
            model_threshold=_own_threshold(stored, model_id, model.threshold),
            model_reason=model.reason,
        )

    await revise(deployments, deployment_id, revised)


async def delete(deployments: Deployments, deployment_id: str) -> None:
    """Raises `NotFound`."""
    if not await deployments.delete(deployment_id):
        raise NotFound(f"there is no deployment {deployment_id!r}")


def _own_threshold(stored: StoredDeployment, model_id: str, told: float | None) -> float | None:
    """None: that of the deployment. A model that has counted keeps that by which it did."""
    settings = stored.settings
    if told is not None and settings.target_type is not TargetType.BINARY:
        raise Invalid("threshold: is for targetType Binary only")
    if model_id in stored.models:
        own = stored.thresholds.get(model_id)
        known = settings.threshold if own is None else own
        if told not in (None, known):
            raise Invalid(f"threshold: is {known:g} for this model and can not be changed")
        return own
    if len(stored.models) >= MAX_MODELS:
        raise Invalid(f"id: is new, and the deployment has {MAX_MODELS} models already")
    return settings.model_threshold if told is None else told


def _fixed_problems(old: DeploymentSettings, new: DeploymentSettings, given: Collection[str]) -> Iterator[str]:
    before, after = old.monitoring, new.monitoring
    pairs = {
        "id": (old.id, new.id),
        "targetType": (old.target_type, new.target_type),
        "model": ((old.model_id, old.model_name), (new.model_id, new.model_name)),
        "associationIdColumns": (before.association.columns, after.association.columns),
        "join": (before.join, after.join),
        "batchMonitoring": (before.batches, after.batches),
        "settings": (before, after),
    }
    for name, (was, would_be) in pairs.items():
        if name in given and was != would_be:
            yield f"{name}: can not be changed here"
    for name, is_changed in _changed_facts(old, new).items():
        if is_changed and not old.is_open(name):
            yield f"{name}: is told already and can not be changed"
    if new.effective_threshold != old.effective_threshold and old.model_threshold is not None:
        yield f"threshold: is {old.effective_threshold:g} for the current model and can not be changed"


def _changed_facts(old: DeploymentSettings, new: DeploymentSettings) -> dict[str, bool]:
    return dict(
        zip(
            FACTS,
            (
                new.target_name != old.target_name,
                set(new.class_names) != set(old.class_names),
                new.positive_class != old.positive_class,
                new.effective_threshold != old.effective_threshold,
            ),
            strict=True,
        )
    )


def _fact_problems(old: DeploymentSettings, new: DeploymentSettings, given: Collection[str]) -> Iterator[str]:
    """Rules between fields, as far as those that were sent are concerned."""
    is_binary = new.target_type is TargetType.BINARY
    fields = described(
        target_type=new.target_type,
        class_names=new.class_names,
        positive_class=new.positive_class,
        threshold=new.effective_threshold if is_binary or "threshold" in given else None,
        features=new.features,
    )
    sent = {*given, "classNames"} if "positiveClass" in given else {*given}
    yield from (line for line in problems_between_fields(fields) if line.partition(":")[0] in sent)
    lost = [name for name in old.class_names if name not in new.class_names]
    if lost and old.is_open("classNames"):
        yield f"classNames: must hold {', '.join(map(repr, lost))}, since rows have come with them"
    if "targetName" in given and new.target_name is None and old.target_name is not None:
        yield "targetName: can not be taken away"


def _with_facts(old: DeploymentSettings, new: DeploymentSettings, given: Collection[str]) -> DeploymentSettings:
    """Classes keep their places; what was told is not asked for again."""
    added = tuple(name for name in new.class_names if name not in old.class_names)
    told = frozenset(name for name in FACTS if name in given and old.is_open(name))
    return replace(
        new,
        class_names=(*old.class_names, *added),
        classes_learned=old.classes_learned and "classNames" not in told,
        told=old.told | told,
    )
