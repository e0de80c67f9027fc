"""What the registry answers with; nothing here knows of a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Record = TypeVar("Record")

PENDING, LOADING, VERIFYING, CANARY = "pending", "loading", "verifying", "canary"
FLIPPING, LIVE, FAILED, ROLLED_BACK = "flipping", "live", "failed", "rolled_back"
PREVIOUS = "previous"

_GIVEN_UP = frozenset({FAILED, ROLLED_BACK})
TRANSITIONS: Mapping[str, frozenset[str]] = {
    PENDING: frozenset({LOADING}) | _GIVEN_UP,
    LOADING: frozenset({VERIFYING}) | _GIVEN_UP,
    VERIFYING: frozenset({CANARY, FLIPPING}) | _GIVEN_UP,
    CANARY: frozenset({FLIPPING}) | _GIVEN_UP,
    FLIPPING: frozenset({LIVE}) | _GIVEN_UP,
    LIVE: frozenset(),
    FAILED: frozenset(),
    ROLLED_BACK: frozenset(),
}
"""Which state a rollout may go to from which."""

ENDED = frozenset(state for state, following in TRANSITIONS.items() if not following)
ALIASES = (LIVE, CANARY, PREVIOUS)


@dataclass(frozen=True)
class Page(Generic[Record]):
    """Part of a list.

    Attributes:
        items: In order.
        next_token: Where to go on; "" at the end.
    """

    items: tuple[Record, ...]
    next_token: str = ""


@dataclass(frozen=True)
class KnownArtifact:
    """An artifact that was registered.

    Attributes:
        version: Its version.
        kind: Kind of node it is for.
        type: Its type in the catalog.
        config_hash: Hash of its config.
        registered_at: Seconds since 1970.
        annotations: What is said of it, by name.
        live_in: Where it is live: ("next-gpt:think", …).
    """

    version: str
    kind: str
    type: str
    config_hash: str
    registered_at: float
    annotations: Mapping[str, Any] = field(default_factory=dict)
    live_in: tuple[str, ...] = ()


@dataclass(frozen=True)
class VersionSet:
    """Which version every slot of a system runs.

    Attributes:
        generation: Its number; a later set of the same system has a higher one, used or not.
        slots: Slot to version.
    """

    generation: int
    slots: Mapping[str, str]


@dataclass(frozen=True)
class KnownSystem:
    """A system that was applied.

    Attributes:
        name: Its name.
        system_yaml: Its file, as it was applied.
        profile_yaml: Its profile's file; "" for the cluster's default.
        sets: Alias to version set: "live", "canary", "previous", those there are.
        rollout: The rollout under way; "" when there is none.
    """

    name: str
    system_yaml: str
    profile_yaml: str
    sets: Mapping[str, VersionSet]
    rollout: str = ""


@dataclass(frozen=True)
class Rollout:
    """A change of versions on its way, or done.

    Attributes:
        id: Its id.
        system: System it changes.
        changes: Slot to new version; "" empties a slot.
        before: Set it starts from.
        after: Set it leads to.
        state: One of ``TRANSITIONS``.
        why: Why it is in that state; "" when nothing has to be said.
        undoes: Whether it goes back to the previous set.
        canary: Share of sessions that get it first; None for all at once.
        gate: What decides about promotion; None for nothing.
        scores: What was measured of it, by name.
        details: What whoever runs it keeps with it, to go on after a restart.
        key: Idempotency key; "" for none.
        began_at: Seconds since 1970.
        updated_at: Seconds since 1970.
    """

    id: str
    system: str
    changes: Mapping[str, str]
    before: VersionSet
    after: VersionSet
    state: str
    why: str = ""
    undoes: bool = False
    canary: float | None = None
    gate: Mapping[str, Any] | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    began_at: float = 0.0
    updated_at: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether nothing comes after its state."""
        return self.state in ENDED


@dataclass(frozen=True)
class Change:
    """A line of a system's history.

    Attributes:
        number: 1, 2, 3, …: without gaps within a system.
        at: Seconds since 1970.
        what: "established", "adopted", "applied", "deleted", or the state that a rollout went to.
        rollout: Id of that rollout; "" when it was none.
        live: Generation that is live after it; 0 for none.
        why: As it was given.
    """

    number: int
    at: float
    what: str
    rollout: str
    live: int
    why: str = ""
