"""Whether a deployment that a path names is there for whoever asks, and open to their changes."""

from typing import Annotated

from fastapi import Depends, Path

from service.api.core.authentication import Caller
from service.api.core.deps import Deps
from service.usecases.access import Principal, require_visible


async def _visible(
    caller: Caller, api: Deps, deployment_id: Annotated[str, Path(alias="deploymentId", description="Deployment ID.")]
) -> str:
    await require_visible(api.access, caller, deployment_id)
    return deployment_id


Visible = Annotated[str, Depends(_visible)]
"""ID of a deployment that may be looked at."""


async def _writable(deployment_id: Visible, caller: Caller) -> str:
    caller.require_write()
    return deployment_id


Writable = Annotated[str, Depends(_writable)]
"""ID of a deployment that may be changed, and be sent rows."""


async def _removable(deployment_id: Visible, caller: Caller) -> str:
    caller.require_admin()
    return deployment_id


Removable = Annotated[str, Depends(_removable)]
"""ID of a deployment that may be deleted."""


async def _writer(caller: Caller) -> Principal:
    caller.require_organisation()
    return caller


Writer = Annotated[Principal, Depends(_writer)]
"""Whoever may make what belongs to the organisation as a whole."""
