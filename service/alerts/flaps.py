"""When a change is told: at once, together with others, or not at all. Pure; time comes in as seconds since 1970.

A thing is one kind of state (such as locked or not) of one monitoring batch. Its first change is told at once. While
further ones come, each less than `window` after the one before, they are held and counted:

    changes   L        U  L  U                      quiet: told is "U, 3 changes"
    told      L        .  .  .                      U(3)
              |- window -|
                          |-- window --|

    changes   L        U  L                         quiet, and L is what was told last: nothing
    told      L        .  .

A thing that never comes to rest is told every `longest_hold`. The windows are those of the wall clock at which the
changes come in: what counts is how often somebody is disturbed, and a backlog of yesterday shall not be told blow by
blow.

Words that are in no kind below are told at once, each: nobody knows which of them would sum up which.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from service.wire.notification import Notification, Source

KINDS: Final[Mapping[str, str]] = {"CREATED": "life", "DELETED": "life", "LOCKED": "lock", "UNLOCKED": "lock"}
"""The kind of state that an event changes. Its word is the new state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlapSpec:
    """Both in seconds."""

    window: float
    longest_hold: float


class FlapState(msgspec.Struct, frozen=True, kw_only=True):
    """A thing that changed within the window. What is quiet has none."""

    told: str
    """The state that was told last."""
    held: int = 0
    """Changes since then."""
    latest: Notification | None = None
    """The last of them."""
    source: Source
    """The record of the last change, told or held."""
    held_since: float = 0.0
    changed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to tell now, and the state once it is told; no state: the thing is quiet."""

    state: FlapState | None
    tell: Notification | None = None
    settled: int = 0
    """Changes that are never told, since they led back to what was told last."""


def thing_key(notification: Notification) -> bytes | None:
    """Names the thing that changes; None where changes are not held."""
    kind = KINDS.get(notification.event)
    if kind is None:
        return None
    return msgspec.json.encode([notification.deployment_id, notification.batch_id, kind])


def after_change(state: FlapState | None, change: Notification, source: Source, now: float) -> Verdict:
    """The thing changes. Time comes first: ask `after_time` for the state at `now`."""
    if state is None:
        return Verdict(state=FlapState(told=change.event, source=source, changed_at=now), tell=change)
    held = replace(
        state,
        held=state.held + 1,
        latest=change,
        source=source,
        held_since=state.held_since if state.held else now,
        changed_at=now,
    )
    return Verdict(state=held)


def after_time(spec: FlapSpec, state: FlapState, now: float) -> Verdict:
    """Nothing happened until `now`. Also right for a clock that was set back."""
    differs = state.latest is not None and state.latest.event != state.told
    summary = replace(state.latest, changes=state.held) if state.latest is not None and differs else None
    if abs(now - state.changed_at) >= spec.window:
        return Verdict(state=None, tell=summary, settled=0 if differs else state.held)
    if summary is not None and abs(now - state.held_since) >= spec.longest_hold:
        rest = FlapState(told=summary.event, source=state.source, changed_at=state.changed_at)
        return Verdict(state=rest, tell=summary)
    return Verdict(state=state)
