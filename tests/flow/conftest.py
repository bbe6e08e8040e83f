"""Worlds for stories. Whatever a story tells, what must always hold is looked at when it ends."""

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from service.domain.deployment import Deployment
from tests.builders import deployment
from tests.flow.invariants import check
from tests.flow.world import FlowWorld


class Opened(Protocol):
    def __call__(self, *deployments: Deployment, **settings: Any) -> FlowWorld: ...


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens worlds with these deployments and settings."""
    worlds: list[FlowWorld] = []

    def open_world(*deployments: Deployment, **settings: Any) -> FlowWorld:
        worlds.append(FlowWorld(*deployments, **settings))
        return worlds[-1]

    try:
        yield open_world
        for world in worlds:
            if not world.unchecked:
                check(world)
    finally:
        for world in worlds:
            world.close()


@pytest.fixture
def world(opened: Opened) -> FlowWorld:
    """A world with one binary deployment, `flights`, and one worker."""
    return opened(deployment())
